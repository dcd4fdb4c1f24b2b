//! libFuzzer's entry to `mooring_fuzz::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mooring_fuzz::records::check(data));
