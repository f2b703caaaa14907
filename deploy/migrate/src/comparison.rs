//! `objects verify`: whether every old object has its copy in the new bucket.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::id::Fingerprint;
use crate::listing::{Facts, each_object};
use crate::mapping::Mapping;
use crate::objects::{Owner, owners, parts};
use crate::remap::Remap;

/// Names that a report lists.
const NAMED_MAX: usize = 1_000;

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

/// Compares the listings of the old and the new bucket. Keeps some 150 bytes an object.
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
