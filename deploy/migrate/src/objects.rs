//! `objects`: what is to be copied between buckets, and whether it was. Copying is the work of
//! `gcloud storage` or `rclone`.
//!
//! An object's old name is `ACCOUNT/ENTITY/…`, its new one `NEW_ID/…`.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use datastore_export::Key;
use serde::Serialize;

use crate::convert::{account_of, raw};
use crate::id::{Fingerprint, NewId};
use crate::listing::{Facts, each_object};
use crate::mapping::Mapping;
use crate::remap::{Remap, each_entry};

/// Names that a report lists.
const NAMED_MAX: usize = 1_000;

/// What the lines of a plan are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Copier {
    /// `gcloud storage rsync`, which copies within the cloud and goes on where it was.
    Gcloud,
    /// `rclone copy`.
    Rclone,
}

/// Whose objects lie in an old folder, `ACCOUNT/ENTITY`.
enum Owner {
    One(NewId),
    /// Entities of several kinds have the same account and id.
    Several(Vec<NewId>),
}

impl Owner {
    /// The folder is another entity's too.
    fn add(&mut self, id: NewId) {
        match self {
            Owner::One(first) => *self = Owner::Several(vec![*first, id]),
            Owner::Several(ids) => ids.push(id),
        }
    }
}

/// The owners of old folders, in the order of the remap file.
fn owners(remap: &Remap, mapping: &Mapping) -> Result<Vec<(String, Owner)>> {
    let mut folders: Vec<(String, Owner)> = Vec::new();
    let mut known: HashMap<Fingerprint, usize> = HashMap::new();
    each_entry(remap.file(), |path, id| {
        let key: Key = path.parse()?;
        if let Some(folder) = old_folder(&key, mapping) {
            match known.entry(Fingerprint::of(&folder)) {
                Entry::Occupied(found) => folders[*found.get()].1.add(id),
                Entry::Vacant(place) => {
                    place.insert(folders.len());
                    folders.push((folder, Owner::One(id)));
                }
            }
        }
        Ok(())
    })?;
    Ok(folders)
}

fn old_folder(key: &Key, mapping: &Mapping) -> Option<String> {
    let kind = mapping.kinds.get(key.kind())?;
    let account = account_of(key, mapping)?;
    let id = key.id()?;
    (kind.objects && key.path.len() > 1).then(|| format!("{}/{}", raw(&account.id), raw(id)))
}

/// The first two parts of an old name, and the rest.
fn parts(old: &str) -> Option<(&str, &str)> {
    let (end, _) = old.match_indices('/').nth(1)?;
    Some((&old[..end], &old[end + 1..]))
}

/// Writes a line for each entity whose kind has objects, and which has some by the `listing` of the
/// old bucket; gives how many. A copier takes a folder without objects for an error. What the new
/// bucket has already stays, since it may be newer there.
///
/// A folder that several entities have is left out, with a comment before all lines; gives how many
/// of these there are too.
///
/// # Errors
/// Where a URL is none, the listing is none, or `out` fails.
pub fn plan(
    remap: &Remap,
    mapping: &Mapping,
    (from, to): (&str, &str),
    listing: &Path,
    copier: Copier,
    out: &mut impl Write,
) -> Result<(u64, u64)> {
    let (from, to) = (bucket(from)?, bucket(to)?);
    let mut with_objects = HashSet::new();
    each_object(listing, |name, _| {
        with_objects.extend(parts(&name).map(|(folder, _)| Fingerprint::of(folder)));
        Ok(())
    })?;
    let mut owners = owners(remap, mapping)?;
    owners.retain(|(old, _)| with_objects.contains(&Fingerprint::of(old)));
    let (mut lines, mut left_out) = (0, 0);
    for (old, owner) in &owners {
        if let Owner::Several(ids) = owner {
            let to: Vec<String> = ids.iter().map(|id| format!("{to}/{id}")).collect();
            // Quoted, since a name may hold the end of a line, and the comment would end there.
            writeln!(
                out,
                "# {old:?} is left out: entities of several kinds have this folder. Copy by hand what \
                 belongs to each, to {}, and name the folder with --accept to `objects verify`; or say \
                 in the mapping which of these kinds has objects",
                to.join(" and ")
            )?;
            left_out += 1;
        }
    }
    for (old, owner) in &owners {
        if let Owner::One(new) = owner {
            let from = quoted(&format!("{from}/{old}"));
            let to = quoted(&format!("{to}/{new}"));
            let copy = match copier {
                Copier::Gcloud => "gcloud storage rsync --recursive --no-clobber",
                Copier::Rclone => "rclone copy --checksum --ignore-existing",
            };
            writeln!(out, "{copy} {from} {to}")?;
            lines += 1;
        }
    }
    Ok((lines, left_out))
}

/// A bucket's URL without a slash at its end.
///
/// # Errors
/// Where it is none.
pub fn bucket(url: &str) -> Result<&str> {
    let url = url.trim_end_matches('/');
    match url.contains(':') && !url.contains(char::is_whitespace) {
        true => Ok(url),
        false => bail!("{url:?} is no place for objects: gs://BUCKET, or REMOTE:BUCKET of rclone"),
    }
}

