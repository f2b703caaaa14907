//! `delete-old plan`: what can go, once everything has been found where it should be. Deletes
//! nothing.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use datastore_export::Key;
use jiff::{SignedDuration, Timestamp};

use crate::convert::{account_of, raw};
use crate::mapping::Mapping;
use crate::objects::{bucket, quoted};
use crate::remap::{Remap, each_entry};
use crate::state::{Held, Verified};

/// How long a comparison counts: what is written later, or lost, is not in it.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Writes the steps, for a person to type one by one. `file` is the mapping's, where one was named.
///
/// # Errors
/// Where entities or objects were not found to be there, with this very remap file, at most [`AGE_MAX`]
/// ago.
pub fn plan(
    remap: &Remap,
    mapping: &Mapping,
    file: Option<&Path>,
    project: &str,
    from: &str,
    out: &mut impl Write,
) -> Result<()> {
    let from = bucket(from)?;
    let (entities, objects) = verified(remap, project, from)?;
    let held = held(entities)?;
    let (kinds, folders) = what_can_go(remap, mapping)?;
    let listing = "--format='json(name,size,crc32c_hash,md5_hash)'";
    let all = quoted(&format!("{from}/**"));
    let mapped = file.map(|file| format!(" --mapping {}", quoted(&file.to_string_lossy())));
    let mapped = mapped.unwrap_or_default();
    writeln!(
        out,
        "# {} entities were verified at {:.0}, {} objects at {:.0}, both with the remap file
# of SHA-256 {}.
# The entities are in the database {}:
# go on only if that is the one that the platform reads. Nothing below has been done. Keep the remap file
# and the export for as long as anybody may know an old id.

# 0. List both buckets once more and compare them, right before anything goes: below, whole folders of
# accounts go, also with what was written into them since. Go on only if this says YES, with no other
# --accept than before.
gcloud storage objects list {all} {listing} > OLD.json
gcloud storage objects list 'gs://NEW/**' {listing} > NEW.json
datastore-migrate objects verify --remap {}{mapped} --bucket {} --from OLD.json --to NEW.json

# 1. One more export, kept apart: what is deleted is in it.
gcloud datastore export --project {} --kinds {} gs://BUCKET-TO-KEEP

# Kinds that the mapping leaves out are not in here: accounts and keys were not verified by this.
",
        entities.count,
        entities.at,
        objects.count,
        objects.at,
        entities.remap_sha256,
        held,
        quoted(&remap.file().to_string_lossy()),
        quoted(from),
        quoted(project),
        quoted(&kinds.iter().cloned().collect::<Vec<_>>().join(",")),
    )?;
    print_accepted(entities, out)?;
    print_objects(from, &folders, out)?;
    print_entities(project, &kinds, out)
}

