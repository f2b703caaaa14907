//! `cargo fuzz run --fuzz-dir tests/fuzz configuration`: see `properties/configuration.rs`.
#![no_main]

#[path = "../properties/configuration.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
