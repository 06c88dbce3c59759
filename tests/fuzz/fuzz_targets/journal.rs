//! See `disks::journal`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::disks::journal(bytes));
