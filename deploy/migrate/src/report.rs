//! What a run did: counts by kind, and each entity that it left, with file, record and reason.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Write};

use anyhow::Result;
use datastore_export::{Entity, Place};
use serde::Serialize;

use crate::id::Fingerprint;
use crate::mapping::Mapping;
use crate::watch::{Unmatched, Watch};

/// How many rejected entities a report for people names; the JSON has up to [`KEPT_MAX`].
const SHOWN_MAX: usize = 20;
/// How many a report keeps; beyond it they are only counted.
const KEPT_MAX: usize = 100_000;

/// What begins the count of entities that a run has left though they are not as in the exports.
const LEFT: &str = "left: ";
/// What is counted of a rejected entity where a person has said that it may be.
pub const ACCEPTED_REJECTED: &str = "rejected, as accepted";

/// What a run did.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The database that accounts went into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// By kind, by what became of the entity.
    pub kinds: BTreeMap<String, BTreeMap<String, u64>>,
    /// Entities and places that were not as they should be.
    pub rejected: Vec<Rejected>,
    /// How many there were, if not all are kept.
    pub rejected_in_all: u64,
    /// How many of them are references that lead nowhere, of entities that are moved.
    pub dangling: u64,
    /// How many of them are files, or parts of them, that cannot be read: entities may be missing.
    pub unreadable: u64,
    /// Properties whose values look like old ids, which were left as they are; by kind and name.
    pub looks_like_ids: BTreeMap<String, u64>,
    /// Properties that are not taken over; by kind and name.
    pub dropped: BTreeMap<String, u64>,
    /// Properties whose values the mapping says what becomes of, by kind and name; by what became of them.
    pub as_mapped: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Why kinds were left out.
    pub left_out: BTreeMap<String, String>,
    /// What could not be checked of the exports, so that something may be missing.
    pub unchecked: BTreeSet<String>,
    /// What has fewer entities than the export says: by the name of its metadata, how many.
    pub short: BTreeMap<String, String>,
    /// Lines of the mapping that match nothing.
    pub unmatched: Vec<Unmatched>,
    /// Whether these are no success: of accounts, which are never changed once they are there.
    #[serde(skip)]
    pub needs_each_line: bool,
    /// Why nothing was done, where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Old paths of entities that may be rejected: a person has looked at each.
    #[serde(skip)]
    pub accepted: HashSet<String>,
    /// Paths of those that were rejected, as accepted.
    #[serde(skip)]
    pub absent: BTreeSet<String>,
    /// How many entities were read, whatever became of them.
    #[serde(skip)]
    pub read: u64,
    /// The paths of all that were rejected: 16 bytes and a little each.
    #[serde(skip)]
    rejected_paths: HashSet<Fingerprint>,
    #[serde(skip)]
    watch: Option<Watch>,
}

/// An entity that was not moved, or is not as it should be.
#[derive(Debug, Serialize)]
pub struct Rejected {
    /// The file.
    pub file: String,
    /// The record in it, from 1.
    pub record: u64,
    /// The old path, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why, without a value of the entity.
    pub reason: String,
}

impl Report {
    /// An empty one, in which lines of the mapping are told that match nothing.
    ///
    /// # Errors
    /// As [`Watch::new`].
    pub fn watching(mapping: &Mapping) -> Result<Report> {
        Ok(Report {
            watch: Some(Watch::new(mapping)?),
            ..Report::default()
        })
    }

    /// Notes an entity, whatever becomes of it.
    pub fn meet(&mut self, entity: &Entity) {
        if let Some(watch) = &mut self.watch {
            watch.meet(entity);
        }
    }

    /// Tells which lines of the mapping no entity has matched.
    pub fn tell_unmatched(&mut self) {
        self.unmatched = self.watch.take().map_or(vec![], |watch| watch.unmatched());
    }

