//! `cargo fuzz run --fuzz-dir tests/fuzz reply`: see `properties/reply.rs`.
#![no_main]

#[path = "../properties/reply.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::holds(data));
