//! What exactly is wrong with a record that was rejected, for the person who reads its dead letter.
//! The record is read once more, slowly, so that decoding itself notes nothing. Pure.

use super::entity::{DEPTH_MAX, Reason, is_unsafe_top_level};
use super::json::{self, Malformed, Str, Value, Visitor};
use super::mapping::Mapping;

#[cfg(test)]
mod tests;

/// The most bytes of a text that a detail quotes.
const QUOTED_BYTES_MAX: usize = 256;

/// The most bytes of a path.
const PATH_BYTES_MAX: usize = 1024;

/// What is known of a fault. Each text is cut at a length, which `…` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// The entity's kind, where it could be read.
    pub kind: Option<String>,
    /// The field at fault: names joined by `.`, and `[n]` for an element of an array.
    pub field: Option<String>,
    /// What stands there.
    pub found: Option<&'static str>,
    /// The number at fault, as it is written.
    pub number: Option<String>,
    /// The record's key, where it is not the id.
    pub key: Option<String>,
    /// The entity's id, where it is not the key.
    pub id: Option<String>,
    /// How deep the value is nested; the entity itself is level 1.
    pub depth: Option<u32>,
    /// The size as a document in bytes; names given twice count twice.
    pub bytes: Option<u64>,
    /// What the parser says, and where.
    pub message: Option<String>,
}

/// A reason in a line, with the kind where that is what it is about.
pub fn rejection(
    mapping: &Mapping,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    reason: Reason,
) -> String {
    let kind = detail(mapping, key, value, reason).kind;
    let kind = kind.filter(|_| reason == Reason::UnknownKind);
    let kind = kind.map_or_else(String::new, |kind| format!(" {kind}"));
    format!("{reason}{kind}")
}

/// What is wrong with the record of this key and value, which `reason` rejects by `mapping`.
pub fn detail(
    mapping: &Mapping,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    reason: Reason,
) -> Detail {
    let text = value.map_or(Ok(""), str::from_utf8);
    let mut walk = Walk::new(mapping);
    let walked = text.map(|text| walk.read(text));
    let kind = walk.kind.take().and_then(|found| found.text);
    let mut detail = Detail {
        kind,
        ..Detail::default()
    };
    match reason {
        Reason::MalformedValue => {
            let read = walked.unwrap_or(Ok(()));
            detail.message = Some(malformed(value.unwrap_or_default(), read));
        }
        Reason::MalformedKey => detail.message = Some(malformed_key(key)),
        Reason::MissingId => detail.misses(mapping.id(), walk.id),
        Reason::MissingKind => {
            detail.kind = None;
            detail.misses(mapping.kind(), walk.found_as_kind);
        }
        Reason::KeyMismatch => {
            detail.key = key.map(|key| quoted(&String::from_utf8_lossy(key)));
            detail.id = walk.id.and_then(|id| id.text);
        }
        Reason::UnknownKind | Reason::WriteError => {}
        Reason::MalformedLabels => {
            let malformed = walk.maps.iter().zip(mapping.maps());
            let malformed = malformed.filter_map(|(found, map)| Some(((*found)?, map)));
            if let Some((found, map)) = malformed.into_iter().next() {
                (detail.field, detail.found) = (Some(map.clone()), Some(found));
            }
        }
        Reason::UnsafeFieldName => detail.field = walk.unsafe_name,
        Reason::NumberOutOfRange => {
            (detail.field, detail.number) = walk.number.unzip();
        }
        Reason::TooDeep => {
            detail.field = walk.deep;
            detail.depth = Some(u32::try_from(walk.depth).unwrap_or(u32::MAX));
        }
        Reason::TooLarge => detail.bytes = walked.is_ok().then_some(walk.bytes),
    }
    detail
}

impl Detail {
    fn misses(&mut self, field: &str, found: Option<Found>) {
        self.field = Some(field.to_owned());
        self.found = Some(found.map_or("nothing", |found| found.what));
    }
}

/// A value of one of the fields that decide.
struct Found {
    what: &'static str,
    text: Option<String>,
}

/// The walk through a text.
struct Walk<'m> {
    mapping: &'m Mapping,
    /// Of each level, up to the deepest that is allowed, what leads to the value read there.
    path: Vec<Step>,
    scratch: Vec<u8>,
    id: Option<Found>,
    kind: Option<Found>,
    found_as_kind: Option<Found>,
    /// For each map of the mapping, what stands there if it is no map.
    maps: Vec<Option<&'static str>>,
    unsafe_name: Option<String>,
    number: Option<(String, String)>,
    deep: Option<String>,
    depth: usize,
    bytes: u64,
}

/// What leads from an object or array to a value in it.
#[derive(Default)]
struct Step {
    is_array: bool,
    name: Option<String>,
    elements: u64,
}

impl<'m> Walk<'m> {
    fn new(mapping: &'m Mapping) -> Self {
        Walk {
            mapping,
            path: Vec::new(),
            scratch: Vec::new(),
            id: None,
            kind: None,
            found_as_kind: None,
            maps: vec![None; mapping.maps().len()],
            unsafe_name: None,
            number: None,
            deep: None,
            depth: 0,
            bytes: 0,
        }
    }

    /// Reads as much of `text` as is JSON.
    fn read(&mut self, text: &str) -> Result<(), Malformed> {
        self.begin(1, false);
        json::read(text, self)
    }

    fn begin(&mut self, depth: usize, is_array: bool) {
        self.depth = self.depth.max(depth);
        // Length and end of a document.
        self.bytes += 5;
        if depth <= DEPTH_MAX {
            self.path.push(Step {
                is_array,
                ..Step::default()
            });
        } else if self.deep.is_none() {
            self.deep = Some(self.shown());
        }
    }

