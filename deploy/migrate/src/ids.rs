//! `ids`: a new id for each path of an export that has none yet.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::convert::{id_from, path_of};
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
    let mut addition = remap.add()?;
    each_entity(exports, |place, entity| {
        let entity = match entity {
            Ok(entity) => entity,
            Err(fault) => {
                report.reject(&place, None, fault);
                return Ok(());
            }
        };
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
    remap.save_state()?;
    Ok((report, added, remap.len()))
}
