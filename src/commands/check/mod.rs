//! `check`: whether everything that the service needs is there, found without joining the group and
//! without changing anything.

mod documents;
mod kafka;
mod mapping;
mod mongodb;
mod report;
mod sample;
mod tombstones;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use self::report::Report;
use crate::config::startup::StartupError;
use crate::config::{self, Config};
use crate::record::mapping::Mapping;

/// What is to be checked.
#[derive(Clone, Debug, Default)]
pub struct Checked<'a> {
    /// Only what needs no server.
    pub offline: bool,
    /// How many records are read and decoded.
    pub sample: Option<u32>,
    /// A mapping to compare with the one in use, and to sample with.
    pub mapping: Option<&'a Path>,
}

/// Compares the mapping in use with another one, and prints what that would change.
///
/// # Errors
/// Those of `out`.
pub fn mappings(
    in_use: &Mapping,
    other: &Mapping,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut report = Report::default();
    mapping::check(in_use, Some(other), &mut report);
    report.print(json, out)
}

/// Checks, and prints what was found.
///
/// # Errors
/// [`super::NotHealthy`] where there is a fault; another where a file cannot be read.
pub async fn execute(
    config: &Config,
    checked: &Checked<'_>,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut report = Report::default();
    report.good(
        "environment",
        "every variable is valid, and the files that it names can be read",
    );
    kafka::check_protocol(&config.kafka, &mut report);
    let read = |path: &Path| config::mapping(&path.display().to_string());
    let other = checked.mapping.map(read).transpose();
    let other = other.map_err(StartupError::configuration)?;
    mapping::check(&config.mapping, other.as_ref(), &mut report);
    if !checked.offline {
        let kafka_answers = kafka::check(&config.kafka, &mut report).await;
        mongodb::check(config, kafka_answers, &mut report).await;
        if let Some(records) = checked.sample.filter(|_| kafka_answers) {
            // What another mapping would make of records says nothing of documents.
            let is_in_use = other.is_none();
            let mapping = other.map_or_else(|| Arc::clone(&config.mapping), Arc::new);
            let newest = sample::check(config, mapping, records, &mut report).await;
            if let Some(newest) = newest.filter(|_| is_in_use) {
                documents::check(config, newest, &mut report).await;
            }
        }
    }
    report.print(json, out)
}
