//! What keeps the service from starting is one clear line and an exit code; what only is away is waited for.

#[path = "../support/mod.rs"]
mod support;

mod configuration;
mod mongodb;
