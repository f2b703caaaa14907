//! What `verify` has found: a report that a person can sign.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use crate::report::{ACCEPTED_REJECTED, Report};
use crate::state::{AccountsMoved, Held};

/// What is counted of an entity that differs, or is missing, where a person has said that it may.
pub(crate) const ACCEPTED: &str = "different, as accepted";
pub(crate) const ACCEPTED_MISSING: &str = "missing, as accepted";
pub(crate) const ACCEPTED_GONE: &str = "gone from the last export, as accepted";

/// Paths that are kept of those that were not compared, and that are shown to people.
pub(crate) const NOT_COMPARED_KEPT_MAX: usize = 1_000;
const SHOWN_MAX: usize = 20;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// When it was finished.
    pub at: Timestamp,
    /// By which version of this tool.
    pub version: &'static str,
    /// With which remap file.
    pub remap_sha256: String,
    /// Which exports.
    pub exports: Vec<PathBuf>,
    /// What they were held against.
    #[serde(flatten)]
    pub held: Held,
    /// How accounts were moved the last time; none where they were not.
    pub accounts_moved: Option<AccountsMoved>,
    /// Counts by kind, and what is not as it should be.
    #[serde(flatten)]
    pub report: Report,
    /// Old paths that a person accepts and that have no document.
    #[serde(rename = "accepted_absent")]
    pub absent: BTreeSet<String>,
    /// What has an id and was not compared.
    #[serde(flatten)]
    pub not_compared: NotCompared,
    /// How many exports have fewer entities than they say, but for those that a person accepts.
    pub short_exports: u64,
    /// How many documents each collection has, beside those of the exports.
    pub others: BTreeMap<String, u64>,
}

/// Paths that have an id and a kind that is moved, and were not compared.
#[derive(Debug, Default, Serialize)]
pub struct NotCompared {
    /// How many there are.
    #[serde(rename = "not_compared")]
    pub count: u64,
    /// How many of them are in these exports, and were rejected.
    #[serde(rename = "not_compared_rejected")]
    pub rejected: u64,
    /// The first of those that are in none of these exports.
    #[serde(rename = "not_compared_paths")]
    pub paths: Vec<String>,
}

impl Verification {
    /// Whether there are entities, as many as the exports say, all that have an id are there as the
    /// exports have them, and what they refer to is there too.
    pub fn is_yes(&self) -> bool {
        let Verification { report, .. } = self;
        let is_whole = self.not_compared.count == 0 && self.short_exports == 0;
        report.rejected_in_all == 0 && is_whole && self.equal() > 0
    }

    /// How many are there as they should be, those that a person accepts included.
    pub fn equal(&self) -> u64 {
        self.report.total("equal") + self.accepted()
    }

    /// How many of these a person accepts.
    pub fn accepted(&self) -> u64 {
        let accepted = [ACCEPTED, ACCEPTED_MISSING, ACCEPTED_GONE, ACCEPTED_REJECTED].into_iter();
        accepted.map(|what| self.report.total(what)).sum()
    }

    /// Prints it for people to sign.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "Verification of a migration, {}", self.at)?;
        writeln!(out, "by datastore-migrate {}", self.version)?;
        for export in &self.exports {
            writeln!(out, "export   {}", export.display())?;
        }
        writeln!(out, "database {}", self.held)?;
        writeln!(out, "remap    sha256 {}", self.remap_sha256)?;
        writeln!(out, "mapping  sha256 {}", self.held.mapping_sha256)?;
        match &self.accounts_moved {
            Some(moved) => writeln!(out, "accounts {moved}")?,
            None => writeln!(out, "accounts not run: none was moved with this remap file")?,
        }
        self.print_accepted(out)?;
        writeln!(out)?;
        self.report.print(out)?;
        for (collection, others) in &self.others {
            writeln!(
                out,
                "{collection:<20} {others} documents that are in no export"
            )?;
        }
        self.not_compared.print(out)?;
        writeln!(out)?;
        match self.is_yes() {
            true => writeln!(
                out,
                "YES: {} entities are there, each with the hash that the export gives it{}.",
                self.equal(),
                match self.accepted() {
                    0 => String::new(),
                    accepted => format!(", but for {accepted} that a person has accepted"),
                }
            ),
            false => writeln!(
                out,
                "NO: {} entities are as the exports have them, {} are not, {} were not compared, {} \
                 references lead nowhere, {} parts of exports are short.",
                self.equal(),
                self.report.rejected_in_all - self.report.dangling,
                self.not_compared.count,
                self.report.dangling,
                self.short_exports
            ),
        }
    }
    fn print_accepted(&self, out: &mut impl Write) -> io::Result<()> {
        let accepted = &self.held.accepted;
        for one in accepted.iter().take(SHOWN_MAX) {
            writeln!(out, "accepted {one}")?;
        }
        match accepted.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => writeln!(out, "accepted … and {more} more: --report FILE has them"),
        }
    }
}

impl NotCompared {
    /// Prints it for people.
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let absent = self.count - self.rejected;
        if self.rejected > 0 {
            writeln!(
                out,
                "{} paths have an id and were rejected, as their lines say: correct them, or accept them",
                self.rejected
            )?;
        }
        if absent > 0 {
            writeln!(
                out,
                "{absent} paths have an id and are in none of these exports: name the others too, or \
                 accept what is only above entities and is none"
            )?;
        }
        for path in self.paths.iter().take(SHOWN_MAX) {
            writeln!(out, "  {path}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_yes_only_where_the_export_is_whole() {
        let verification = |short_exports, not_compared| {
            let mut report = Report::default();
            report.count("Dataset", "equal");
            report.count("Dataset", ACCEPTED_MISSING);
            let held = Held {
                hosts: Vec::new(),
                replica_set: None,
                database: String::new(),
                mapping_sha256: String::new(),
                accepted: Vec::new(),
            };
            Verification {
                at: Timestamp::now(),
                version: "1",
                remap_sha256: String::new(),
                exports: Vec::new(),
                held,
                accounts_moved: None,
                absent: BTreeSet::new(),
                report,
                not_compared: NotCompared {
                    count: not_compared,
                    ..NotCompared::default()
                },
                short_exports,
                others: BTreeMap::new(),
            }
        };
        assert!(verification(0, 0).is_yes() && verification(0, 0).equal() == 2);
        assert!(!verification(1, 0).is_yes() && !verification(0, 1).is_yes());
    }
}
