//! `objects`: what is to be copied between buckets, and whether it was. Copying is the work of
//! `gcloud storage` or `rclone`.
//!
//! An object's old name is `ACCOUNT/ENTITY/…`, its new one `NEW_ID/…`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io::Write;
use std::path::Path;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use datastore_export::Key;

use crate::convert::{account_of, raw};
use crate::id::{Fingerprint, NewId};
use crate::listing::each_object;
use crate::mapping::Mapping;
use crate::remap::{Remap, each_entry};

/// What the URL of one of Google's buckets begins with.
const GOOGLE: &str = "gs://";

/// What the lines of a plan are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Copier {
    /// `gcloud storage rsync`, which copies within the cloud and goes on where it was.
    Gcloud,
    /// `rclone copy`.
    Rclone,
}

/// What a plan has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Lines, of an entity each.
    pub lines: u64,
    /// Folders that are left out, since several entities have them.
    pub left_out: u64,
    /// Objects that belong to no entity.
    pub of_nobody: u64,
}

impl Planned {
    /// Whether an entity has objects, and no folder is left out.
    pub fn is_clean(&self) -> bool {
        self.lines > 0 && self.left_out == 0
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Planned {
            lines,
            left_out,
            of_nobody,
        } = self;
        write!(
            f,
            "{lines} entities, a line each; {left_out} folders are left out"
        )?;
        match of_nobody {
            0 => Ok(()),
            _ => write!(
                f,
                "; {of_nobody} objects are nobody's: no path of the remap file has them"
            ),
        }
    }
}

/// Whose objects lie in an old folder, `ACCOUNT/ENTITY`.
pub(crate) enum Owner {
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
pub(crate) fn owners(remap: &Remap, mapping: &Mapping) -> Result<Vec<(String, Owner)>> {
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
pub(crate) fn parts(old: &str) -> Option<(&str, &str)> {
    let (end, _) = old.match_indices('/').nth(1)?;
    Some((&old[..end], &old[end + 1..]))
}

/// Writes a line for each entity whose kind has objects, and which has some by the `listing` of the
/// old bucket. A copier takes a folder without objects for an error. What the new bucket has already
/// stays, since it may be newer there.
///
/// A folder that several entities have is left out, with a comment before all lines.
///
/// # Errors
/// Where a URL is none of the copier's, the listing is none, or `out` fails.
pub fn plan(
    remap: &Remap,
    mapping: &Mapping,
    (from, to): (&str, &str),
    listing: &Path,
    copier: Copier,
    out: &mut impl Write,
) -> Result<Planned> {
    let (from, to) = (copier.bucket(from)?, copier.bucket(to)?);
    let mut planned = Planned::default();
    let mut with_objects: HashMap<Fingerprint, u64> = HashMap::new();
    each_object(listing, |name, _| {
        match parts(&name) {
            Some((folder, _)) => *with_objects.entry(Fingerprint::of(folder)).or_default() += 1,
            None => planned.of_nobody += 1,
        }
        Ok(())
    })?;
    let mut owners = owners(remap, mapping)?;
    owners.retain(|(old, _)| with_objects.remove(&Fingerprint::of(old)).is_some());
    planned.of_nobody += with_objects.values().sum::<u64>();
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
            planned.left_out += 1;
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
            planned.lines += 1;
        }
    }
    Ok(planned)
}

impl Copier {
    /// As [`bucket`], of a URL that this copier takes.
    fn bucket(self, url: &str) -> Result<&str> {
        let bucket = bucket(url)?;
        let (is_one, form) = match self {
            Copier::Gcloud => (bucket.starts_with(GOOGLE), "gs://BUCKET"),
            Copier::Rclone => (!bucket.starts_with(GOOGLE), "REMOTE:BUCKET"),
        };
        ensure!(
            is_one,
            "{url:?} is none of this copier's (--with): it takes {form}"
        );
        Ok(bucket)
    }
}

/// A bucket's URL without a slash at its end.
///
/// # Errors
/// Where it is none.
pub fn bucket(url: &str) -> Result<&str> {
    let place = url.trim_end_matches('/');
    let name = match place.strip_prefix(GOOGLE) {
        Some(name) => name,
        None => place.rsplit_once(':').map_or("", |(_, name)| name),
    };
    let is_one = !name.is_empty() && !name.starts_with('/') && !place.contains(char::is_whitespace);
    ensure!(
        is_one,
        "{url:?} is no place for objects: gs://BUCKET, or REMOTE:BUCKET of rclone"
    );
    Ok(place)
}

/// A word of a shell's line.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:.,_-".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_bucket_and_is_one_of_its_copiers() {
        for url in ["gs://b", "gs://b/", "o:b", "o:b/c", ":gcs:b"] {
            assert_eq!(bucket(url).unwrap(), url.trim_end_matches('/'));
        }
        for url in ["b", "gs://", "gs:", "o:", "o:/", "s3://b", "gs://a b"] {
            let refused = bucket(url).unwrap_err().to_string();
            assert!(refused.contains("is no place for objects"), "{refused}");
        }
        assert!(Copier::Gcloud.bucket("gs://b").is_ok() && Copier::Rclone.bucket("o:b").is_ok());
        assert!(Copier::Gcloud.bucket("o:b").is_err() && Copier::Rclone.bucket("gs://b").is_err());
    }
}
