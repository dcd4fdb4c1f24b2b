//! libFuzzer's entry to `mooring_fuzz::decide`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mooring_fuzz::decide::check(data));
