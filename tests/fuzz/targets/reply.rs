//! `cargo fuzz run --fuzz-dir tests/fuzz reply`: see `test_oracles::reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_oracles::reply::holds(data));
