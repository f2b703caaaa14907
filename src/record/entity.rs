//! Decoding: a record's key and value → the raw BSON of its entity, by the record contract. Pure.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bson::Document;
use serde::Deserialize;

use super::document::{DOCUMENT_BYTES_MAX, Encoder, Scratch, Shape};
use super::json::{Malformed, Next, Reader, Str, Value};
use super::mapping::{CollectionId, Mapping};

/// An entity may be nested this deep; the entity itself is level 1.
pub(super) const DEPTH_MAX: usize = 100;
/// Capacity of the buffer for unescaped names that is kept from one record to the next.
const KEPT_NAME_BYTES_MAX: usize = 64 * 1024;

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
}

/// What an entity's text says, apart from its document. Of a name given twice, the last counts.
///
/// The faults count wherever the text holds them: in the id and in values that a later duplicate
/// replaces too.
#[derive(Default)]
struct Entity<'a> {
    id: Option<Str<'a>>,
    kind: Option<Str<'a>>,
    names: u32,
    /// One bit for each of the mapping's maps.
    malformed_maps: u32,
    unsafe_name: bool,
    number_out_of_range: bool,
    too_deep: bool,
    too_large: bool,
}

/// A top-level field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Kind,
    /// The bit of a map.
    Map(u32),
    Other,
}

impl Decoder {
    /// A decoder for this mapping.
    pub fn new(mapping: Arc<Mapping>, tombstones: Tombstones) -> Self {
        Self {
            mapping,
            tombstones,
            scratch: Scratch::default(),
            name: Vec::new(),
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
            .map_err(|Malformed| Reason::MalformedValue)?;
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
        self.name.shrink_to(KEPT_NAME_BYTES_MAX);
        let mut reader = Reader::new(text);
        if reader.value()? != Value::Object {
            return Err(Malformed);
        }
        let mut walk = Walk {
            mapping: &self.mapping,
            resolved: &mut self.name,
            encoder: Encoder::new(out, &mut self.scratch),
            entity: Entity::default(),
            field: Field::Other,
            in_map: false,
        };
        loop {
            match reader.next()? {
                Next::Name(name) => walk.name(name, reader.depth()),
                Next::Element => {}
                Next::EndObject | Next::EndArray => {
                    walk.end(reader.depth());
                    continue;
                }
                Next::End => {
                    walk.entity.too_large = walk.encoder.is_too_large();
                    return Ok(walk.entity);
                }
            }
            let depth = reader.depth();
            let value = reader.value()?;
            walk.value(value, depth);
            walk.drop_id(reader.depth());
        }
    }
}

/// The walk through one entity's text: what is encoded of it, and what is noted.
struct Walk<'w, 'a> {
    mapping: &'w Mapping,
    /// Memory for names with escapes.
    resolved: &'w mut Vec<u8>,
    encoder: Encoder<'w>,
    entity: Entity<'a>,
    /// The top-level field whose value is read.
    field: Field,
    /// Whether that value is a map.
    in_map: bool,
}

// Inlined throughout: each is called in one place of the loop that reads every byte.
impl<'a> Walk<'_, 'a> {
    /// A member's name, in an object at this depth.
    #[inline(always)]
    fn name(&mut self, name: Str<'a>, depth: usize) {
        let resolved = name.resolve(self.resolved);
        let is_unsafe = if depth == 1 {
            self.in_map = false;
            self.entity.names += 1;
            self.field = top_level_field(self.mapping, resolved);
            self.entity.forget(self.field);
            is_unsafe_top_level(resolved)
        } else {
            // What a map calls its entries are values of the document. Only an escape can be NUL.
            let is_entry = self.in_map && depth == 2;
            name.plain().is_none() && !is_entry && resolved.contains(&0)
        };
        if is_unsafe {
            self.entity.unsafe_name = true;
            self.encoder.stop();
        }
        self.encoder.name(name, resolved);
    }

    /// A value at this depth, or how it begins.
    #[inline(always)]
    fn value(&mut self, value: Value<'a>, depth: usize) {
        if depth == 1 && self.field != Field::Other {
            self.entity.note(self.field, &value);
        }
        match value {
            Value::Object | Value::Array if depth >= DEPTH_MAX => {
                self.entity.too_deep = true;
                self.encoder.stop();
            }
            Value::Object if depth == 1 && matches!(self.field, Field::Map(_)) => {
                self.in_map = true;
                self.encoder.begin(Shape::Map);
            }
            Value::Object => self.encoder.begin(Shape::Object),
            Value::Array => self.encoder.begin(Shape::Array),
            Value::NumberOutOfRange => {
                self.entity.number_out_of_range = true;
                self.encoder.stop();
            }
            Value::String(string) => self.encoder.string(string),
            Value::Integer(integer) => self.encoder.integer(integer),
            Value::Double(double) => self.encoder.double(double),
            Value::Bool(bool) => self.encoder.bool(bool),
            Value::Null => self.encoder.null(),
        }
    }

    /// The end of an object or array; `depth` is that of what holds it.
    #[inline(always)]
    fn end(&mut self, depth: usize) {
        self.encoder.end();
        self.drop_id(depth);
    }

    /// Takes the id out again once its value is complete: it becomes `_id`.
    #[inline(always)]
    fn drop_id(&mut self, depth: usize) {
        if self.field == Field::Id && depth == 1 {
            self.encoder.remove_last();
        }
    }
}

impl<'a> Entity<'a> {
    /// A later duplicate begins.
    fn forget(&mut self, field: Field) {
        match field {
            Field::Id => self.id = None,
            Field::Kind => self.kind = None,
            Field::Map(bit) => self.malformed_maps &= !bit,
            Field::Other => {}
        }
    }

    /// The value of a top-level field, or the beginning of it.
    #[inline(always)]
    fn note(&mut self, field: Field, value: &Value<'a>) {
        match (field, value) {
            (Field::Id, Value::String(id)) => self.id = Some(*id),
            (Field::Kind, Value::String(kind)) => self.kind = Some(*kind),
            (Field::Map(_), Value::Object | Value::Null) => {}
            (Field::Map(bit), _) => self.malformed_maps |= bit,
            _ => {}
        }
    }
}

fn utf8_key(key: Option<&[u8]>) -> Result<&str, Reason> {
    key.and_then(|key| str::from_utf8(key).ok())
        .ok_or(Reason::MalformedKey)
}

fn top_level_field(mapping: &Mapping, name: &[u8]) -> Field {
    if name == mapping.id().as_bytes() {
        return Field::Id;
    }
    if name == mapping.kind().as_bytes() {
        return Field::Kind;
    }
    match mapping.maps().iter().position(|map| name == map.as_bytes()) {
        Some(index) => Field::Map(1 << index),
        None => Field::Other,
    }
}

/// Whether `$set` would not take this name for a field's, or a document cannot hold it.
pub(super) fn is_unsafe_top_level(name: &[u8]) -> bool {
    name.is_empty()
        || name == b"_id"
        || name.starts_with(b"$")
        || name.iter().any(|byte| matches!(byte, b'.' | 0))
}
