//! The record contract once more, slow and obvious: what every record must come to.
//!
//! serde_json reads the text, into a tree that keeps what `serde_json::Value` would lose: the order
//! of names, names given twice, and how a number is written.

use std::fmt;
use std::sync::LazyLock;

use bson::{Bson, Document, doc};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use workflows_sink::record::entity::{Reason, Skip, Tombstones};
use workflows_sink::record::mapping::Mapping;

/// Read once: the fault runs ask for thousands of records.
static MAPPING: LazyLock<Mapping> = LazyLock::new(Mapping::builtin);

/// What a record must come to.
#[derive(Clone, PartialEq, Debug)]
pub enum Expected {
    /// The document as MongoDB gets it, with its `_id`.
    Accepted {
        /// Where it goes.
        collection: String,
        /// What goes there.
        document: Document,
    },
    /// The document of the key is deleted.
    Delete,
    /// Nothing is written.
    Skipped(Skip),
    /// A dead letter.
    Rejected(Reason),
}

/// A JSON text, nothing lost.
#[derive(Clone, PartialEq, Debug)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// As it is written.
    Number(String),
    /// Without its escapes.
    String(String),
    /// In order.
    Array(Vec<Json>),
    /// In order, names given twice included.
    Object(Vec<(String, Json)>),
}

/// What a record must come to by the contract and the shipped mapping.
pub fn reference_outcome(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    tombstones: Tombstones,
) -> Expected {
    outcome(key, value, tombstones).unwrap_or_else(Expected::Rejected)
}

/// The document of an entity that the contract accepts.
///
/// # Panics
/// If it is not JSON, or not an object.
pub fn reference_document(json: &str) -> Document {
    match parse(json) {
        Ok(Json::Object(members)) => document(&members),
        other => panic!("not an entity: {other:?}"),
    }
}

fn outcome(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    tombstones: Tombstones,
) -> Result<Expected, Reason> {
    let key = key
        .and_then(|key| str::from_utf8(key).ok())
        .ok_or(Reason::MalformedKey);
    let Some(value) = value else {
        return match tombstones {
            Tombstones::Ignore => Ok(Expected::Skipped(Skip::Tombstone)),
            Tombstones::Delete => key.map(|_| Expected::Delete),
        };
    };
    let text = str::from_utf8(value).map_err(|_| Reason::MalformedValue)?;
    let entity = parse(text)?;
    let Json::Object(members) = &entity else {
        return Err(Reason::MalformedValue);
    };
    let last = |name: &str| {
        members
            .iter()
            .rev()
            .find(|(member, _)| member == name)
            .map(|(_, value)| value)
    };

    let key = key?;
    let Some(Json::String(id)) = last("id") else {
        return Err(Reason::MissingId);
    };
    if id != key {
        return Err(Reason::KeyMismatch);
    }
    if *id == "0".repeat(32) {
        return Ok(Expected::Skipped(Skip::NullId));
    }
    let Some(Json::String(kind)) = last("kind") else {
        return Err(Reason::MissingKind);
    };
    let mapping = &*MAPPING;
    let collection = mapping.route(kind).ok_or(Reason::UnknownKind)?;
    if !matches!(last("labels"), None | Some(Json::Object(_) | Json::Null)) {
        return Err(Reason::MalformedLabels);
    }
    // From here on whatever the text holds counts, used or not.
    if members.iter().any(|(name, _)| is_unsafe(name)) || members.iter().any(holds_nul) {
        return Err(Reason::UnsafeFieldName);
    }
    if any(
        &entity,
        &|json| matches!(json, Json::Number(number) if bson_number(number).is_none()),
    ) {
        return Err(Reason::NumberOutOfRange);
    }
    if depth(&entity) > 100 {
        return Err(Reason::TooDeep);
    }
    let document = document(members);
    if document.to_vec().expect("names without NUL").len() > 16_777_216 {
        return Err(Reason::TooLarge);
    }
    Ok(Expected::Accepted {
        collection: mapping.collection(collection).to_owned(),
        document,
    })
}

fn document(members: &[(String, Json)]) -> Document {
    let mut document = Document::new();
    for (name, value) in members {
        let name = if name == "id" { "_id" } else { name };
        // Document::insert leaves a name that is already there in its place.
        match (name, bson(value)) {
            ("labels", Bson::Document(labels)) => document.insert(name, key_value_array(labels)),
            (_, value) => document.insert(name, value),
        };
    }
    document
}

