//! `verify`: what the exports say beside what MongoDB has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use bson::RawDocument;
use datastore_export::{Key, Place};
use jiff::Timestamp;
use serde::Serialize;
use workflows_sink::config::Config;

use crate::contract::{Fields, difference, fields};
use crate::database::Connection;
use crate::entities::{Moving, each_accepted};
use crate::id::NewId;
use crate::mapping::Mapping;
use crate::references::Followed;
use crate::remap::{Remap, each_entry};
use crate::report::Report;
use crate::resolve::Refers;

/// Documents asked for at a time.
const DOCUMENTS_MAX: usize = 500;

/// Bytes of entities that wait to be compared.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// What is counted of an entity that differs, or is missing, where a person has said that it may.
const ACCEPTED: &str = "different, as accepted";
const ACCEPTED_MISSING: &str = "missing, as accepted";
const ACCEPTED_GONE: &str = "gone from the last export, as accepted";

/// Paths that are kept of those that were not compared, and that are shown to people.
const NOT_COMPARED_KEPT_MAX: usize = 1_000;
const NOT_COMPARED_SHOWN_MAX: usize = 20;

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
    /// How many paths have an id and a kind that is moved, and are in none of these exports.
    pub not_compared: u64,
    /// The first of them.
    pub not_compared_paths: Vec<String>,
    /// How many exports have fewer entities than they say, but for those that a person accepts.
    pub short_exports: u64,
    /// How many documents each collection has, beside those of the exports.
    pub others: BTreeMap<String, u64>,
}

impl Verification {
    /// Whether there are entities, as many as the exports say, all that have an id are there as the
    /// exports have them, and what they refer to is there too.
    pub fn is_yes(&self) -> bool {
        let Verification { report, .. } = self;
        let is_whole = self.not_compared == 0 && self.short_exports == 0;
        report.rejected_in_all == 0 && is_whole && self.equal() > 0
    }

    /// How many are there as they should be, those that a person accepts included.
    pub fn equal(&self) -> u64 {
        self.report.total("equal") + self.accepted()
    }

    fn accepted(&self) -> u64 {
        let accepted = [ACCEPTED, ACCEPTED_MISSING, ACCEPTED_GONE].into_iter();
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
        if self.not_compared > 0 {
            writeln!(
                out,
                "{} paths have an id and are in none of these exports: name the others too, or accept \
                 what is only above entities and is none",
                self.not_compared
            )?;
            for path in self.not_compared_paths.iter().take(NOT_COMPARED_SHOWN_MAX) {
                writeln!(out, "  {path}")?;
            }
        }
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
                self.not_compared,
                self.report.dangling,
                self.short_exports
            ),
        }
    }
}

/// Compares. Of an entity that several exports have, the last one counts; one that the last export
/// lacks was deleted in the old place meanwhile, and is reported.
///
/// `accepted` are old paths of entities that may differ or be missing, since they went on in the new
/// place, or that the last export or each of them lacks; and names of metadata whose counts may be
/// larger.
///
/// # Errors
/// Where the remap file is edited, or MongoDB does not answer.
pub fn verify(
    exports: &[PathBuf],
    mapping: &Mapping,
    remap: &Remap,
    config: &Config,
    accepted: HashSet<String>,
) -> Result<Verification> {
    let mut comparing = Comparing {
        connection: Connection::open(&config.mongodb)?,
        accepted,
        compared: HashSet::new(),
        waiting: BTreeMap::new(),
        waiting_bytes: 0,
        found: BTreeMap::new(),
        followed: Followed::new(mapping)?,
    };
    let mut report = Report::watching(mapping)?;
    for (later, export) in exports.iter().rev().enumerate() {
        let mut of_export = HashSet::new();
        let one = std::slice::from_ref(export);
        each_accepted(one, mapping, remap, &mut report, |moving, report| {
            let id = moving.accepted.id;
            if !of_export.insert(id) {
                let why = "it is twice in this export: only one of them can be compared";
                report.reject(moving.place, Some(moving.path), why);
            } else if comparing.compared.contains(&id) {
                // A later one has it, or it is told already.
            } else if later > 0 {
                comparing.tell_gone(moving, report);
            } else {
                comparing.push(moving, report)?;
            }
            Ok(())
        })?;
        comparing.flush(&mut report)?;
        comparing.compared.extend(of_export);
    }
    comparing
        .followed
        .finish(&comparing.connection, &mut report)?;
    report.tell_unmatched();
    let mut others = BTreeMap::new();
    for (name, found) in &comparing.found {
        let all = comparing.connection.count(name)?;
        others.insert(name.clone(), all.saturating_sub(*found));
    }
    others.retain(|_, others| *others > 0);
    let (not_compared, not_compared_paths) = not_compared(mapping, remap, |id, path| {
        comparing.compared.contains(&id) || comparing.accepted.contains(path)
    })?;
    let short = report.short.keys();
    let short = short.filter(|name| !comparing.accepted.contains(*name));
    Ok(Verification {
        short_exports: short.count() as u64,
        at: Timestamp::now(),
        version: env!("CARGO_PKG_VERSION"),
        remap_sha256: remap.sha256().unwrap_or_default().to_owned(),
        exports: exports.to_owned(),
        database: config.mongodb.database.clone(),
        not_compared,
        not_compared_paths,
        report,
        others,
    })
}

