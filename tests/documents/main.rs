//! The documents that say what the code does.

mod contract;
mod fresh;
mod metrics;
mod rules;
mod runbook;
mod settings;
mod status;
