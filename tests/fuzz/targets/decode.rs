//! `cargo fuzz run --fuzz-dir tests/fuzz decode`: see `test_oracles::decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_oracles::decode::holds(data));
