//! See `group::wire_request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::group::wire_request(bytes));
