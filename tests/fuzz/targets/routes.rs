//! `cargo fuzz run --fuzz-dir tests/fuzz routes`: see `test_oracles::routes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_oracles::routes::holds(data));
