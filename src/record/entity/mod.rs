//! Decoding: a record's key and value → the raw BSON of its entity, by the record contract. Pure.

mod walk;

use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use bson::Document;
use serde::Deserialize;

pub(super) use self::walk::is_unsafe_top_level;
use self::walk::{Entity, Walk};
use super::document::{DOCUMENT_BYTES_MAX, Encoder, MARGIN, ROOM_BYTES_MAX, Scratch};
use super::json::{self, Malformed};
use super::mapping::{CollectionId, Mapping};

/// An entity may be nested this deep; the entity itself is level 1.
pub(super) const DEPTH_MAX: usize = 100;
/// Capacity of the buffer for unescaped names that is kept from one record to the next.
const KEPT_NAME_BYTES_MAX: usize = 64 * 1024;

/// Room for documents that most fit: it is made once. That for larger ones is made each time.
const ROOM_BYTES: usize = 16 * 1024;

/// What a record without a value means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tombstones {
    /// Nothing.
    #[default]
    Ignore,
    /// Its entity is deleted.
    Delete,
}

/// What a record is decoded to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// An entity to upsert.
    Accepted {
        /// Where to.
        collection: CollectionId,
        /// Its fields as a BSON document, without `_id`, as a range of the buffer it was appended
        /// to.
        document: Range<usize>,
        /// How many top-level names its text has: the document has as many at most.
        names: u32,
    },
    /// The entity with this key is to be deleted from every collection.
    Delete,
    /// Nothing to store.
    Skipped(Skip),
    /// Cannot be stored.
    Rejected(Reason),
}

/// Why a record is skipped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Skip {
    /// It has no value, and [`Tombstones::Ignore`] is set.
    Tombstone,
    /// Its entity belongs to another one.
    NullId,
}

/// Why a record is rejected, in the order of the checks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Reason {
    /// The value is not a JSON object in UTF-8.
    MalformedValue,
    /// The key is missing or not UTF-8.
    MalformedKey,
    /// The id is missing, null, or not a string.
    MissingId,
    /// The key is not the id.
    KeyMismatch,
    /// The kind is missing or not a string.
    MissingKind,
    /// The kind has no collection.
    UnknownKind,
    /// A map is neither an object nor null.
    MalformedLabels,
    /// A name that a document cannot hold, or that `$set` would take for a path or an operator.
    UnsafeFieldName,
    /// An integer beyond 64 bits, or a number beyond the largest double.
    NumberOutOfRange,
    /// Nested deeper than 100 levels.
    TooDeep,
    /// More than 16 MiB as a document.
    TooLarge,
    /// The server refused this one write.
    WriteError,
}

/// The server's word about one write that it refuses.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The server's error code.
    pub code: i32,
    /// The server's message; it may quote the document, so it is kept with it and never logged.
    pub message: String,
    /// What the server says beside it, as a validator's rules that the document does not meet.
    pub info: Option<Box<Document>>,
}

impl Refusal {
    /// A person's word, in place of the server's.
    pub fn of_a_person() -> Refusal {
        Refusal {
            code: 0,
            message: "rejected by a person, with `offsets resolve --reject`".to_owned(),
            info: None,
        }
    }
}

impl Reason {
    /// Every reason, in the order of the checks.
    pub const ALL: [Self; 12] = [
        Self::MalformedValue,
        Self::MalformedKey,
        Self::MissingId,
        Self::KeyMismatch,
        Self::MissingKind,
        Self::UnknownKind,
        Self::MalformedLabels,
        Self::UnsafeFieldName,
        Self::NumberOutOfRange,
        Self::TooDeep,
        Self::TooLarge,
        Self::WriteError,
    ];

    /// The name that dead letters, metrics and logs carry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedValue => "malformed_value",
            Self::MalformedKey => "malformed_key",
            Self::MissingId => "missing_id",
            Self::KeyMismatch => "key_mismatch",
            Self::MissingKind => "missing_kind",
            Self::UnknownKind => "unknown_kind",
            Self::MalformedLabels => "malformed_labels",
            Self::UnsafeFieldName => "unsafe_field_name",
            Self::NumberOutOfRange => "number_out_of_range",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "too_large",
            Self::WriteError => "write_error",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decodes records one after the other, in memory that it keeps.
pub struct Decoder {
    mapping: Arc<Mapping>,
    tombstones: Tombstones,
    scratch: Scratch,
    name: Vec<u8>,
    room: Vec<u8>,
}

impl Decoder {
    /// A decoder for this mapping.
    pub fn new(mapping: Arc<Mapping>, tombstones: Tombstones) -> Self {
        Self {
            mapping,
            tombstones,
            scratch: Scratch::default(),
            name: Vec::new(),
            room: Vec::new(),
        }
    }

