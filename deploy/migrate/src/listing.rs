//! Listings of buckets, as `gcloud storage` and `rclone` write them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};

use crate::id::Fingerprint;

/// What a listing says of an object, apart from its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) size: u64,
    /// Of the bytes, by the names of the checksums that both tools know. One that cannot be read is
    /// none.
    pub(crate) crc32c: Option<Vec<u8>>,
    pub(crate) md5: Option<Vec<u8>>,
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

/// Gives each object of a listing to a function. A name that comes twice is refused, by the line that it
/// is on: of several versions nobody can say which one was meant.
pub(crate) fn each_object(
    file: &Path,
    mut each: impl FnMut(String, Facts) -> Result<()>,
) -> Result<()> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(opened));
    let mut names = HashSet::new();
    let once = |name: String, facts| {
        ensure!(
            names.insert(Fingerprint::of(&name)),
            "{name:?} is there twice, as with versions of objects: list only the newest"
        );
        each(name, facts)
    };
    let read = Objects(once)
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
        while let Some(listed) = objects.next_element::<Listed>()? {
            if listed.is_folder {
                continue;
            }
            let (name, size) = (listed.name, listed.size);
            let name = name.ok_or_else(|| A::Error::missing_field("name"))?;
            let size = size.and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| A::Error::missing_field("size"))?;
            let facts = Facts {
                size,
                crc32c: checksum(listed.crc32c_hash, listed.hashes.get("crc32c")),
                md5: checksum(listed.md5_hash, listed.hashes.get("md5")),
            };
            (self.0)(name, facts).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// The bytes of a checksum: gcloud writes them in base64, rclone in hex digits.
fn checksum(of_gcloud: Option<String>, of_rclone: Option<&String>) -> Option<Vec<u8>> {
    let bytes = match of_gcloud {
        Some(base64) => STANDARD.decode(base64).ok(),
        None => hex::decode(of_rclone?).ok(),
    };
    bytes.filter(|bytes| !bytes.is_empty())
}
