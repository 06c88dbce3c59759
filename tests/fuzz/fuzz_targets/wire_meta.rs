//! See `group::wire_meta`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::group::wire_meta(bytes));
