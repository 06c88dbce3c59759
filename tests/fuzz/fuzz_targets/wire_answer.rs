//! See `group::wire_answer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::group::wire_answer(bytes));
