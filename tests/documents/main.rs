//! The documents that say what the code does.

mod contract;
mod dashboard;
mod files;
mod fresh;
mod metrics;
mod named;
mod rules;
mod runbook;
mod scripts;
mod settings;
mod status;
