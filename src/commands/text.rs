//! Values from outside as text and as JSON. Pure.

use bson::spec::BinarySubtype;
use bson::{Bson, Document};
use indicatif::HumanCount;
use serde_json::{Map, Value, json};

use super::shown;

/// The name under which JSON has bytes that are not text.
const HEX: &str = "hex";

/// One field as text, as it came.
pub(super) fn plain(value: &Bson) -> String {
    match bson_json(value) {
        Value::String(text) => text,
        Value::Null => "-".to_owned(),
        other => match (other.get(HEX), other.as_object().map(Map::len)) {
            (Some(Value::String(hex)), Some(1)) => format!("0x{hex}"),
            _ => other.to_string(),
        },
    }
}

/// One field for a line: nothing in it ends the line, moves a cursor, or turns the direction of
/// what follows.
pub(super) fn one_line(text: &str) -> String {
    escaped(text, |_| false)
}

/// Text for a terminal, in which only line ends and tabs do something.
pub(super) fn on_terminal(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> String {
    let acts = |c: char| {
        let is_format = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}');
        (c.is_control() || is_format) && !keep(c)
    };
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match acts(c) {
            true => clean.extend(c.escape_default()),
            false => clean.push(c),
        }
    }
    clean
}

/// The beginning of a text, at most `chars_max` characters; where that is not all, the last of them
/// is `…`.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some(_) => {
            let beginning = text.chars().take(chars_max - 1);
            beginning.chain(['…']).collect()
        }
    }
}

/// A count with its thousands apart.
pub(super) fn thousands(count: i64) -> String {
    HumanCount(u64::try_from(count).unwrap_or(0)).to_string()
}

/// How many letters, in words.
pub(super) fn letters(count: i64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} letter{plural}", thousands(count))
}

/// A whole letter.
pub(super) fn document_json(document: &Document) -> Value {
    let fields = document
        .iter()
        .map(|(name, value)| (name.clone(), bson_json(value)));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// Plain JSON for programs: bytes that are UTF-8 as text, others as `{"hex": …}`; ids and times as
/// text.
pub(super) fn bson_json(value: &Bson) -> Value {
    match value {
        Bson::Document(document) => document_json(document),
        Bson::Array(values) => values.iter().map(bson_json).collect(),
        Bson::Binary(binary) if binary.subtype == BinarySubtype::Uuid => {
            json!(binary.to_uuid().map(|id| id.to_string()).ok())
        }
        Bson::Binary(binary) => match std::str::from_utf8(&binary.bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ HEX: hex::encode(&binary.bytes) }),
        },
        Bson::DateTime(time) => json!(shown(*time)),
        Bson::String(text) => json!(text),
        Bson::Int32(number) => json!(number),
        Bson::Int64(number) => json!(number),
        Bson::Double(number) => json!(number),
        Bson::Boolean(flag) => json!(flag),
        Bson::Null => Value::Null,
        other => json!(other.to_string()),
    }
}
