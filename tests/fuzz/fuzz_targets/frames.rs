//! libFuzzer's entry to `mooring_fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mooring_fuzz::frames::check(data));
