//! `cargo fuzz run --fuzz-dir tests/fuzz export`: see `test_oracles::export`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_oracles::export::holds(data));