fn key_value_array(labels: Document) -> Vec<Bson> {
    let kept = labels.into_iter().filter(|(_, value)| *value != Bson::Null);
    kept.map(|(key, value)| Bson::Document(doc! { "key": key, "value": value }))
        .collect()
}

fn bson(json: &Json) -> Bson {
    match json {
        Json::Null => Bson::Null,
        Json::Bool(bool) => Bson::Boolean(*bool),
        Json::Number(number) => bson_number(number).expect("a number in range"),
        Json::String(string) => Bson::String(string.clone()),
        Json::Array(elements) => Bson::Array(elements.iter().map(bson).collect()),
        Json::Object(members) => {
            let members = members
                .iter()
                .map(|(name, value)| (name.clone(), bson(value)));
            let mut document = Document::new();
            members.for_each(|(name, value)| drop(document.insert(name, value)));
            Bson::Document(document)
        }
    }
}

/// The number, unless it is out of range.
fn bson_number(number: &str) -> Option<Bson> {
    if number.contains(['.', 'e', 'E']) {
        return number
            .parse()
            .ok()
            .filter(|double: &f64| double.is_finite())
            .map(Bson::Double);
    }
    let integer: i64 = number.parse().ok()?;
    Some(i32::try_from(integer).map_or(Bson::Int64(integer), Bson::Int32))
}

fn is_unsafe(name: &str) -> bool {
    name.is_empty() || name == "_id" || name.starts_with('$') || name.contains(['.', '\0'])
}

/// Whether a name somewhere in a top-level field holds NUL. What labels are called are values.
fn holds_nul((name, value): &(String, Json)) -> bool {
    let nul_inside = |json: &Json| {
        any(
            json,
            &|json| matches!(json, Json::Object(members) if names_hold_nul(members)),
        )
    };
    match value {
        Json::Object(labels) if name == "labels" => {
            labels.iter().any(|(_, value)| nul_inside(value))
        }
        value => nul_inside(value),
    }
}

fn names_hold_nul(members: &[(String, Json)]) -> bool {
    members.iter().any(|(name, _)| name.contains('\0'))
}

fn any(json: &Json, found: &dyn Fn(&Json) -> bool) -> bool {
    found(json)
        || match json {
            Json::Array(elements) => elements.iter().any(|element| any(element, found)),
            Json::Object(members) => members.iter().any(|(_, value)| any(value, found)),
            _ => false,
        }
}

fn depth(json: &Json) -> usize {
    match json {
        Json::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Json::Object(members) => {
            1 + members
                .iter()
                .map(|(_, value)| depth(value))
                .max()
                .unwrap_or(0)
        }
        _ => 0,
    }
}

/// Reads a JSON text; the reason why it is none otherwise. Beyond 127 levels serde_json gives up:
/// then only that is known.
pub fn parse(text: &str) -> Result<Json, Reason> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| Reason::MalformedValue)?;
    serde_json::from_str(&as_strings(text)).map_err(|error| match error.to_string() {
        error if error.contains("recursion limit") => Reason::TooDeep,
        _ => Reason::MalformedValue,
    })
}

/// The same JSON with every number a string `n…` and every string a string `s…`, for serde_json
/// changes numbers: -0 to -0.0, what passes 64 bits to a double, 1e400 to an error.
fn as_strings(text: &str) -> String {
    let mut strings = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let token_len = match first {
            '"' => string_len(rest),
            '-' | '0'..='9' => rest
                .find(|c| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
                .unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, behind) = rest.split_at(token_len);
        match first {
            '"' => strings.extend(["\"s", &token[1..]]),
            '-' | '0'..='9' => strings.extend(["\"n", token, "\""]),
            _ => strings.push_str(token),
        }
        rest = behind;
    }
    strings
}

/// The length of the string that `text` begins with, quotes included.
fn string_len(text: &str) -> usize {
    let text = text.as_bytes();
    let mut end = 1;
    while text[end] != b'"' {
        end += if text[end] == b'\\' { 2 } else { 1 };
    }
    end + 1
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Json, E> {
        Ok(Json::Bool(bool))
    }

    fn visit_str<E>(self, string: &str) -> Result<Json, E> {
        Ok(match string.strip_prefix('n') {
            Some(number) => Json::Number(number.to_owned()),
            None => Json::String(string[1..].to_owned()),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element()? {
            array.push(element);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some((name, value)) = members.next_entry::<String, Json>()? {
            object.push((name[1..].to_owned(), value));
        }
        Ok(Json::Object(object))
    }
}