    /// Counts an entity.
    pub fn count(&mut self, kind: &str, what: &str) {
        let kind = match self.kinds.get_mut(kind) {
            Some(kind) => kind,
            None => self.kinds.entry(kind.to_owned()).or_default(),
        };
        match kind.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(kind.insert(what.to_owned(), 1)),
        }
    }

    /// Counts an entity as something else than it was counted as.
    pub fn count_instead(&mut self, kind: &str, before: &str, what: &str) {
        if let Some(counts) = self.kinds.get_mut(kind)
            && let Some(count) = counts.get_mut(before)
        {
            *count -= 1;
            if *count == 0 {
                counts.remove(before);
            }
        }
        self.count(kind, what);
    }

    /// Notes an entity that the mapping or the service rejects, unless a person has accepted that.
    pub fn reject_entity(
        &mut self,
        place: &Place,
        kind: &str,
        path: Option<String>,
        reason: impl ToString,
    ) {
        if let Some(path) = &path
            && self.accepted.contains(path)
        {
            self.absent.insert(path.clone());
            self.count(kind, ACCEPTED_REJECTED);
            return;
        }
        self.count(kind, "rejected");
        self.reject(place, path, reason);
    }

    /// Notes one that was not moved.
    pub fn reject(&mut self, place: &Place, path: Option<String>, reason: impl ToString) {
        self.rejected_in_all += 1;
        self.rejected_paths
            .extend(path.as_ref().map(Fingerprint::of));
        if self.rejected.len() < KEPT_MAX {
            self.rejected.push(Rejected {
                file: place.file.to_string(),
                record: place.record,
                path,
                reason: reason.to_string(),
            });
        }
    }

    /// Notes what stands where entities should.
    pub fn cannot_read(&mut self, place: &Place, reason: impl ToString) {
        self.unreadable += 1;
        self.reject(place, None, reason);
    }

    /// Whether an entity with this path was rejected.
    pub fn has_rejected(&self, path: &str) -> bool {
        self.rejected_paths.contains(&Fingerprint::of(path))
    }

    /// The paths of all that were rejected until now.
    pub fn rejected_paths(&self) -> HashSet<Fingerprint> {
        self.rejected_paths.clone()
    }

    /// Notes that nothing was done where the exports had no entity.
    pub fn refuse_if_empty(&mut self) {
        if self.read == 0 {
            let why = "there is no entity in these exports: look whether they are the ones that are meant";
            self.refused = Some(why.to_owned());
        }
    }

    /// Notes a reference that leads nowhere, of an entity that is moved.
    pub fn dangle(&mut self, place: &Place, path: Option<String>, reason: impl ToString) {
        self.dangling += 1;
        self.reject(place, path, reason);
    }

    /// Notes properties whose values look like old ids.
    pub fn note_looks_like_ids(&mut self, properties: &[String]) {
        for property in properties {
            *self.looks_like_ids.entry(property.clone()).or_default() += 1;
        }
    }

    /// Notes properties with what became of their values, as the mapping says.
    pub fn note_as_mapped(&mut self, properties: &[(String, &'static str)]) {
        for (property, what) in properties {
            let counts = self.as_mapped.entry(property.clone()).or_default();
            *counts.entry(*what).or_default() += 1;
        }
    }

    /// Notes a property that is not taken over.
    pub fn drop(&mut self, property: String) {
        *self.dropped.entry(property).or_default() += 1;
    }

    /// Whether all was done, of exports that are whole, and nothing was rejected or left.
    pub fn is_clean(&self) -> bool {
        let mut counted = self.kinds.values().flat_map(BTreeMap::keys);
        let has_left = counted.any(|what| what.starts_with(LEFT));
        let is_met = !self.needs_each_line || self.unmatched.is_empty();
        let is_whole = self.short.is_empty() && is_met;
        self.rejected_in_all == 0 && self.refused.is_none() && is_whole && !has_left
    }

    /// How many entities became this.
    pub fn total(&self, what: &str) -> u64 {
        let kinds = self.kinds.values();
        kinds.filter_map(|counts| counts.get(what)).sum()
    }

    /// Prints it for people.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(database) = &self.database {
            writeln!(out, "database {database}")?;
        }
        for (kind, counts) in &self.kinds {
            let counts: Vec<String> = (counts.iter())
                .map(|(what, count)| format!("{count} {what}"))
                .collect();
            writeln!(out, "{kind:<20} {}", counts.join(", "))?;
        }
        for (kind, why) in &self.left_out {
            writeln!(out, "{kind:<20} left out: {why}")?;
        }
        for (property, count) in &self.dropped {
            writeln!(out, "{property} is not taken over, {count} times")?;
        }
        for (property, count) in &self.looks_like_ids {
            writeln!(
                out,
                "{property} holds {count} values that look like old ids: left as they are; declare \
                 a reference if they are some"
            )?;
        }
        for (property, counts) in &self.as_mapped {
            for (what, count) in counts {
                writeln!(out, "{property} {what}, {count} times, as the mapping says")?;
            }
        }
        for Unmatched { file, line, reason } in &self.unmatched {
            writeln!(out, "warning: {file}, line {line}: {reason}")?;
        }
        for why in self.unchecked.iter().chain(self.short.values()) {
            writeln!(out, "warning: {why}")?;
        }
        for rejected in self.rejected.iter().take(SHOWN_MAX) {
            let path = rejected.path.as_deref().unwrap_or("-");
            let Rejected {
                file,
                record,
                reason,
                ..
            } = rejected;
            writeln!(out, "{file} record {record}, {path}: {reason}")?;
        }
        let shown = self.rejected.len().min(SHOWN_MAX) as u64;
        if self.rejected_in_all > shown {
            let more = self.rejected_in_all - shown;
            writeln!(
                out,
                "… and {more} more: --report FILE has them as JSON, up to {KEPT_MAX}"
            )?;
        }
        if let Some(why) = &self.refused {
            writeln!(out, "nothing was done: {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_clean_only_where_nothing_was_left_and_the_exports_are_whole() {
        let of = |change: fn(&mut Report)| {
            let mut report = Report::default();
            report.count("Dataset", "sent");
            change(&mut report);
            report.is_clean()
        };
        assert!(of(|_| ()));
        assert!(of(|report| report.count("Account", "left out")));
        assert!(!of(|report| report.count("Dataset", "left: x")));
        let short = |report: &mut Report| drop(report.short.insert("a".to_owned(), "b".to_owned()));
        assert!(!of(short));
        assert!(!of(Report::refuse_if_empty));
    }
}
