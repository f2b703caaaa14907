//! `ids`: a new id for each path of an export that has none yet.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use datastore_export::{Entity, Key};

use crate::convert::{convert, id_from, path_of};
use crate::export::{each_entity, each_of, is_read_once, told_path};
use crate::id::NewId;
use crate::mapping::Mapping;
use crate::rejection::Rejection;
use crate::remap::{Addition, Remap};
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
    let seed = agreed(&remap, seed)?;
    remap.state.seed = Some(seed.clone());
    let mut report = Report::default();
    let mut project = remap.state.project.clone();
    let mut assigning = Assigning {
        addition: remap.add()?,
        seed,
        mapping,
    };
    each_entity(
        exports,
        mapping,
        &mut project,
        &mut report,
        |place, entity, report| {
            let kind = entity.key.kind();
            if !mapping.gives_ids_on(&entity.key) {
                report.count(kind, why_none(kind, mapping));
                return Ok(());
            }
            match assigning.assign(&entity, report) {
                Ok(what) => report.count(kind, what),
                Err(why) => report.reject(place, Some(path_of(&entity.key)), why),
            }
            Ok(())
        },
    )?;
    report.refuse_if_empty();
    let mut addition = assigning.addition;
    if report.refused.is_some() {
        drop(addition);
        return Ok((report, 0, remap.len()));
    }
    addition.note_project(project);
    let added = addition.finish()?;
    remap.save_state()?;
    match is_read_once(exports) {
        true => {
            let why = "standard input is read once: whether references lead to ids was not checked";
            report.unchecked.insert(why.to_owned());
        }
        false => report_dangling(exports, mapping, &remap, &mut report)?,
    }
    Ok((report, added, remap.len()))
}

/// Why an entity of a kind gets no id.
fn why_none(kind: &str, mapping: &Mapping) -> &'static str {
    if !mapping.knows(kind) {
        "without an id: the mapping has no such kind"
    } else if mapping.accounts.is_key(kind) || !mapping.gives_ids(kind) {
        "without an id of its own"
    } else {
        "without an id: it lies below what gets none"
    }
}

/// The seed of this remap file.
fn agreed(remap: &Remap, seed: Option<String>) -> Result<String> {
    match (&remap.state.seed, seed) {
        (Some(known), Some(other)) if *known != other => bail!(
            "the ids of {} were made with the seed {known:?}: with another one the rest would \
             follow another rule",
            remap.file().display()
        ),
        (Some(known), _) => Ok(known.clone()),
        (None, Some(seed)) => Ok(seed),
        (None, None) => bail!("--seed is needed once: the name of the old project, for one"),
    }
}

/// New ids on their way into a remap file.
struct Assigning<'a> {
    addition: Addition<'a>,
    seed: String,
    mapping: &'a Mapping,
}

impl Assigning<'_> {
    /// Gives an entity its id, and those above it theirs.
    fn assign(&mut self, entity: &Entity, report: &mut Report) -> Result<&'static str, String> {
        let told = |error: anyhow::Error| format!("{error:#}");
        let kind = self.mapping.kinds.get(entity.key.kind());
        let given = kind.map_or(Ok(None), |kind| id_from(entity, kind));
        let path = path_of(&entity.key);
        let given = given.map_err(|rejection| rejection.to_string())?;
        let mut above = entity.key.parent();
        while let Some(key) = above {
            self.note_above(&key, report).map_err(told)?;
            above = key.parent();
        }
        match (self.addition.id(&path), given) {
            (Some(known), Some(given)) if known != given => Err(format!(
                "its property holds the id {given}, and it has {known} already"
            )),
            (Some(_), _) => Ok("known"),
            (None, given) => {
                let id = given.unwrap_or_else(|| NewId::of(&self.seed, &path));
                let inserted = self.addition.insert(&path, id, self.mapping);
                inserted.map_err(told)?;
                Ok("new")
            }
        }
    }

    /// What stands above an entity has an id too, though it may be no entity; not where a property
    /// of its own holds it: a made-up one could never be taken back.
    fn note_above(&mut self, key: &Key, report: &mut Report) -> Result<()> {
        let path = path_of(key);
        let kind = self.mapping.kinds.get(key.kind());
        let has_own = kind.is_some_and(|kind| kind.id_from.is_some());
        if has_own || self.addition.id(&path).is_some() {
            return Ok(());
        }
        let id = NewId::of(&self.seed, &path);
        self.addition.insert(&path, id, self.mapping)?;
        report.count(key.kind(), "above others");
        Ok(())
    }
}

/// Reports references to what has no id, now that all have one.
fn report_dangling(
    exports: &[PathBuf],
    mapping: &Mapping,
    remap: &Remap,
    report: &mut Report,
) -> Result<()> {
    // What is no entity is in the report already.
    let mut once = Report::default();
    each_of(exports, mapping, remap, &mut once, |place, entity, _| {
        let converted = convert(&entity, mapping, remap);
        if let Err(rejection @ (Rejection::Dangling(..) | Rejection::EmptyReference(_))) = converted
        {
            report.reject(place, told_path(&entity.key, mapping), rejection);
        }
        Ok(())
    })
}
