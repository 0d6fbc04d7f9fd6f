//! `tests::fuzz::expected_counts` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz::expected_counts(bytes));
