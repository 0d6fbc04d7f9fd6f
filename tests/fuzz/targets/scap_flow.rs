//! `tests::fuzz::scap_flow` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz::scap_flow(bytes));
