//! libFuzzer's entry to `mooring_fuzz::annotations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mooring_fuzz::annotations::check(data));
