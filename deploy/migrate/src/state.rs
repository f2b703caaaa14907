//! What this migration has done: kept beside the remap file, so that no step is taken too early.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What this migration has done.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// The seed of the ids that were made.
    pub seed: Option<String>,
    /// The project that the entities are of.
    pub project: Option<String>,
    /// The SHA-256 of the mapping with which entities were moved.
    pub mapping_sha256: Option<String>,
    /// The SHA-256 of the remap file.
    pub remap_sha256: Option<String>,
    /// The one that it is about to have.
    pub next_sha256: Option<String>,
    /// When all entities were found as they should be.
    pub entities_verified: Option<Verified>,
    /// When all objects were found as they should be.
    pub objects_verified: Option<Verified>,
    /// How accounts were moved the last time.
    pub accounts_moved: Option<AccountsMoved>,
}

/// A run that moved accounts, or that began to and did not come to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccountsMoved {
    /// When it ended, or began.
    pub at: Timestamp,
    /// Into which database.
    pub database: String,
    /// How many became what.
    pub counts: BTreeMap<String, u64>,
    /// Whether all was done, and nothing was rejected.
    pub is_clean: bool,
}

/// What entities were held against. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Where MongoDB is, by what it says of itself.
    pub hosts: Vec<String>,
    /// The name of its replica set.
    pub replica_set: Option<String>,
    /// The database.
    pub database: String,
    /// The SHA-256 of the mapping.
    pub mapping_sha256: String,
    /// What a person had accepted.
    pub accepted: Vec<String>,
}

impl fmt::Display for AccountsMoved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts.iter();
        let counts: Vec<String> = counts
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        let counts = match counts.is_empty() {
            true => "none".to_owned(),
            false => counts.join(", "),
        };
        let how = match self.is_clean {
            true => "clean",
            false => "NOT CLEAN: look at the report of `accounts`",
        };
        write!(f, "{:.0} into {}: {counts}; {how}", self.at, self.database)
    }
}

/// The servers and the database.
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.database, self.hosts.join(","))?;
        match &self.replica_set {
            Some(name) => write!(f, " (replica set {name})"),
            None => Ok(()),
        }
    }
}

/// A check that has said yes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// When.
    pub at: Timestamp,
    /// By which version of this tool.
    pub version: String,
    /// With which remap file.
    pub remap_sha256: String,
    /// How many there were, but for those that a person accepts.
    pub count: u64,
    /// How many entities a person accepts.
    #[serde(default)]
    pub accepted: u64,
    /// Old paths of those of them that have no document in the new place.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub absent: BTreeSet<String>,
    /// What was checked: exports as they were named, or the old bucket.
    pub of: Vec<String>,
    /// What entities were held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

impl State {
    pub(crate) fn load(file: &Path) -> Result<State> {
        match fs::read(file) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is not this tool's: bring it back", file.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// A check that says yes now.
    pub fn verified(&self, count: u64, of: Vec<String>) -> Option<Verified> {
        Some(Verified {
            at: Timestamp::now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            remap_sha256: self.remap_sha256.clone()?,
            count,
            accepted: 0,
            absent: BTreeSet::new(),
            of,
            held: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_accounts_ended_and_where_entities_were_found_is_one_line_each() {
        let moved = |is_clean| AccountsMoved {
            at: "2026-11-30T12:00:00.5Z".parse().unwrap(),
            database: "accounts".to_owned(),
            counts: BTreeMap::from([("inserted".to_owned(), 3)]),
            is_clean,
        };
        let clean = "2026-11-30T12:00:00Z into accounts: 3 inserted; clean";
        assert_eq!(moved(true).to_string(), clean);
        assert!(moved(false).to_string().contains("3 inserted; NOT CLEAN"));
        let held = Held {
            hosts: vec!["a:1".to_owned(), "b:1".to_owned()],
            replica_set: Some("rs0".to_owned()),
            database: "workflows".to_owned(),
            mapping_sha256: String::new(),
            accepted: Vec::new(),
        };
        assert_eq!(held.to_string(), "workflows on a:1,b:1 (replica set rs0)");
    }
}
