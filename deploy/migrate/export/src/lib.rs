//! Reads what Google Cloud Datastore, or Firestore in Datastore mode, exports: entities, each with
//! its place. Three forms are read, and a file's content says which one it is in.
//!
//! 1. The folder that `gcloud datastore export` makes. Its files `output-0`, `output-1` … are logs
//!    as LevelDB writes them, and each record of a log is one `EntityProto`. Files of metadata are
//!    only asked what else has to be there.
//! 2. JSON of the REST API, one `v1.Entity` a line.
//! 3. Plain JSON, one object a line, with `key` or `__key__` as text such as
//!    `Account:public/Evaluation:5634161670881280` or as a list of `{kind, id}` or `{kind, name}`.
//!    All other members are properties.
//!
//! A file may be compressed with gzip or zstd, and `-` is standard input.
//!
//! Memory is bounded by one entity, [`ENTITY_BYTES_MAX`], whatever the size of a file; zstd may take
//! 128 MiB more. Nothing is skipped in silence: whatever is not read as an entity is a [`Fault`] at a
//! [`Place`].

mod compressed;
mod decode;
mod fault;
mod json;
mod key;
mod lines;
mod log;
mod metadata;
mod plain;
mod proto;
mod reader;
mod rest;
mod source;
mod value;
pub mod write;

pub use fault::{Fault, Place};
pub use key::{Id, Key, KeyError, Step};
pub use lines::{Lines, decode_line, read_lines};
pub use log::{Log, decode_record, read_log};
pub use reader::Reader;
pub use source::{Counted, Source, Sources, sources};
pub use value::{Entity, Value};

/// Bytes of a record or line that is read; a longer one is a fault. Datastore itself keeps no
/// entity over 1 MiB, and JSON of such a one may be some times as long.
pub const ENTITY_BYTES_MAX: usize = 20 << 20;

/// Entities within entities that are read; deeper ones are a fault. Datastore allows 20.
pub const EMBEDDED_DEPTH_MAX: usize = 32;
