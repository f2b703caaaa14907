//! `entities`: what an export has and the target lacks.

use std::path::PathBuf;

use anyhow::Result;
use datastore_export::{Entity, Place};
use workflows_sink::config::{Config, Kafka};

use crate::contract::{Accepted, Contract};
use crate::convert::{Outcome, convert, path_of};
use crate::database::Inserter;
use crate::export::each_entity;
use crate::mapping::Mapping;
use crate::present::{Needed, read_back, report_covered};
use crate::remap::Remap;
use crate::report::Report;
use crate::sender::Sender;

/// Where entities go.
pub enum Target {
    /// Nowhere: only a report.
    Nowhere,
    /// A topic, as records.
    Topic(Box<Kafka>, String),
    /// The service's collections, where they lack the id.
    Mongodb(Box<Config>),
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
    each_entity(exports, report, |place, entity, report| {
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
}

fn accepted<'a>(
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
            report.count(&kind, "rejected");
            report.reject(place, Some(path), rejection);
            return None;
        }
    };
    for property in &converted.looks_like_ids {
        *report.looks_like_ids.entry(property.clone()).or_default() += 1;
    }
    match contract.accept(&converted) {
        Ok(accepted) => Some(Moving {
            place,
            kind,
            path,
            accepted,
        }),
        Err(rejection) => {
            report.count(&kind, "rejected");
            report.reject(place, Some(path), rejection);
            None
        }
    }
}

/// Moves what the target lacks, and with `update` what a topic has as it was migrated before, in
/// another state. Run again after a kill, it goes on behind what is there.
///
/// # Errors
/// Where the remap file is edited, or the target does not answer.
pub fn import(
    exports: &[PathBuf],
    mapping: &Mapping,
    remap: &Remap,
    target: &Target,
    update: bool,
) -> Result<Report> {
    let mut report = Report::default();
    match target {
        Target::Nowhere => {
            each_accepted(exports, mapping, remap, &mut report, |moving, report| {
                report.count(&moving.kind, "would be moved");
                Ok(())
            })?;
        }
        Target::Topic(kafka, topic) => {
            let mut present = read_back(kafka, topic)?;
            let sender = Sender::new(kafka, topic)?;
            each_accepted(exports, mapping, remap, &mut report, |moving, report| {
                let needed = present.needed(moving.accepted.id, &moving.accepted.value);
                if needed == Needed::New || needed == Needed::Changed && update {
                    let Accepted { id, value, .. } = &moving.accepted;
                    sender.send(*id, value, moving.place, &moving.path)?;
                    present.sent(*id, value);
                }
                match needed {
                    Needed::Twice => {
                        let why = "another state of it is in these exports: give each by itself";
                        report.reject(moving.place, Some(moving.path), why);
                    }
                    _ => report.count(&moving.kind, name(needed, update)),
                }
                Ok(())
            })?;
            for not_taken in sender.finish()? {
                report.reject(&not_taken.place, Some(not_taken.path), not_taken.why);
            }
            report_covered(kafka, &present, &mut report)?;
        }
        Target::Mongodb(config) => {
            let mut inserter = Inserter::open(&config.mongodb)?;
            each_accepted(exports, mapping, remap, &mut report, |moving, report| {
                inserter.push(moving, report)
            })?;
            inserter.flush(&mut report)?;
        }
    }
    Ok(report)
}

fn name(needed: Needed, update: bool) -> &'static str {
    match needed {
        Needed::New => "sent",
        Needed::Nothing => "there already",
        Needed::Changed if update => "sent again, changed since",
        Needed::Changed => "left: migrated before in another state (--update replaces it)",
        Needed::Newer => "left: the topic has a newer state",
        Needed::Twice => "twice",
    }
}
