//! See `store::host_name`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::store::host_name(bytes));
