//! `entities`: what an export has and the target lacks.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use datastore_export::{Entity, Place};
use workflows_sink::config::{Config, Kafka};

use crate::contract::{Accepted, Contract};
use crate::convert::{Outcome, convert, path_of};
use crate::database::Inserter;
use crate::export::{each_of, is_read_once, told_path};
use crate::mapping::Mapping;
use crate::present::{Needed, Present, read_back, report_covered};
use crate::references::{Followed, Wanted};
use crate::remap::Remap;
use crate::report::Report;
use crate::resolve::Refers;
use crate::sender::{About, NotTaken, Sender};

/// Where entities go.
pub enum Target {
    /// Nowhere: only a report.
    Nowhere,
    /// A topic, as records.
    Topic(Box<Onto>),
    /// The service's collections, where they lack the id.
    Mongodb(Box<Config>),
}

/// A topic that entities go onto.
pub struct Onto {
    /// Its brokers.
    pub kafka: Kafka,
    /// Its name.
    pub topic: String,
    /// Whether what was migrated before, in another state, is replaced.
    pub update: bool,
    /// How long records of an open transaction are waited for.
    pub transaction_wait: Duration,
}

/// Gives each entity of the exports that is to be moved to `each`; the others go to the report.
///
/// # Errors
/// Where a file cannot be opened, and those of `each`.
pub fn each_accepted(
    exports: &[PathBuf],
    mapping: &Mapping,
    remap: &Remap,
    report: &mut Report,
    mut each: impl FnMut(Moving<'_>, &mut Report) -> Result<()>,
) -> Result<()> {
    let mut contract = Contract::from_env()?;
    each_of(exports, mapping, remap, report, |place, entity, report| {
        report.meet(&entity);
        if let Some(moving) = accepted(&entity, place, mapping, remap, &mut contract, report) {
            each(moving, report)?;
        }
        Ok(())
    })
}

/// An entity on its way.
pub struct Moving<'a> {
    /// Where it was read.
    pub place: &'a Place,
    /// Its old kind.
    pub kind: String,
    /// Its old path.
    pub path: String,
    /// What the service takes.
    pub accepted: Accepted,
    /// The entities that it names.
    pub references: Vec<Refers>,
}

/// What the mapping and the service make of an entity; if they reject it, the report says so.
pub(crate) fn accepted<'a>(
    entity: &Entity,
    place: &'a Place,
    mapping: &Mapping,
    remap: &Remap,
    contract: &mut Contract,
    report: &mut Report,
) -> Option<Moving<'a>> {
    let (kind, path) = (entity.key.kind().to_owned(), path_of(&entity.key));
    let converted = match convert(entity, mapping, remap) {
        Ok(Outcome::Moved(converted)) => converted,
        Ok(Outcome::LeftOut(why)) => {
            report.count(&kind, "left out");
            report.left_out.insert(kind, why);
            return None;
        }
        Err(rejection) => {
            let path = told_path(&entity.key, mapping);
            report.reject_entity(place, &kind, path, rejection);
            return None;
        }
    };
    report.note_looks_like_ids(&converted.looks_like_ids);
    report.note_as_mapped(&converted.as_mapped);
    match contract.accept(&converted) {
        Ok(accepted) => Some(Moving {
            place,
            kind,
            path,
            accepted,
            references: converted.references,
        }),
        Err(rejection) => {
            report.reject_entity(place, &kind, Some(path), rejection);
            None
        }
    }
}

/// Moves what the target lacks, and where it is said what a topic has as it was migrated before, in
/// another state. Run again after a kill, it goes on behind what is there. References are followed to
/// their targets.
///
/// # Errors
/// Where the remap file is edited, or the target does not answer.
pub fn import(
    exports: &[PathBuf],
    mapping: &Mapping,
    remap: &Remap,
    target: &Target,
) -> Result<Report> {
    let mut report = Report::watching(mapping)?;
    let what = (exports, mapping, remap);
    match target {
        Target::Nowhere => nowhere(what, &mut report)?,
        Target::Topic(onto) => onto_topic(what, onto, &mut report)?,
        Target::Mongodb(config) => into_mongodb(what, config, &mut report)?,
    }
    report.tell_unmatched();
    report.refuse_if_empty();
    Ok(report)
}

/// Why an entity is rejected that comes once more.
const TWICE: &str = "another state of it is in these exports: give each by itself";

/// What is moved, by which rules.
type What<'a> = (&'a [PathBuf], &'a Mapping, &'a Remap);

