//! `tests::fuzz::rule_file` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz::rule_file(bytes));