/// How many paths of kinds that are moved have an id and were not compared, and the first of them.
/// A path that only stands above entities is one too, unless a person accepts that.
fn not_compared(
    mapping: &Mapping,
    remap: &Remap,
    is_known: impl Fn(NewId, &str) -> bool,
) -> Result<(u64, Vec<String>)> {
    let (mut count, mut paths) = (0, Vec::new());
    each_entry(remap.file(), |path, id| {
        let key: Key = path.parse()?;
        let kind = mapping.kinds.get(key.kind());
        let is_moved = kind.is_some_and(|kind| kind.left_out.is_none());
        if is_moved && !is_known(id, &path) {
            count += 1;
            if paths.len() < NOT_COMPARED_KEPT_MAX {
                paths.push(path);
            }
        }
        Ok(())
    })?;
    Ok((count, paths))
}

struct Expected {
    id: NewId,
    kind: String,
    path: String,
    place: Place,
    fields: Fields,
    references: Vec<Refers>,
}

/// Entities that are being compared, some at a time.
struct Comparing<'a> {
    connection: Connection,
    accepted: HashSet<String>,
    /// 16 bytes and a little an entity.
    compared: HashSet<NewId>,
    waiting: BTreeMap<String, Vec<Expected>>,
    waiting_bytes: usize,
    /// How many documents were found, by collection.
    found: BTreeMap<String, u64>,
    followed: Followed<'a>,
}

impl Comparing<'_> {
    fn push(&mut self, moving: Moving<'_>, report: &mut Report) -> Result<()> {
        self.waiting_bytes += moving.accepted.document.len();
        let waiting = self.waiting.entry(moving.accepted.collection).or_default();
        waiting.push(Expected {
            id: moving.accepted.id,
            fields: fields(RawDocument::from_bytes(&moving.accepted.document)?)?,
            kind: moving.kind,
            path: moving.path,
            place: moving.place.clone(),
            references: moving.references,
        });
        match waiting.len() >= DOCUMENTS_MAX || self.waiting_bytes >= WAITING_BYTES_MAX {
            true => self.flush(report),
            false => Ok(()),
        }
    }

    /// Tells an entity that the last export lacks: whether it goes in the new place too, a person
    /// decides.
    fn tell_gone(&mut self, moving: Moving<'_>, report: &mut Report) {
        if self.accepted.contains(&moving.path) {
            report.count(&moving.kind, ACCEPTED_GONE);
            self.followed.is_there(moving.accepted.id);
            return;
        }
        report.count(&moving.kind, "gone from the last export");
        let why = "the last of these exports lacks it, or has it in a form that is rejected: if it was \
                   deleted in the old place meanwhile, decide about it in the new one, and accept it";
        report.reject(moving.place, Some(moving.path), why);
    }

    fn flush(&mut self, report: &mut Report) -> Result<()> {
        self.waiting_bytes = 0;
        for (name, waiting) in std::mem::take(&mut self.waiting) {
            let ids: Vec<NewId> = waiting.iter().map(|expected| expected.id).collect();
            let found = self.connection.find(&name, &ids)?;
            *self.found.entry(name.clone()).or_default() += found.len() as u64;
            for expected in waiting {
                self.compare(&name, &expected, &found, report);
                let is_there = found.contains_key(&expected.id.to_string());
                if is_there || self.accepted.contains(&expected.path) {
                    self.followed.is_there(expected.id);
                }
                if !is_there {
                    // Its references have gone with it, which is told already.
                    continue;
                }
                let Expected {
                    place,
                    path,
                    references,
                    ..
                } = expected;
                let connection = &self.connection;
                (self.followed).follow(&place, &path, references, connection, report)?;
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        name: &str,
        expected: &Expected,
        found: &HashMap<String, Fields>,
        report: &mut Report,
    ) {
        let id = expected.id.to_string();
        let (what, why) = match found
            .get(&id)
            .map(|found| difference(&expected.fields, found))
        {
            Some(None) => ("equal", None),
            Some(Some(_)) if self.accepted.contains(&expected.path) => (ACCEPTED, None),
            Some(Some(fields)) => {
                let why = format!("its document {id} in {name} differs in {fields}");
                ("different", Some(why))
            }
            None if self.accepted.contains(&expected.path) => (ACCEPTED_MISSING, None),
            None => ("missing", Some(format!("{name} lacks its document, {id}"))),
        };
        report.count(&expected.kind, what);
        if let Some(why) = why {
            report.reject(&expected.place, Some(expected.path.clone()), why);
        }
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
            Verification {
                at: Timestamp::now(),
                version: "1",
                remap_sha256: String::new(),
                exports: Vec::new(),
                database: String::new(),
                report,
                not_compared,
                not_compared_paths: Vec::new(),
                short_exports,
                others: BTreeMap::new(),
            }
        };
        assert!(verification(0, 0).is_yes() && verification(0, 0).equal() == 2);
        assert!(!verification(1, 0).is_yes() && !verification(0, 1).is_yes());
    }
}
