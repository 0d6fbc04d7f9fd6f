//! `tests::fuzz::drift_policy` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz::drift_policy(bytes));
