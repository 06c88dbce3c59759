//! See `disks::snapshot_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::disks::snapshot_file(bytes));
