//! `verify`: what the exports say beside what MongoDB has.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use bson::RawDocument;
use datastore_export::Place;
use jiff::Timestamp;
use serde::Serialize;
use workflows_sink::config::Config;

use crate::contract::fields;
use crate::database::Connection;
use crate::entities::{Moving, each_accepted};
use crate::id::{Fingerprint, NewId};
use crate::mapping::Mapping;
use crate::remap::Remap;
use crate::report::Report;

/// Documents asked for at a time.
const DOCUMENTS_MAX: usize = 500;

/// Names of fields that a difference lists.
const FIELDS_MAX: usize = 8;

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
    /// Of which database.
    pub database: String,
    /// Counts by kind, and what is not as it should be.
    #[serde(flatten)]
    pub report: Report,
    /// How many documents each collection has, beside those of the exports.
    pub others: BTreeMap<String, i64>,
}

impl Verification {
    /// Whether all entities are there as the exports have them.
    pub fn is_yes(&self) -> bool {
        self.report.rejected_in_all == 0
    }

    /// How many are.
    pub fn equal(&self) -> u64 {
        self.report.total("equal")
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
        writeln!(out, "database {}", self.database)?;
        writeln!(out, "remap    sha256 {}", self.remap_sha256)?;
        writeln!(out)?;
        self.report.print(out)?;
        for (collection, others) in &self.others {
            writeln!(
                out,
                "{collection:<20} {others} documents that are in no export"
            )?;
        }
        writeln!(out)?;
        match self.is_yes() {
            true => writeln!(
                out,
                "YES: {} entities are there, each with the hash that the export gives it.",
                self.equal()
            ),
            false => writeln!(
                out,
                "NO: {} entities are not as the exports have them.",
                self.report.rejected_in_all
            ),
        }
    }
}

/// Compares.
///
/// # Errors
/// Where the remap file is edited, or MongoDB does not answer.
pub fn verify(
    exports: &[PathBuf],
    mapping: &Mapping,
    remap: &Remap,
    config: &Config,
) -> Result<Verification> {
    let connection = Connection::open(&config.mongodb)?;
    let mut report = Report::default();
    let mut waiting: BTreeMap<String, Vec<Expected>> = BTreeMap::new();
    let mut collections: BTreeMap<String, i64> = BTreeMap::new();
    each_accepted(exports, mapping, remap, &mut report, |moving, report| {
        let name = moving.accepted.collection.clone();
        *collections.entry(name.clone()).or_default() += 1;
        let expected = waiting.entry(name.clone()).or_default();
        expected.push(Expected::of(moving)?);
        if expected.len() >= DOCUMENTS_MAX {
            let expected = std::mem::take(expected);
            compare(&connection, &name, expected, report)?;
        }
        Ok(())
    })?;
    for (name, expected) in waiting {
        compare(&connection, &name, expected, &mut report)?;
    }
    let mut others = BTreeMap::new();
    for (name, in_exports) in collections {
        let others_in_it = connection.count(&name)? as i64 - in_exports;
        if others_in_it > 0 {
            others.insert(name, others_in_it);
        }
    }
    Ok(Verification {
        at: Timestamp::now(),
        version: env!("CARGO_PKG_VERSION"),
        remap_sha256: remap.sha256().unwrap_or_default().to_owned(),
        exports: exports.to_owned(),
        database: config.mongodb.database.clone(),
        report,
        others,
    })
}

struct Expected {
    id: NewId,
    kind: String,
    path: String,
    place: Place,
    fields: Vec<(String, Fingerprint)>,
}

impl Expected {
    fn of(moving: Moving<'_>) -> Result<Expected> {
        Ok(Expected {
            id: moving.accepted.id,
            fields: fields(RawDocument::from_bytes(&moving.accepted.document)?)?,
            kind: moving.kind,
            path: moving.path,
            place: moving.place.clone(),
        })
    }
}

fn compare(
    connection: &Connection,
    name: &str,
    expected: Vec<Expected>,
    report: &mut Report,
) -> Result<()> {
    let ids: Vec<NewId> = expected.iter().map(|expected| expected.id).collect();
    let found = connection.find(name, &ids)?;
    for expected in expected {
        let id = expected.id.to_string();
        let difference = match found.get(&id) {
            None => Some(format!("{name} lacks its document, {id}")),
            Some(document) => difference(&expected.fields, &fields(document)?)
                .map(|fields| format!("its document {id} in {name} differs in {fields}")),
        };
        match difference {
            None => report.count(&expected.kind, "equal"),
            Some(why) => {
                let what = match found.contains_key(&id) {
                    true => "different",
                    false => "missing",
                };
                report.count(&expected.kind, what);
                report.reject(&expected.place, Some(expected.path), why);
            }
        }
    }
    Ok(())
}

/// The names of the fields that differ, if any.
fn difference(
    expected: &[(String, Fingerprint)],
    found: &[(String, Fingerprint)],
) -> Option<String> {
    if expected == found {
        return None;
    }
    let differs = |one: &(String, Fingerprint), others: &[(String, Fingerprint)]| {
        (!others.contains(one)).then(|| one.0.clone())
    };
    let mut names: Vec<String> = (expected.iter().filter_map(|one| differs(one, found)))
        .chain(found.iter().filter_map(|one| differs(one, expected)))
        .collect();
    names.sort();
    names.dedup();
    let more = names.len().saturating_sub(FIELDS_MAX);
    names.truncate(FIELDS_MAX);
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("{}{more}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_difference_is_told_by_its_fields_whatever_their_order() {
        let of = |document: bson::RawDocumentBuf| fields(&document).unwrap();
        let expected = of(rawdoc! { "a": 1, "b": { "c": [1, 2] } });
        let same = of(rawdoc! { "_id": "x", "b": { "c": [1, 2] }, "a": 1 });
        assert_eq!(difference(&expected, &same), None);
        let other = of(rawdoc! { "a": 1_i64, "b": { "c": [1, 2] }, "z": 1 });
        assert_eq!(difference(&expected, &other).as_deref(), Some("a, z"));
        let inner = of(rawdoc! { "a": 1, "b": { "c": [2, 1] } });
        assert_eq!(difference(&expected, &inner).as_deref(), Some("b"));
    }
}
