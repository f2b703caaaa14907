//! References whose target has an id: whether it is moved, and has a document.
//!
//! An id is given to every entity of an export, also to one that is rejected later. So a reference
//! that resolves may still lead nowhere.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use anyhow::Result;
use datastore_export::Place;

use crate::contract::Contract;
use crate::database::Connection;
use crate::entities::each_accepted;
use crate::export::is_read_once;
use crate::id::{Fingerprint, NewId};
use crate::mapping::Mapping;
use crate::remap::{Remap, each_entry};
use crate::report::Report;
use crate::resolve::Refers;

/// Documents asked for at a time.
const DOCUMENTS_MAX: usize = 500;
/// References that wait for an answer, however many documents they are to.
const WAITING_MAX: usize = 20_000;

/// Targets that were named before they had come, of one run. Holds an id once, however many name it.
#[derive(Default)]
pub struct Wanted {
    // At most one of each entity: some 20 bytes.
    ids: HashSet<NewId>,
}

impl Wanted {
    /// Notes the targets that have not come yet.
    pub fn name(&mut self, references: &[Refers], has_come: impl Fn(NewId) -> bool) {
        let ids = references.iter().map(|refers| refers.id);
        self.ids.extend(ids.filter(|id| !has_come(*id)));
    }

    /// Notes one that was believed to come, and did not.
    pub fn is_lost(&mut self, id: NewId) {
        self.ids.insert(id);
    }

    /// Reports each reference to a target that has not come by now. Goes through the exports once
    /// more if there is one.
    ///
    /// `why` says of a target that was not rejected why it is not there.
    ///
    /// # Errors
    /// Where the exports or the remap file cannot be read again.
    pub fn report(
        mut self,
        exports: &[PathBuf],
        mapping: &Mapping,
        remap: &Remap,
        report: &mut Report,
        has_come: impl Fn(NewId) -> bool,
        why: impl Fn(NewId) -> &'static str,
    ) -> Result<()> {
        self.ids.retain(|id| !has_come(*id));
        if self.ids.is_empty() {
            return Ok(());
        }
        let rejected = report.rejected_paths();
        let why = |path: &str, id| match rejected.contains(&Fingerprint::of(path)) {
            true => "it was rejected, which has a line of its own",
            false => why(id),
        };
        if is_read_once(exports) {
            return self.report_targets(remap, report, why);
        }
        // What is rejected is in the report already.
        let mut once = Report::default();
        each_accepted(exports, mapping, remap, &mut once, |moving, _| {
            for refers in &moving.references {
                if self.ids.contains(&refers.id) {
                    let Refers { at, path, id, .. } = refers;
                    let why = why(path, *id);
                    let why =
                        format!("{at} refers to {path}, which has an id and is not moved: {why}");
                    report.dangle(moving.place, Some(moving.path.clone()), why);
                }
            }
            Ok(())
        })
    }

    /// Of what cannot be read twice only the targets are known.
    fn report_targets(
        &self,
        remap: &Remap,
        report: &mut Report,
        why: impl Fn(&str, NewId) -> &'static str,
    ) -> Result<()> {
        let place = Place {
            file: "-".into(),
            record: 0,
        };
        each_entry(remap.file(), |path, id| {
            if self.ids.contains(&id) {
                let why = format!(
                    "entities refer to it, and it is not moved: {}. Give the export as a file to be \
                     told which",
                    why(&path, id)
                );
                report.dangle(&place, Some(path), why);
            }
            Ok(())
        })
    }
}

/// References to documents, some thousand at a time.
pub struct Followed<'a> {
    mapping: &'a Mapping,
    contract: Contract,
    /// Documents that MongoDB is known to have: 16 bytes and a little an entity.
    there: HashSet<NewId>,
    waiting: Vec<(Place, String, Refers)>,
    targets: HashSet<NewId>,
}

impl Followed<'_> {
    /// By the service's mapping too, which says where a kind's documents are.
    ///
    /// # Errors
    /// Where that one cannot be read.
    pub fn new(mapping: &Mapping) -> Result<Followed<'_>> {
        Ok(Followed {
            mapping,
            contract: Contract::from_env()?,
            there: HashSet::new(),
            waiting: Vec::new(),
            targets: HashSet::new(),
        })
    }

    /// Notes that MongoDB has this document.
    pub fn is_there(&mut self, id: NewId) {
        self.there.insert(id);
    }

    /// Follows the references of an entity, perhaps later.
    ///
    /// # Errors
    /// Where MongoDB does not answer.
    pub fn follow(
        &mut self,
        place: &Place,
        path: &str,
        references: Vec<Refers>,
        connection: &Connection,
        report: &mut Report,
    ) -> Result<()> {
        for refers in references {
            if !self.there.contains(&refers.id) {
                self.targets.insert(refers.id);
                self.waiting.push((place.clone(), path.to_owned(), refers));
            }
        }
        match self.targets.len() >= DOCUMENTS_MAX || self.waiting.len() >= WAITING_MAX {
            true => self.finish(connection, report),
            false => Ok(()),
        }
    }

    /// Follows those that wait, and reports each whose target has no document.
    ///
    /// # Errors
    /// Where MongoDB does not answer.
    pub fn finish(&mut self, connection: &Connection, report: &mut Report) -> Result<()> {
        self.targets.clear();
        let waiting = std::mem::take(&mut self.waiting);
        let mut asked: BTreeMap<&str, HashSet<NewId>> = BTreeMap::new();
        let mut collections: HashMap<&str, Option<&str>> = HashMap::new();
        for (_, _, refers) in &waiting {
            let collection = self.collection(&refers.kind);
            collections.insert(&refers.kind, collection);
            if let Some(collection) = collection
                && !self.there.contains(&refers.id)
            {
                asked.entry(collection).or_default().insert(refers.id);
            }
        }
        let mut found = HashSet::new();
        for (collection, ids) in asked {
            let ids: Vec<NewId> = ids.into_iter().collect();
            for ids in ids.chunks(DOCUMENTS_MAX) {
                found.extend(connection.existing(collection, ids)?);
            }
        }
        for (place, path, refers) in &waiting {
            if !found.contains(&refers.id) && !self.there.contains(&refers.id) {
                let Refers {
                    at, path: to, id, ..
                } = refers;
                let why = match collections[&*refers.kind] {
                    Some(name) => format!(
                        "{at} refers to {to}, and {name} lacks the document of that, {id}: it was \
                         rejected, deleted there, or not moved"
                    ),
                    None => format!(
                        "{at} refers to {to}, and the service has no collection for that: its kind is \
                         not in the service's mapping"
                    ),
                };
                report.dangle(place, Some(path.clone()), why);
            }
        }
        self.there.extend(found);
        Ok(())
    }

    /// Where documents of an old kind are.
    fn collection(&self, kind: &str) -> Option<&str> {
        let new = self.mapping.kinds.get(kind)?.kind.as_deref();
        self.contract.collection(new.unwrap_or(kind))
    }
}