    /// Decides the outcome of a record. Appends the BSON of the entity's fields to `out`, without
    /// `_id`: the id equals the key, which the caller has. Anything but [`Decoded::Accepted`]
    /// leaves `out` as it was.
    pub fn decode(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Decoded {
        let start = out.len();
        let decoded = match value {
            Some(value) => self.entity(key, value, out),
            None => self.tombstone(key),
        };
        let decoded = decoded.unwrap_or_else(Decoded::Rejected);
        if !matches!(decoded, Decoded::Accepted { .. }) {
            out.truncate(start);
        }
        decoded
    }

    fn tombstone(&self, key: Option<&[u8]>) -> Result<Decoded, Reason> {
        match self.tombstones {
            Tombstones::Ignore => Ok(Decoded::Skipped(Skip::Tombstone)),
            Tombstones::Delete => utf8_key(key).map(|_| Decoded::Delete),
        }
    }

    fn entity(
        &mut self,
        key: Option<&[u8]>,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Decoded, Reason> {
        let start = out.len();
        let text = simdutf8::basic::from_utf8(value).map_err(|_| Reason::MalformedValue)?;
        let entity = self
            .read(text, out)
            .map_err(|_: Malformed| Reason::MalformedValue)?;
        let key = utf8_key(key)?;
        let id = entity.id.ok_or(Reason::MissingId)?;
        if id.resolve(&mut self.name) != key.as_bytes() {
            return Err(Reason::KeyMismatch);
        }
        if self.mapping.skips(key) {
            return Ok(Decoded::Skipped(Skip::NullId));
        }
        let kind = entity
            .kind
            .ok_or(Reason::MissingKind)?
            .resolve(&mut self.name);
        let kind = str::from_utf8(kind).map_err(|_| Reason::UnknownKind)?;
        let collection = self.mapping.route(kind).ok_or(Reason::UnknownKind)?;
        let id_len = b"t_id\0llll\0".len() + key.len();
        let too_large = entity.too_large || out.len() - start + id_len > DOCUMENT_BYTES_MAX;
        let faults = [
            (entity.malformed_maps != 0, Reason::MalformedLabels),
            (entity.unsafe_name, Reason::UnsafeFieldName),
            (entity.number_out_of_range, Reason::NumberOutOfRange),
            (entity.too_deep, Reason::TooDeep),
            (too_large, Reason::TooLarge),
        ];
        match faults.into_iter().find(|&(found, _)| found) {
            Some((_, reason)) => Err(reason),
            None => Ok(Decoded::Accepted {
                collection,
                document: start..out.len(),
                names: entity.names,
            }),
        }
    }

    /// Reads the whole text, even after a fault: only of JSON can anything else be said.
    fn read<'a>(&mut self, text: &'a str, out: &mut Vec<u8>) -> Result<Entity<'a>, Malformed> {
        let start = out.len();
        // What most texts take; one of many small elements takes more.
        let mut bytes = text.len() + text.len() / 4 + MARGIN;
        if bytes <= ROOM_BYTES {
            let mut room = mem::take(&mut self.room);
            room.resize(ROOM_BYTES, 0);
            let read = self.read_into(text, &mut room);
            if let Ok((_, Some(len))) = read {
                out.extend_from_slice(&room[..len]);
            }
            self.room = room;
            match read? {
                (entity, Some(_)) => return Ok(entity),
                (_, None) => bytes = 2 * ROOM_BYTES,
            }
        }
        loop {
            let is_last = bytes >= ROOM_BYTES_MAX;
            out.resize(start + bytes.min(ROOM_BYTES_MAX), 0);
            let (mut entity, len) = self.read_into(text, &mut out[start..])?;
            if len.is_some() || is_last {
                entity.too_large = len.is_none();
                out.truncate(start + len.unwrap_or(0));
                return Ok(entity);
            }
            bytes *= 2;
        }
    }

    /// The same into `room`; the document's length, if it fits.
    fn read_into<'a>(
        &mut self,
        text: &'a str,
        room: &mut [u8],
    ) -> Result<(Entity<'a>, Option<usize>), Malformed> {
        self.name.shrink_to(KEPT_NAME_BYTES_MAX);
        let encoder = Encoder::new(room, &mut self.scratch);
        let mut walk = Walk::new(&self.mapping, &mut self.name, encoder);
        json::read(text, &mut walk)?;
        Ok(walk.finish())
    }
}

fn utf8_key(key: Option<&[u8]>) -> Result<&str, Reason> {
    key.and_then(|key| str::from_utf8(key).ok())
        .ok_or(Reason::MalformedKey)
}
