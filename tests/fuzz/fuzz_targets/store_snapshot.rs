//! See `store::snapshot`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::store::snapshot(bytes));
