//! `tests::fuzz::classic_bpf` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz::classic_bpf(bytes));
