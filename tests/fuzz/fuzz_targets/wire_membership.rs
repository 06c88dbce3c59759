//! See `group::wire_membership`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::group::wire_membership(bytes));
