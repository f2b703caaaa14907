//! The entities of an export, one after the other, with their progress.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use datastore_export::{Counted, Entity, Key, Place, sources};

use crate::convert::path_of;
use crate::mapping::Mapping;
use crate::progress::Progress;
use crate::remap::Remap;
use crate::report::Report;

/// Whether there is one that cannot be read a second time.
pub fn is_read_once(exports: &[PathBuf]) -> bool {
    exports.iter().any(|export| export.as_os_str() == "-")
}

/// As [`each_entity`], of the project that is known of a remap file.
///
/// # Errors
/// As there.
pub fn each_of(
    exports: &[PathBuf],
    mapping: &Mapping,
    remap: &Remap,
    report: &mut Report,
    each: impl FnMut(&Place, Entity, &mut Report) -> Result<()>,
) -> Result<()> {
    let mut project = remap.state.project.clone();
    each_entity(exports, mapping, &mut project, report, each)
}

/// Gives each entity to `each`, but those whose path would be that of another one: of another
/// namespace, or of another project than `project`, which the first one names where it is not known.
/// What stands in the place of an entity goes to the report too.
///
/// # Errors
/// Where a file is not found, and those of `each`.
pub fn each_entity(
    exports: &[PathBuf],
    mapping: &Mapping,
    project: &mut Option<String>,
    report: &mut Report,
    mut each: impl FnMut(&Place, Entity, &mut Report) -> Result<()>,
) -> Result<()> {
    let found = sources(exports)?;
    report.unchecked.extend(found.unchecked);
    let sources = found.files;
    let all = sources.iter().map(|source| source.bytes).sum();
    let progress = Progress::new(all, "entities");
    let (mut before, mut records) = (0, HashMap::new());
    for source in &sources {
        let mut reader = match source.open() {
            Ok(reader) => reader,
            // As any other damage of a file: the rest goes on.
            Err(error) => {
                let file = source.path.to_string_lossy().into();
                report.cannot_read(&Place { file, record: 1 }, format!("{error:#}"));
                continue;
            }
        };
        let mut read = 0;
        while let Some((place, entity)) = reader.next() {
            read += 1;
            match entity {
                Ok(entity) => {
                    report.read += 1;
                    match belongs(&entity.key, mapping, project) {
                        Ok(()) => each(&place, entity, report)?,
                        Err(why) => report.reject(&place, told_path(&entity.key, mapping), why),
                    }
                }
                Err(fault) if fault.is_of_other_database() => {
                    report.read += 1;
                    report.reject(&place, None, fault);
                }
                Err(fault) => report.cannot_read(&place, fault),
            }
            progress.item(before + reader.bytes_read());
        }
        records.insert(source.path.as_path(), read);
        before += source.bytes.unwrap_or_default();
    }
    progress.end();
    let few = found.counted.iter();
    let few = few.filter_map(|counted| too_few(counted, &records));
    report.short.extend(few);
    Ok(())
}

/// The path of an entity as a report has it: not with a step of a kind that gets no ids, which may be an
/// API key whose kind is misspelt in the mapping. Its name may be what is secret.
pub fn told_path(key: &Key, mapping: &Mapping) -> Option<String> {
    mapping.gives_ids_on(key).then(|| path_of(key))
}

/// Fails for an entity whose path would be that of another one, or would tell a secret. A key below
/// another key goes on: no step gives it an id, and `accounts` has to know that its account lacks it.
fn belongs(key: &Key, mapping: &Mapping, project: &mut Option<String>) -> Result<(), String> {
    let above = key.path.split_last().map_or(&[][..], |(_, above)| above);
    let is_key = |kind: &str| mapping.accounts.is_key(kind);
    if !is_key(key.kind()) && above.iter().any(|step| is_key(&step.kind)) {
        return Err("it lies below an API key, whose name no remap file may hold".to_owned());
    }
    if !key.namespace.is_empty() {
        return Err(format!(
            "it lies in the namespace {}, and paths have none: export it as JSON without one, for a \
             remap file of its own",
            key.namespace
        ));
    }
    match project {
        Some(known) if *known != key.project && !key.project.is_empty() => Err(format!(
            "it is of the project {}, and the others are of {known}: a path does not say so",
            key.project
        )),
        None if !key.project.is_empty() => {
            *project = Some(key.project.clone());
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What is to be said where files have fewer records than the metadata says entities.
fn too_few(counted: &Counted, records: &HashMap<&Path, u64>) -> Option<(String, String)> {
    let read = counted.files.iter();
    let read = read
        .filter_map(|file| records.get(file.as_path()))
        .sum::<u64>();
    (read < counted.entities).then(|| {
        let why = format!(
            "{} has {} entities by the export's metadata, and its files have {read}: one of them may \
             be cut; copy them from the bucket again",
            counted.name, counted.entities
        );
        (counted.name.clone(), why)
    })
}
