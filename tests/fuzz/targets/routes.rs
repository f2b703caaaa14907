//! `cargo fuzz run --fuzz-dir tests/fuzz routes`: see `properties/routes.rs`.
#![no_main]

#[path = "../properties/routes.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
