//! The walk through one entity's text: what is encoded of it, and what is noted.

use super::DEPTH_MAX;
use crate::record::document::{Encoder, Shape};
use crate::record::json::{Str, Value, Visitor};
use crate::record::mapping::Mapping;

/// What an entity's text says, apart from its document. Of a name given twice, the last counts.
///
/// The faults count wherever the text holds them: in the id and in values that a later duplicate
/// replaces too.
#[derive(Default)]
pub(super) struct Entity<'a> {
    pub(super) id: Option<Str<'a>>,
    pub(super) kind: Option<Str<'a>>,
    pub(super) names: u32,
    /// One bit for each of the mapping's maps.
    pub(super) malformed_maps: u32,
    pub(super) unsafe_name: bool,
    pub(super) number_out_of_range: bool,
    pub(super) too_deep: bool,
    pub(super) too_large: bool,
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

/// Encodes an entity while it is read.
pub(super) struct Walk<'w, 'a> {
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

impl<'a> Visitor<'a> for Walk<'_, 'a> {
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

    // Inlined, so that at each call only what concerns one kind of value is left.
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
            Value::NumberOutOfRange(_) => {
                self.entity.number_out_of_range = true;
                self.encoder.stop();
            }
            Value::String(string) => self.encoder.string(string),
            Value::Integer(integer) => self.encoder.integer(integer),
            Value::Double(double) => self.encoder.double(double),
            Value::Bool(bool) => self.encoder.bool(bool),
            Value::Null => self.encoder.null(),
        }
        if !matches!(value, Value::Object | Value::Array) {
            self.drop_id(depth);
        }
    }

    #[inline(always)]
    fn end(&mut self, depth: usize) {
        self.encoder.end();
        self.drop_id(depth);
    }
}

impl<'w, 'a> Walk<'w, 'a> {
    /// `resolved` is memory for names with escapes.
    pub(super) fn new(
        mapping: &'w Mapping,
        resolved: &'w mut Vec<u8>,
        encoder: Encoder<'w>,
    ) -> Self {
        Walk {
            mapping,
            resolved,
            encoder,
            entity: Entity::default(),
            field: Field::Other,
            in_map: false,
        }
    }

    /// What was read, and the document's length, if there was room for it.
    pub(super) fn finish(self) -> (Entity<'a>, Option<usize>) {
        (self.entity, self.encoder.len())
    }

    /// Takes the id out again once its value is complete: it becomes `_id`.
    #[inline(always)]
    fn drop_id(&mut self, depth: usize) {
        if depth == 1 && self.field == Field::Id {
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
pub(in crate::record) fn is_unsafe_top_level(name: &[u8]) -> bool {
    name.is_empty()
        || name == b"_id"
        || name.starts_with(b"$")
        || name.iter().any(|byte| matches!(byte, b'.' | 0))
}