fn nowhere((exports, mapping, remap): What<'_>, report: &mut Report) -> Result<()> {
    let mut come = Present::default();
    let mut wanted = Wanted::default();
    each_accepted(exports, mapping, remap, report, |moving, report| {
        let Accepted { id, value, .. } = &moving.accepted;
        let needed = come.needed(*id, value);
        if needed == Needed::New {
            come.sent(*id, value);
        }
        wanted.name(&moving.references, |id| come.has(id));
        match needed {
            Needed::Twice => report.reject(moving.place, Some(moving.path), TWICE),
            _ => report.count(&moving.kind, "would be moved"),
        }
        Ok(())
    })?;
    let has_come = |id| come.has(id);
    let why = |_| "it is in none of these exports";
    wanted.report(exports, mapping, remap, report, has_come, why)
}

fn onto_topic((exports, mapping, remap): What<'_>, onto: &Onto, report: &mut Report) -> Result<()> {
    let (kafka, topic, update) = (&onto.kafka, &onto.topic, onto.update);
    let others = kafka.topics.iter().filter(|other| *other != topic);
    let others: Vec<&str> = others.map(String::as_str).collect();
    let elsewhere = format!("in {} only, not in {topic}", others.join(", "));
    let mut present = read_back(kafka, topic, onto.transaction_wait)?;
    let sender = Sender::new(kafka, topic)?;
    let mut wanted = Wanted::default();
    each_accepted(exports, mapping, remap, report, |moving, report| {
        let needed = present.needed(moving.accepted.id, &moving.accepted.value);
        if needed == Needed::New || needed == Needed::Changed && update {
            let Accepted { id, value, .. } = &moving.accepted;
            let about = About {
                id: *id,
                kind: moving.kind.clone(),
                place: moving.place.clone(),
                path: moving.path.clone(),
                counted: name(needed, update),
            };
            sender.send(about, value)?;
            present.sent(*id, value);
        }
        wanted.name(&moving.references, |id| present.has(id));
        match needed {
            Needed::Twice => report.reject(moving.place, Some(moving.path), TWICE),
            Needed::Elsewhere => report.count(&moving.kind, &elsewhere),
            _ => report.count(&moving.kind, name(needed, update)),
        }
        Ok(())
    })?;
    for NotTaken { about, why } in sender.finish()? {
        present.not_taken(about.id);
        wanted.is_lost(about.id);
        report.count_instead(&about.kind, about.counted, "not taken");
        report.reject(&about.place, Some(about.path), why);
    }
    report_covered(kafka, &present, onto.transaction_wait, report)?;
    let why = |id| match present.is_deleted(id) {
        true => "the topic has a tombstone for it",
        false => "it is in none of these exports, and not in the topic",
    };
    wanted.report(exports, mapping, remap, report, |id| present.has(id), why)
}

fn into_mongodb(
    (exports, mapping, remap): What<'_>,
    config: &Config,
    report: &mut Report,
) -> Result<()> {
    let mut inserter = Inserter::open(&config.mongodb)?;
    let mut come = Present::default();
    each_accepted(exports, mapping, remap, report, |moving, report| {
        let Accepted { id, value, .. } = &moving.accepted;
        match come.needed(*id, value) {
            Needed::New => {
                come.sent(*id, value);
                inserter.push(moving, report)?;
            }
            Needed::Twice => report.reject(moving.place, Some(moving.path), TWICE),
            _ => report.count(&moving.kind, "there already"),
        }
        Ok(())
    })?;
    inserter.flush(report)?;
    if is_read_once(exports) {
        let why =
            "standard input is read once: whether references lead to documents was not checked";
        report.unchecked.insert(why.to_owned());
        return Ok(());
    }
    let mut followed = Followed::new(mapping)?;
    // What is rejected is in the report already.
    let mut once = Report::default();
    let connection = inserter.connection();
    each_accepted(exports, mapping, remap, &mut once, |moving, _| {
        let (place, references) = (moving.place, moving.references);
        followed.follow(place, &moving.path, references, connection, report)
    })?;
    followed.finish(connection, report)
}

fn name(needed: Needed, update: bool) -> &'static str {
    match needed {
        Needed::New => "sent",
        Needed::Nothing | Needed::Elsewhere => "there already",
        Needed::Changed if update => "sent again, changed since",
        Needed::Changed => "left: migrated before in another state (--update replaces it)",
        Needed::Newer => "left: the topic has a newer state",
        Needed::Unknown => {
            "left: the state topic has another state, and whose it is cannot be known any more"
        }
        Needed::Twice => "twice",
    }
}
