//! libFuzzer's entry to `mooring_fuzz::assignments`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mooring_fuzz::assignments::check(data));
