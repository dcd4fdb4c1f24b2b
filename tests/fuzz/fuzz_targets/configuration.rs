//! libFuzzer's entry to `mooring_fuzz::configuration`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mooring_fuzz::configuration::check(data));
