//! The documents that say what the code does.

mod contract;
mod runbook;
mod settings;