/// A word of a shell's line.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:.,_-".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// What two listings say of each other.
#[derive(Debug, Default, Serialize)]
pub struct Comparison {
    /// Objects that are there with the same size and checksum.
    pub equal: u64,
    /// Objects that are not as they should be, where a person has said that this may be.
    pub accepted: u64,
    /// Old names of objects that the new bucket lacks.
    pub missing: Names,
    /// Old names of objects whose copies have another size or checksum.
    pub different: Names,
    /// Old names of objects that are equal in size, where no checksum is in both listings.
    pub unchecked: Names,
    /// Old names that belong to no entity of the remap file.
    pub of_nobody: Names,
    /// Old names that belong to entities of several kinds.
    pub of_several: Names,
    /// New names that no old object has.
    pub left_over: Names,
}

/// Some names, and how many there are.
#[derive(Debug, Default, Serialize)]
pub struct Names {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Vec<String>,
}

impl Names {
    fn add(&mut self, name: String) {
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(name);
        }
    }
}

impl Comparison {
    /// Whether every old object is there, as it was.
    pub fn is_yes(&self) -> bool {
        let Comparison {
            missing,
            different,
            unchecked,
            of_nobody,
            of_several,
            ..
        } = self;
        let faults = [missing, different, unchecked, of_nobody, of_several];
        faults.iter().all(|names| names.count == 0)
    }

    /// Notes an old name under what it is, unless a person has accepted the object or its folder.
    fn note(
        &mut self,
        accepted: &HashSet<String>,
        name: String,
        under: impl FnOnce(&mut Comparison) -> &mut Names,
    ) {
        let folder = parts(&name).map_or("", |(folder, _)| folder);
        match accepted.contains(&name) || accepted.contains(folder) {
            true => self.accepted += 1,
            false => under(self).add(name),
        }
    }

    /// Prints it for people.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{} objects are there as they were", self.equal)?;
        for (names, what) in [
            (&self.missing, "missing: the new bucket lacks it"),
            (
                &self.different,
                "different: its copy has another size or checksum",
            ),
            (
                &self.unchecked,
                "unchecked: the listings share no checksum of it",
            ),
            (&self.of_nobody, "of nobody: no path of the remap file"),
            (
                &self.of_several,
                "of several: entities of several kinds have its folder",
            ),
            (
                &self.left_over,
                "left over: no old object has this new name",
            ),
        ] {
            for name in names.first.iter().take(20) {
                writeln!(out, "{name}: {what}")?;
            }
            if names.count > 20 {
                writeln!(out, "… and {} more {what}", names.count - 20)?;
            }
        }
        let but_for = match self.accepted {
            0 => String::new(),
            accepted => format!(", but for {accepted} that a person has accepted"),
        };
        match self.is_yes() {
            true => writeln!(out, "YES: nothing is missing and nothing differs{but_for}."),
            false => writeln!(
                out,
                "NO: copy what is missing, and list both again; what differs, a person decides about."
            ),
        }
    }
}

/// Compares the listings of the old and the new bucket. Keeps some 100 bytes an object.
///
/// `accepted` are old names of objects, and old folders, that a person has looked at.
///
/// # Errors
/// Where a file is no listing.
pub fn compare(
    remap: &Remap,
    mapping: &Mapping,
    from: &Path,
    to: &Path,
    accepted: &HashSet<String>,
) -> Result<Comparison> {
    let mut by_new_name: HashMap<Fingerprint, (String, Facts)> = HashMap::new();
    let mut comparison = Comparison::default();
    let owners = owners(remap, mapping)?.into_iter();
    let owners: HashMap<Fingerprint, Owner> = owners
        .map(|(folder, owner)| (Fingerprint::of(folder), owner))
        .collect();
    let mut objects = 0;
    each_object(from, |name, facts| {
        objects += 1;
        let found = parts(&name);
        let owner = found.and_then(|(folder, _)| owners.get(&Fingerprint::of(folder)));
        match (owner, found) {
            (Some(Owner::One(id)), Some((_, rest))) => {
                let new = Fingerprint::of(format!("{id}/{rest}"));
                by_new_name.insert(new, (name, facts));
            }
            (Some(Owner::Several(_)), _) => {
                comparison.note(accepted, name, |found| &mut found.of_several);
            }
            _ => comparison.note(accepted, name, |found| &mut found.of_nobody),
        }
        Ok(())
    })?;
    ensure!(
        objects > 0,
        "{} lists no object: nothing can be said of none. Look whether it is of the old bucket",
        from.display()
    );
    each_object(to, |name, found| {
        let Some((old, facts)) = by_new_name.remove(&Fingerprint::of(&name)) else {
            comparison.left_over.add(name);
            return Ok(());
        };
        let same = |one: &Option<Vec<u8>>, other: &Option<Vec<u8>>| {
            one.as_ref()
                .zip(other.as_ref())
                .map(|(one, other)| one == other)
        };
        let checks = [
            same(&facts.crc32c, &found.crc32c),
            same(&facts.md5, &found.md5),
        ];
        if facts.size != found.size || checks.contains(&Some(false)) {
            comparison.note(accepted, old, |found| &mut found.different);
        } else if checks.contains(&Some(true)) {
            comparison.equal += 1;
        } else {
            comparison.note(accepted, old, |found| &mut found.unchecked);
        }
        Ok(())
    })?;
    let mut missing: Vec<String> = by_new_name.into_values().map(|(name, _)| name).collect();
    missing.sort();
    for name in missing {
        comparison.note(accepted, name, |found| &mut found.missing);
    }
    Ok(comparison)
}
