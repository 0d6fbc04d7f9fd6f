//! `tests::fuzz::seccomp_profile` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz::seccomp_profile(bytes));