    /// Notes the value of a top-level field; of a name given twice, the last one counts.
    fn top_level(&mut self, value: &Value<'_>) {
        let Some(name) = self.path.first().and_then(|step| step.name.as_deref()) else {
            return;
        };
        let found = |scratch: &mut Vec<u8>| Found {
            what: what(value),
            text: match value {
                Value::String(text) => {
                    let text = text.resolve(scratch);
                    Some(quoted(&String::from_utf8_lossy(text)))
                }
                _ => None,
            },
        };
        if name == self.mapping.id() {
            self.id = Some(found(&mut self.scratch));
        } else if name == self.mapping.kind() {
            self.kind = Some(found(&mut self.scratch));
            self.found_as_kind = Some(found(&mut self.scratch));
        } else if let Some(map) = self.map() {
            let is_map = matches!(value, Value::Object | Value::Null);
            self.maps[map] = (!is_map).then(|| what(value));
        }
    }

    /// Which of the maps the top-level field is, if it is one.
    fn map(&self) -> Option<usize> {
        let name = self.path.first()?.name.as_deref()?;
        self.mapping.maps().iter().position(|map| map == name)
    }

    /// What an entry of a map takes before its value.
    fn entry_bytes(&mut self, name: &[u8]) -> u64 {
        let index = self.path.get_mut(1).map_or(0, |step| {
            step.elements += 1;
            step.elements - 1
        });
        let frame = b"llll\x02key\0llll\0.value\0\0".len();
        index_bytes(index) + (frame + name.len()) as u64
    }

    /// The path to the value that is read.
    fn shown(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            match &step.name {
                Some(name) if path.is_empty() => path.push_str(name),
                Some(name) => path.extend([".", name]),
                None if step.elements > 0 => path.push_str(&format!("[{}]", step.elements - 1)),
                None => {}
            }
            if path.len() > PATH_BYTES_MAX {
                break;
            }
        }
        cut(&path, PATH_BYTES_MAX)
    }
}

impl<'a> Visitor<'a> for Walk<'_> {
    fn name(&mut self, name: Str<'a>, depth: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let resolved = name.resolve(&mut scratch);
        let is_unsafe = match depth {
            1 => is_unsafe_top_level(resolved),
            _ => resolved.contains(&0) && !(depth == 2 && self.map().is_some()),
        };
        self.bytes += match depth {
            1 if resolved == self.mapping.id().as_bytes() => b"t_id\0".len() as u64,
            2 if self.map().is_some() => self.entry_bytes(resolved),
            _ => resolved.len() as u64 + 2,
        };
        if let Some(step) = self.path.get_mut(depth - 1) {
            step.name = Some(quoted(&String::from_utf8_lossy(resolved)));
        }
        if is_unsafe && self.unsafe_name.is_none() {
            self.unsafe_name = Some(self.shown());
        }
        self.scratch = scratch;
    }

    fn value(&mut self, value: Value<'a>, depth: usize) {
        if let Some(step) = self.path.get_mut(depth - 1)
            && step.is_array
        {
            self.bytes += index_bytes(step.elements);
            step.elements += 1;
        }
        self.bytes += match &value {
            Value::String(string) => string.len() as u64 + 5,
            Value::Integer(integer) if i32::try_from(*integer).is_ok() => 4,
            Value::Integer(_) | Value::Double(_) => 8,
            Value::Bool(_) => 1,
            Value::Object | Value::Array | Value::Null | Value::NumberOutOfRange(_) => 0,
        };
        if depth == 1 {
            self.top_level(&value);
        }
        match value {
            Value::Object => self.begin(depth + 1, false),
            Value::Array => self.begin(depth + 1, true),
            Value::NumberOutOfRange(text) if self.number.is_none() => {
                self.number = Some((self.shown(), quoted(text)));
            }
            _ => {}
        }
    }

    fn end(&mut self, depth: usize) {
        self.path.truncate(depth);
    }
}

/// The type of an array's element, and its name.
fn index_bytes(index: u64) -> u64 {
    u64::from(index.checked_ilog10().unwrap_or(0)) + 3
}

fn what(value: &Value<'_>) -> &'static str {
    match value {
        Value::Object => "an object",
        Value::Array => "an array",
        Value::String(_) => "a string",
        Value::Integer(_) | Value::Double(_) | Value::NumberOutOfRange(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::Null => "null",
    }
}

/// Why a value is no JSON object; `read` says how far it is one.
fn malformed(value: &[u8], read: Result<(), Malformed>) -> String {
    let text = match str::from_utf8(value) {
        Ok(text) => text,
        Err(error) => return format!("not UTF-8 at byte {}", error.valid_up_to()),
    };
    // It looks at syntax alone, without recursion, and quotes nothing.
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        return error.to_string();
    }
    let found = match text.trim_start().bytes().next() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => {
            let at = read.map_or_else(|Malformed { at }| at, |()| text.len());
            return format!("an escape that is no character, behind byte {at}");
        }
    };
    format!("{found}, not an object")
}

fn malformed_key(key: Option<&[u8]>) -> String {
    match key.map(str::from_utf8) {
        Some(Err(error)) => format!("the key is not UTF-8 at byte {}", error.valid_up_to()),
        _ => "there is no key".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    cut(text, QUOTED_BYTES_MAX)
}

/// The beginning of `text`, and `…` where that is not all.
fn cut(text: &str, bytes_max: usize) -> String {
    match &text[..text.floor_char_boundary(bytes_max)] {
        all if all.len() == text.len() => all.to_owned(),
        beginning => format!("{beginning}…"),
    }
}
