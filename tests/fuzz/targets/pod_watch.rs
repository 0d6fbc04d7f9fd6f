//! `tests::fuzz::pod_watch` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz::pod_watch(bytes));
