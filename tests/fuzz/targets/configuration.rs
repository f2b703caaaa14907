//! `cargo fuzz run --fuzz-dir tests/fuzz configuration`: see `test_oracles::configuration`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_oracles::configuration::holds(data));
