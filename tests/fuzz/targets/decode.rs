//! `cargo fuzz run --fuzz-dir tests/fuzz decode`: see `properties/decode.rs`.
#![no_main]

#[path = "../properties/decode.rs"]
mod property;
#[path = "../../support/reference.rs"]
#[allow(dead_code)]
mod reference;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
