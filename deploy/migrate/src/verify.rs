//! `verify`: what the exports say beside what MongoDB has.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use anyhow::Result;
use bson::RawDocument;
use datastore_export::{Key, Place};
use jiff::Timestamp;
use workflows_sink::config::Config;

use crate::contract::{Contract, Fields, difference, fields};
use crate::convert::{Ids as _, path_of};
use crate::database::Connection;
use crate::entities::{Moving, accepted};
use crate::export::each_of;
use crate::id::{Fingerprint, NewId};
use crate::mapping::Mapping;
use crate::references::Followed;
use crate::remap::{Remap, each_entry};
use crate::report::Report;
use crate::resolve::Refers;
use crate::state::Held;
use crate::verification::{
    ACCEPTED, ACCEPTED_GONE, ACCEPTED_MISSING, NOT_COMPARED_KEPT_MAX, NotCompared, Verification,
};

/// Documents asked for at a time.
const DOCUMENTS_MAX: usize = 500;

/// Bytes of entities that wait to be compared.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Compares. Of an entity that several exports have, the last one counts; one that the last export
/// lacks was deleted in the old place meanwhile, and is reported.
///
/// `accepted` are old paths of entities that may differ or be missing, since they went on in the new
/// place, that may be rejected, or that the last export or each of them lacks; and names of metadata
/// whose counts may be larger.
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
    let connection = Connection::open(&config.mongodb)?;
    let held = held(&connection, config, mapping, &accepted)?;
    let mut report = Report::watching(mapping)?;
    report.accepted.clone_from(&accepted);
    let mut comparing = Comparing {
        connection,
        accepted,
        compared: HashSet::new(),
        waiting: BTreeMap::new(),
        waiting_bytes: 0,
        found: BTreeMap::new(),
        absent: BTreeSet::new(),
        followed: Followed::new(mapping)?,
    };
    // A person has accepted what is missing or rejected, so that nothing is to be found of it.
    for path in &comparing.accepted {
        if let Some(id) = remap.id(Fingerprint::of(path)) {
            comparing.followed.is_there(id);
        }
    }
    comparing.each(exports, mapping, remap, &mut report)?;
    report.tell_unmatched();
    let mut others = BTreeMap::new();
    for (name, found) in &comparing.found {
        let all = comparing.connection.count(name)?;
        others.insert(name.clone(), all.saturating_sub(*found));
    }
    others.retain(|_, others| *others > 0);
    let mut absent = std::mem::take(&mut report.absent);
    absent.append(&mut comparing.absent);
    let not_compared = not_compared(mapping, remap, &report, |id, path| {
        let is_compared = comparing.compared.contains(&id);
        let is_accepted = comparing.accepted.contains(path);
        if is_accepted && !is_compared {
            absent.insert(path.to_owned());
        }
        is_compared || is_accepted
    })?;
    let short = report.short.keys();
    let short = short.filter(|name| !comparing.accepted.contains(*name));
    Ok(Verification {
        short_exports: short.count() as u64,
        at: Timestamp::now(),
        version: env!("CARGO_PKG_VERSION"),
        remap_sha256: remap.sha256().unwrap_or_default().to_owned(),
        exports: exports.to_owned(),
        held,
        accounts_moved: remap.state.accounts_moved.clone(),
        absent,
        not_compared,
        report,
        others,
    })
}

/// What the entities are held against.
fn held(
    connection: &Connection,
    config: &Config,
    mapping: &Mapping,
    accepted: &HashSet<String>,
) -> Result<Held> {
    let (hosts, replica_set) = connection.servers()?;
    let mut accepted: Vec<String> = accepted.iter().cloned().collect();
    accepted.sort();
    Ok(Held {
        hosts,
        replica_set,
        database: config.mongodb.database.clone(),
        mapping_sha256: mapping.sha256.clone(),
        accepted,
    })
}

/// The paths of kinds that are moved that have an id and were not compared. A path that only stands
/// above entities is one too, unless a person accepts that.
fn not_compared(
    mapping: &Mapping,
    remap: &Remap,
    report: &Report,
    mut is_known: impl FnMut(NewId, &str) -> bool,
) -> Result<NotCompared> {
    let mut found = NotCompared::default();
    each_entry(remap.file(), |path, id| {
        let key: Key = path.parse()?;
        let kind = mapping.kinds.get(key.kind());
        let is_moved = kind.is_some_and(|kind| kind.left_out.is_none());
        if is_moved && !is_known(id, &path) {
            found.count += 1;
            if report.has_rejected(&path) {
                found.rejected += 1;
            } else if found.paths.len() < NOT_COMPARED_KEPT_MAX {
                found.paths.push(path);
            }
        }
        Ok(())
    })?;
    Ok(found)
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
    /// Paths of those that are missing, as accepted.
    absent: BTreeSet<String>,
    followed: Followed<'a>,
}

impl Comparing<'_> {
    /// Compares each entity of the exports, the last one first, and follows its references. What a
    /// later export has of an entity counts, whatever became of it.
    fn each(
        &mut self,
        exports: &[PathBuf],
        mapping: &Mapping,
        remap: &Remap,
        report: &mut Report,
    ) -> Result<()> {
        let mut contract = Contract::from_env()?;
        // Paths of later exports' entities, whatever became of them: 16 bytes and a little each.
        let mut later = HashSet::new();
        for (index, export) in exports.iter().rev().enumerate() {
            let mut come = HashSet::new();
            let one = std::slice::from_ref(export);
            each_of(one, mapping, remap, report, |place, entity, report| {
                report.meet(&entity);
                let path = Fingerprint::of(path_of(&entity.key));
                if later.contains(&path) {
                    return Ok(());
                }
                let is_twice = !come.insert(path);
                let moving = accepted(&entity, place, mapping, remap, &mut contract, report);
                match moving {
                    None => {}
                    Some(moving) if is_twice => {
                        let why = "it is twice in this export: only one of them can be compared";
                        report.reject(place, Some(moving.path), why);
                    }
                    Some(moving) if index > 0 => self.tell_gone(moving, report),
                    Some(moving) => self.push(moving, report)?,
                }
                Ok(())
            })?;
            self.flush(report)?;
            later.extend(come);
        }
        self.followed.finish(&self.connection, report)
    }

    fn push(&mut self, moving: Moving<'_>, report: &mut Report) -> Result<()> {
        self.compared.insert(moving.accepted.id);
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
        self.compared.insert(moving.accepted.id);
        if self.accepted.contains(&moving.path) {
            report.count(&moving.kind, ACCEPTED_GONE);
            return;
        }
        report.count(&moving.kind, "gone from the last export");
        let why = "the last of these exports lacks it: if it was deleted in the old place meanwhile, \
                   decide about it in the new one, and accept it";
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
                if !found.contains_key(&expected.id.to_string()) {
                    // Its references have gone with it, which is told already.
                    continue;
                }
                self.followed.is_there(expected.id);
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
        &mut self,
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
            None if self.accepted.contains(&expected.path) => {
                self.absent.insert(expected.path.clone());
                (ACCEPTED_MISSING, None)
            }
            None => ("missing", Some(format!("{name} lacks its document, {id}"))),
        };
        report.count(&expected.kind, what);
        if let Some(why) = why {
            report.reject(&expected.place, Some(expected.path.clone()), why);
        }
    }
}
