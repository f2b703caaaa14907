//! `ids`: a new id for each path of an export that has none yet.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use datastore_export::Key;

use crate::convert::{Rejection, convert, id_from, path_of};
use crate::export::each_entity;
use crate::id::NewId;
use crate::mapping::Mapping;
use crate::remap::Remap;
use crate::report::Report;

/// Gives ids to the entities of these exports, and to what stands above them. Gives the report, and
/// how many are new and how many there are in all.
///
/// # Errors
/// Where the remap file is edited, another seed was used before, or nothing can be written.
pub fn assign(
    exports: &[PathBuf],
    out: &Path,
    seed: Option<String>,
    mapping: &Mapping,
) -> Result<(Report, u64, usize)> {
    let mut remap = Remap::open_or_new(out, mapping)?;
    let seed = match (&remap.state.seed, seed) {
        (Some(known), Some(other)) if *known != other => bail!(
            "the ids of {} were made with the seed {known:?}: with another one the rest would \
             follow another rule",
            out.display()
        ),
        (Some(known), _) => known.clone(),
        (None, Some(seed)) => seed,
        (None, None) => bail!("--seed is needed once: the name of the old project, for one"),
    };
    remap.state.seed = Some(seed.clone());
    let mut report = Report::default();
    let mut project = remap.state.project.clone();
    let mut addition = remap.add()?;
    each_entity(exports, |place, entity| {
        let entity = match entity {
            Ok(entity) => entity,
            Err(fault) => {
                report.reject(&place, None, fault);
                return Ok(());
            }
        };
        if let Err(why) = belongs(&entity.key, &mut project) {
            report.reject(&place, Some(path_of(&entity.key)), why);
            return Ok(());
        }
        // Its key may be what it is secret for.
        if entity.key.kind() == mapping.accounts.key_kind {
            report.count(entity.key.kind(), "without an id of its own");
            return Ok(());
        }
        let kind = mapping.kinds.get(entity.key.kind());
        let given = match kind.map_or(Ok(None), |kind| id_from(&entity, kind)) {
            Ok(given) => given,
            Err(rejection) => {
                report.reject(&place, Some(path_of(&entity.key)), rejection);
                return Ok(());
            }
        };
        let mut above = entity.key.parent();
        while let Some(key) = above {
            let path = path_of(&key);
            if addition.id(&path).is_none() {
                addition.insert(&path, NewId::of(&seed, &path), mapping)?;
                report.count(key.kind(), "above others");
            }
            above = key.parent();
        }
        let path = path_of(&entity.key);
        match (addition.id(&path), given) {
            (Some(known), Some(given)) if known != given => {
                let why = format!("its property holds the id {given}, and it has {known} already");
                report.reject(&place, Some(path), why);
            }
            (Some(_), _) => report.count(entity.key.kind(), "known"),
            (None, given) => {
                let id = given.unwrap_or_else(|| NewId::of(&seed, &path));
                match addition.insert(&path, id, mapping) {
                    Ok(()) => report.count(entity.key.kind(), "new"),
                    Err(collision) => report.reject(&place, Some(path), format!("{collision:#}")),
                }
            }
        }
        Ok(())
    })?;
    let added = addition.finish()?;
    remap.state.project = project;
    remap.save_state()?;
    if !exports.iter().any(|export| export.as_os_str() == "-") {
        report_dangling(exports, mapping, &remap, &mut report)?;
    }
    Ok((report, added, remap.len()))
}

/// Fails for an entity whose path would be that of another one.
fn belongs(key: &Key, project: &mut Option<String>) -> Result<(), String> {
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

/// Reports references to what has no id, now that all have one.
fn report_dangling(
    exports: &[PathBuf],
    mapping: &Mapping,
    remap: &Remap,
    report: &mut Report,
) -> Result<()> {
    each_entity(exports, |place, entity| {
        if let Ok(entity) = entity
            && let Err(rejection @ Rejection::Dangling(..)) = convert(&entity, mapping, remap)
        {
            report.reject(&place, Some(path_of(&entity.key)), rejection);
        }
        Ok(())
    })
}
