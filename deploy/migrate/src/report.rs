//! What a run did: counts by kind, and each entity that it left, with file, record and reason.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use anyhow::Result;
use datastore_export::{Entity, Place};
use serde::Serialize;

use crate::mapping::Mapping;
use crate::watch::{Unmatched, Watch};

/// How many rejected entities a report for people names; the JSON has up to [`KEPT_MAX`].
const SHOWN_MAX: usize = 20;
/// How many a report keeps; beyond it they are only counted.
const KEPT_MAX: usize = 100_000;

/// What a run did.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// By kind, by what became of the entity.
    pub kinds: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Entities and places that were not as they should be.
    pub rejected: Vec<Rejected>,
    /// How many there were, if not all are kept.
    pub rejected_in_all: u64,
    /// How many of them are references that lead nowhere, of entities that are moved.
    pub dangling: u64,
    /// Properties whose values look like old ids, which were left as they are; by kind and name.
    pub looks_like_ids: BTreeMap<String, u64>,
    /// Properties that are not taken over; by kind and name.
    pub dropped: BTreeMap<String, u64>,
    /// Why kinds were left out.
    pub left_out: BTreeMap<String, String>,
    /// What could not be checked of the exports, so that something may be missing.
    pub unchecked: BTreeSet<String>,
    /// What has fewer entities than the export says: by the name of its metadata, how many.
    pub short: BTreeMap<String, String>,
    /// Lines of the mapping that match nothing.
    pub unmatched: Vec<Unmatched>,
    /// Why nothing was done, where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
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
    pub fn count(&mut self, kind: &str, what: &'static str) {
        let kind = match self.kinds.get_mut(kind) {
            Some(kind) => kind,
            None => self.kinds.entry(kind.to_owned()).or_default(),
        };
        *kind.entry(what).or_default() += 1;
    }

    /// Notes one that was not moved.
    pub fn reject(&mut self, place: &Place, path: Option<String>, reason: impl ToString) {
        self.rejected_in_all += 1;
        if self.rejected.len() < KEPT_MAX {
            self.rejected.push(Rejected {
                file: place.file.to_string(),
                record: place.record,
                path,
                reason: reason.to_string(),
            });
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

    /// Notes a property that is not taken over.
    pub fn drop(&mut self, property: String) {
        *self.dropped.entry(property).or_default() += 1;
    }

    /// Whether all was done, and nothing was rejected.
    pub fn is_clean(&self) -> bool {
        self.rejected_in_all == 0 && self.refused.is_none()
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
