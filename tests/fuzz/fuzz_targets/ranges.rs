//! libFuzzer's entry to `mooring_fuzz::ranges`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mooring_fuzz::ranges::check(data));
