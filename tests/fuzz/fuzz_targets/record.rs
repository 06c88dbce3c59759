//! See `group::record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::group::record(bytes));
