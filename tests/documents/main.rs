//! The documents that say what the code does.

mod contract;
mod dashboard;
mod fresh;
mod metrics;
mod named;
mod rules;
mod runbook;
mod settings;
mod status;