/// Names what was accepted and would be lost.
fn print_accepted(entities: &Verified, out: &mut impl Write) -> Result<()> {
    let Verified {
        accepted, absent, ..
    } = entities;
    if *accepted > 0 {
        writeln!(
            out,
            "# Besides, {accepted} entities differ, are missing or were rejected, as a person has accepted.\n"
        )?;
    }
    if !absent.is_empty() {
        writeln!(
            out,
            "# Accepted, and not in the new place; the old one may be the only copy. Go on only if these \
             may be lost:"
        )?;
        for path in absent {
            writeln!(out, "#   {path}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The checks that have said yes, of this project and this bucket.
fn verified<'a>(
    remap: &'a Remap,
    project: &str,
    from: &str,
) -> Result<(&'a Verified, &'a Verified)> {
    ensure!(
        from.starts_with("gs://"),
        "{from} is no bucket of gcloud: name the one that was verified as gs://BUCKET; to delete \
         elsewhere, use that place's own tool"
    );
    let state = &remap.state;
    if let Some(known) = &state.project {
        ensure!(
            known == project,
            "nothing may go: the entities that were verified are of the project {known}, not of \
             {project}"
        );
    }
    let entities = said_yes(remap, state.entities_verified.as_ref(), "verify EXPORT…")?;
    let command = "objects verify --bucket URL --from LISTING --to LISTING";
    let objects = said_yes(remap, state.objects_verified.as_ref(), command)?;
    ensure!(
        objects.of.iter().any(|of| of == from),
        "nothing may go: the objects that were verified are those of {}, not of {from}",
        objects.of.join(", ")
    );
    Ok((entities, objects))
}

/// What the entities were held against: the state of an older version of this tool does not say.
fn held(entities: &Verified) -> Result<&Held> {
    let held = entities.held.as_ref();
    held.context(
        "nothing may go: where the entities were verified is not known. Run `verify` again",
    )
}

/// The kinds that were moved, and the folders of accounts in which they have objects.
fn what_can_go(remap: &Remap, mapping: &Mapping) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let mut kinds = BTreeSet::new();
    let mut folders = BTreeSet::new();
    each_entry(remap.file(), |path, _| {
        if let Ok(key) = path.parse::<Key>() {
            let kind = mapping.kinds.get(key.kind());
            // What was not moved was not verified either.
            let kind = kind.filter(|kind| kind.left_out.is_none());
            if kind.is_some() {
                kinds.insert(key.kind().to_owned());
            }
            if kind.is_some_and(|kind| kind.objects)
                && let Some(account) = account_of(&key, mapping)
            {
                folders.insert(raw(&account.id));
            }
        }
        Ok(())
    })?;
    Ok((kinds, folders))
}

/// Writes the step of the objects.
fn print_objects(from: &str, folders: &BTreeSet<String>, out: &mut impl Write) -> Result<()> {
    writeln!(
        out,
        "# 2. Objects: first by a rule that can be taken back for a week. It takes the place of the rules that the
# bucket has: add those to the file.
cat > lifecycle.json <<'END'"
    )?;
    let prefixes: Vec<String> = folders.iter().map(|folder| format!("{folder}/")).collect();
    let rule = serde_json::json!({ "rule": [{
        "action": { "type": "Delete" },
        "condition": { "daysSinceCustomTime": 7, "matchesPrefix": prefixes },
    }] });
    writeln!(out, "{rule:#}\nEND")?;
    for folder in folders {
        let folder = quoted(&format!("{from}/{folder}/**"));
        writeln!(
            out,
            "gcloud storage objects update --custom-time \"$(date -u +%FT%TZ)\" {folder}"
        )?;
    }
    writeln!(
        out,
        "gcloud storage buckets update {} --lifecycle-file lifecycle.json",
        quoted(from)
    )?;
    Ok(())
}

/// Writes the step of the entities.
fn print_entities(project: &str, kinds: &BTreeSet<String>, out: &mut impl Write) -> Result<()> {
    writeln!(
        out,
        "\n# 3. Entities, kind by kind, in the console or with these; of the default namespace alone, since no other \
         was verified:"
    )?;
    for kind in kinds {
        writeln!(
            out,
            "gcloud firestore bulk-delete --project {} --namespace-ids '(default)' --collection-ids {}",
            quoted(project),
            quoted(kind)
        )?;
    }
    Ok(())
}

fn said_yes<'a>(
    remap: &Remap,
    verified: Option<&'a Verified>,
    command: &str,
) -> Result<&'a Verified> {
    match verified {
        None => bail!("nothing may go: `datastore-migrate {command}` has not said yes yet"),
        Some(verified) if Some(&*verified.remap_sha256) != remap.sha256() => bail!(
            "nothing may go: `datastore-migrate {command}` said yes at {} with another state of the \
             remap file. Run it again",
            verified.at
        ),
        Some(verified) if Timestamp::now().duration_since(verified.at) > AGE_MAX => bail!(
            "nothing may go: `datastore-migrate {command}` said yes at {:.0}, more than {} days ago. Run it \
             again, on what is there now",
            verified.at,
            AGE_MAX.as_hours() / 24
        ),
        Some(verified) => Ok(verified),
    }
}
