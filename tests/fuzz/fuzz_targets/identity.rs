//! See `group::identity`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::group::identity(bytes));
