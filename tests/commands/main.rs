//! The commands, beside a running service and after it.

#[path = "../support/mod.rs"]
mod support;

mod dead_letters;
mod offsets;
