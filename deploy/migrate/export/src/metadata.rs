//! The files of metadata of an export, which say what else has to be there.
//!
//! `NAME.overall_export_metadata` is a log as LevelDB writes them, with the record `3` and then one
//! message that names the metadata of each kind. `….export_metadata` of a kind is a message that names
//! its files of entities. Google documents neither: this is what the emulators of Google and of others
//! write and read. So what cannot be understood is no error: the export is then not checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use prost::Message;

use crate::log::frames::Frames;
use crate::source::output;
use crate::write::LogWriter;

/// What the file of an export is called, behind the export's name.
pub(crate) const OVERALL: &str = ".overall_export_metadata";
/// What the file about one kind ends in.
pub(crate) const OF_KIND: &str = ".export_metadata";
/// Bytes of one that are looked at: it is a few hundred long, and some for each kind.
const BYTES_MAX: u64 = 1 << 20;
/// The record that comes first in the overall file.
const FIRST_RECORD: &[u8] = b"3";

#[derive(Clone, PartialEq, Message)]
struct Overall {
    #[prost(message, repeated, tag = "1")]
    kinds: Vec<OfOverall>,
}

/// A kind, or all of them together.
#[derive(Clone, PartialEq, Message)]
struct OfOverall {
    #[prost(message, optional, tag = "1")]
    version: Option<Version>,
    /// The path of its metadata, from the folder of the overall file.
    #[prost(bytes = "vec", optional, tag = "2")]
    file: Option<Vec<u8>>,
    #[prost(int64, optional, tag = "3")]
    entities: Option<i64>,
    #[prost(int64, optional, tag = "4")]
    bytes: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Version {
    #[prost(int32, optional, tag = "1")]
    overall: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    entity: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct OfKind {
    #[prost(message, optional, tag = "1")]
    about: Option<About>,
    #[prost(message, repeated, tag = "2")]
    outputs: Vec<Output>,
}

#[derive(Clone, PartialEq, Message)]
struct About {
    #[prost(string, optional, tag = "1")]
    export: Option<String>,
    /// Microseconds since 1970.
    #[prost(int64, optional, tag = "2")]
    began: Option<i64>,
    #[prost(int64, optional, tag = "3")]
    ended: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Output {
    #[prost(string, optional, tag = "1")]
    namespace: Option<String>,
    #[prost(string, optional, tag = "2")]
    file: Option<String>,
}

/// The names, without folders, of the files of kinds that an overall file names, with the number of
/// entities that it says; none if it names no file, or cannot be understood.
pub(crate) fn named_kinds(file: &Path) -> io::Result<BTreeMap<String, Option<u64>>> {
    let mut frames = Frames::new(File::open(file)?.take(BYTES_MAX));
    let mut named = BTreeMap::new();
    while let Some(record) = frames.next() {
        let Ok(record) = record else {
            return Ok(BTreeMap::new());
        };
        let Ok(overall) = Overall::decode(&*record) else {
            continue;
        };
        let names = overall.kinds.into_iter().filter_map(|kind| {
            let file = String::from_utf8(kind.file?).ok()?;
            let name = file.rsplit(['/', '\\']).next()?;
            let entities = kind.entities.and_then(|entities| entities.try_into().ok());
            name.ends_with(OF_KIND).then(|| (name.to_owned(), entities))
        });
        named.extend(names);
    }
    Ok(named)
}

/// The numbers of the files of entities that a kind's metadata names: texts of a message, each behind
/// its length.
pub(crate) fn named_outputs(file: &Path) -> io::Result<BTreeSet<u64>> {
    let mut bytes = vec![];
    File::open(file)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    let named = (1..bytes.len()).filter_map(|at| {
        let name = bytes.get(at..at + usize::from(bytes[at - 1]))?;
        output(str::from_utf8(name).ok()?)
    });
    Ok(named.collect())
}

/// A kind of an export that is written.
pub(crate) struct Written {
    /// The path of its metadata, from the export's folder.
    pub file: String,
    pub entities: u64,
    pub bytes: u64,
}

/// Writes the overall file.
pub(crate) fn write_overall(output: impl Write, kinds: &[Written]) -> io::Result<()> {
    let signed = |count: u64| i64::try_from(count).ok();
    let kinds = kinds.iter().map(|kind| OfOverall {
        version: Some(Version {
            overall: Some(2),
            entity: Some(3),
        }),
        file: Some(kind.file.clone().into_bytes()),
        entities: signed(kind.entities),
        bytes: signed(kind.bytes),
    });
    let overall = Overall {
        kinds: kinds.collect(),
    };
    let mut log = LogWriter::new(output);
    log.add(FIRST_RECORD)?;
    if !overall.kinds.is_empty() {
        log.add(&overall.encode_to_vec())?;
    }
    log.flush()
}

/// The bytes of a kind's file, with `files` of entities.
pub(crate) fn of_kind(export: &str, files: u64) -> Vec<u8> {
    let outputs = (0..files).map(|number| Output {
        namespace: Some(String::new()),
        file: Some(format!("output-{number}")),
    });
    let metadata = OfKind {
        about: Some(About {
            export: Some(export.to_owned()),
            began: Some(0),
            ended: Some(0),
        }),
        outputs: outputs.collect(),
    };
    metadata.encode_to_vec()
}
