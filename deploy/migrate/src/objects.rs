//! `objects`: what is to be copied between buckets, and whether it was. Copying is the work of
//! `gcloud storage` or `rclone`.
//!
//! An object's old name is `ACCOUNT/ENTITY/…`, its new one `NEW_ID/…`.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use datastore_export::Key;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::convert::{account_of, raw};
use crate::id::{Fingerprint, NewId};
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
#[derive(Clone, Copy)]
enum Owner {
    One(NewId),
    /// Entities of several kinds have the same account and id.
    Several,
}

/// The owners of old folders, in the order of the remap file.
fn owners(remap: &Remap, mapping: &Mapping) -> Result<Vec<(String, Owner)>> {
    let mut folders: Vec<(String, Owner)> = Vec::new();
    let mut known: HashMap<Fingerprint, usize> = HashMap::new();
    each_entry(remap.file(), |path, id| {
        let key: Key = path.parse()?;
        if let Some(folder) = old_folder(&key, mapping) {
            match known.entry(Fingerprint::of(&folder)) {
                Entry::Occupied(found) => folders[*found.get()].1 = Owner::Several,
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
/// old bucket; gives how many. A copier takes a folder without objects for an error.
///
/// # Errors
/// Where a URL is none, the listing is none, two entities have one folder, or `out` fails.
pub fn plan(
    remap: &Remap,
    mapping: &Mapping,
    (from, to): (&str, &str),
    listing: &Path,
    copier: Copier,
    out: &mut impl Write,
) -> Result<u64> {
    let (from, to) = (bucket(from)?, bucket(to)?);
    let mut with_objects = HashSet::new();
    each_object(listing, |name, _| {
        with_objects.extend(parts(&name).map(|(folder, _)| Fingerprint::of(folder)));
        Ok(())
    })?;
    let mut lines = 0;
    for (old, owner) in owners(remap, mapping)? {
        if !with_objects.contains(&Fingerprint::of(&old)) {
            continue;
        }
        let Owner::One(new) = owner else {
            bail!(
                "entities of several kinds have the folder {old}: say in the mapping which of these \
                 kinds has objects"
            );
        };
        let from = quoted(&format!("{from}/{old}"));
        let to = quoted(&format!("{to}/{new}"));
        match copier {
            Copier::Gcloud => writeln!(out, "gcloud storage rsync --recursive {from} {to}")?,
            Copier::Rclone => writeln!(out, "rclone copy --checksum {from} {to}")?,
        }
        lines += 1;
    }
    Ok(lines)
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

/// What a listing says of an object, apart from its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    size: u64,
    /// Of the bytes, by the names of the checksums that both tools know.
    crc32c: Option<String>,
    md5: Option<String>,
}

/// An object of `gcloud storage objects list --format=json` or `rclone lsjson -R --hash`.
#[derive(Deserialize)]
struct Listed {
    #[serde(alias = "Path")]
    name: Option<String>,
    #[serde(alias = "Size", deserialize_with = "size")]
    size: Option<i64>,
    #[serde(alias = "crc32cHash")]
    crc32c_hash: Option<String>,
    #[serde(alias = "md5Hash")]
    md5_hash: Option<String>,
    #[serde(rename = "Hashes", default)]
    hashes: HashMap<String, String>,
    #[serde(rename = "IsDir", default)]
    is_folder: bool,
}

fn size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Number(i64),
        Text(String),
    }
    match Option::<Size>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Size::Number(size)) => Ok(Some(size)),
        Some(Size::Text(text)) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// What two listings say of each other.
#[derive(Debug, Default, Serialize)]
pub struct Comparison {
    /// Objects that are there with the same size and checksum.
    pub equal: u64,
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
        match self.is_yes() {
            true => writeln!(out, "YES: nothing is missing and nothing differs."),
            false => writeln!(out, "NO: copy what is missing, and list both again."),
        }
    }
}

/// Compares the listings of the old and the new bucket. Keeps some 100 bytes an object.
///
/// # Errors
/// Where a file is no listing.
pub fn compare(remap: &Remap, mapping: &Mapping, from: &Path, to: &Path) -> Result<Comparison> {
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
            (Some(Owner::Several), _) => comparison.of_several.add(name),
            _ => comparison.of_nobody.add(name),
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
        let same = |one: &Option<String>, other: &Option<String>| {
            one.as_ref()
                .zip(other.as_ref())
                .map(|(one, other)| one == other)
        };
        let checks = [
            same(&facts.crc32c, &found.crc32c),
            same(&facts.md5, &found.md5),
        ];
        if facts.size != found.size || checks.contains(&Some(false)) {
            comparison.different.add(old);
        } else if checks.contains(&Some(true)) {
            comparison.equal += 1;
        } else {
            comparison.unchecked.add(old);
        }
        Ok(())
    })?;
    let mut missing: Vec<String> = by_new_name.into_values().map(|(name, _)| name).collect();
    missing.sort();
    missing
        .into_iter()
        .for_each(|name| comparison.missing.add(name));
    Ok(comparison)
}

/// Gives each object of a listing to a function.
fn each_object(file: &Path, each: impl FnMut(String, Facts) -> Result<()>) -> Result<()> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(opened));
    let read = Objects(each)
        .deserialize(&mut json)
        .and_then(|()| json.end());
    read.with_context(|| {
        format!(
            "{} is no listing: `gcloud storage objects list 'gs://BUCKET/**' \
             --format='json(name,size,crc32c_hash,md5_hash)'` or `rclone lsjson -R --hash` make one",
            file.display()
        )
    })
}

struct Objects<F>(F);

impl<'de, F: FnMut(String, Facts) -> Result<()>> DeserializeSeed<'de> for Objects<F> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(String, Facts) -> Result<()>> Visitor<'de> for Objects<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects with name, size and checksums")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut objects: A) -> Result<(), A::Error> {
        use serde::de::Error as _;
        while let Some(mut listed) = objects.next_element::<Listed>()? {
            if listed.is_folder {
                continue;
            }
            let (name, size) = (listed.name, listed.size);
            let name = name.ok_or_else(|| A::Error::missing_field("name"))?;
            let size = size.and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| A::Error::missing_field("size"))?;
            let facts = Facts {
                size,
                crc32c: listed
                    .crc32c_hash
                    .or_else(|| listed.hashes.remove("crc32c")),
                md5: listed.md5_hash.or_else(|| listed.hashes.remove("md5")),
            };
            (self.0)(name, facts).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
