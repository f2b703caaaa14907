//! What this migration has done: kept beside the remap file, so that no step is taken too early.

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
    /// How many there were.
    pub count: u64,
    /// What was checked: exports as they were named, or the old bucket.
    pub of: Vec<String>,
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
            of,
        })
    }
}
