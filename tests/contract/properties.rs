//! The decoder agrees with the reference: on entities of any shape, on spoiled ones, on any bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use test_oracles::decode::decoded;
use test_oracles::reference::{Expected, Json, parse, reference_outcome};
use workflows_sink::record::entity::{Decoded, Tombstones};

use crate::{ID, decode, decoder};

const NULL_ID: &str = "00000000000000000000000000000000";

fn agrees(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    tombstones: Tombstones,
) -> Result<(), TestCaseError> {
    let expected = reference_outcome(key, value, tombstones);
    prop_assert_eq!(decode(key, value, tombstones), expected.clone());
    if let Expected::Accepted { mut document, .. } = expected {
        document.remove("_id");
        let mut out = Vec::new();
        let decoded = decoder(tombstones).decode(key, value, &mut out);
        let accepted = matches!(decoded, Decoded::Accepted { .. });
        prop_assert!(accepted);
        prop_assert_eq!(out, document.to_vec().unwrap(), "byte for byte");
    }
    Ok(())
}

/// Names, few enough that some are given twice.
fn name() -> impl Strategy<Value = String> {
    let usual = [
        "a",
        "b",
        "c",
        "id",
        "kind",
        "labels",
        "key",
        "value",
        "$oid",
        "$date",
        "",
        "_id",
        "a.b",
        "é",
        "abcdefghijklm",
    ];
    prop_oneof![60 => select(usual.to_vec()).prop_map(String::from), 5 => any::<String>(), 1 => Just("n\0".into())]
}

fn top_level_name() -> impl Strategy<Value = String> {
    let usual = [
        "a",
        "b",
        "c",
        "d",
        "e",
        "status",
        "é",
        "x y",
        "abcdefghijklm",
    ];
    prop_oneof![
        200 => select(usual.to_vec()).prop_map(String::from),
        1 => select(&["", "$set", "a.b", "_id", "n\0"][..]).prop_map(String::from),
        1 => any::<String>(),
    ]
}

fn number() -> impl Strategy<Value = String> {
    let edges = [
        "0",
        "-0",
        "0.0",
        "-0.0",
        "1e5",
        "1E-5",
        "2147483647",
        "2147483648",
        "-2147483648",
        "-2147483649",
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
    ];
    let out_of_range = [
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "1e400",
        "-1e309",
    ];
    prop_oneof![
        20 => any::<i32>().prop_map(|n| n.to_string()),
        20 => any::<i64>().prop_map(|n| n.to_string()),
        20 => any::<f64>().prop_filter("JSON", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
        20 => "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})([eE][+-]?[0-9]{1,2})?",
        20 => select(edges.to_vec()).prop_map(String::from),
        1 => select(out_of_range.to_vec()).prop_map(String::from),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number().prop_map(Json::Number),
        any::<String>().prop_map(Json::String),
        "[ -~]{0,40}".prop_map(Json::String),
    ];
    leaf.prop_recursive(5, 48, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Json::Array),
            vec((name(), inner), 0..8).prop_map(Json::Object),
        ]
    })
}

fn labels() -> impl Strategy<Value = Json> {
    prop_oneof![
        10 => vec((name(), prop_oneof![Just(Json::Null), json()]), 0..8).prop_map(Json::Object),
        2 => Just(Json::Null),
        1 => json(),
    ]
}

/// Members of an entity: most of the time it has what it needs, once.
fn member() -> impl Strategy<Value = (String, Json)> {
    let named = |name: &'static str, json: BoxedStrategy<Json>| {
        json.prop_map(move |json| (name.to_owned(), json)).boxed()
    };
    let string = |string: &str| Just(Json::String(string.to_owned())).boxed();
    prop_oneof![
        40 => (top_level_name(), json()),
        10 => named("labels", labels().boxed()),
        2 => named("id", string(ID)),
        1 => named("id", json().boxed()),
        2 => named("kind", select(&["Curve", "Report", "Curves", ""][..]).prop_map(|kind| Json::String(kind.into())).boxed()),
        1 => named("kind", json().boxed()),
    ]
}

fn entity() -> impl Strategy<Value = Json> {
    let id = prop_oneof![30 => Just(ID), 1 => Just(NULL_ID), 1 => Just("another")];
    (vec(member(), 0..12), id, any::<Index>(), any::<Index>()).prop_map(
        |(mut members, id, id_at, kind_at)| {
            members.insert(
                id_at.index(members.len() + 1),
                ("id".into(), Json::String(id.into())),
            );
            members.insert(
                kind_at.index(members.len() + 1),
                ("kind".into(), Json::String("Model".into())),
            );
            Json::Object(members)
        },
    )
}

/// Writes JSON as nobody should: white space and escapes as the dice fall.
struct Render<'a> {
    dice: &'a [u8],
    thrown: usize,
    text: String,
}

impl Render<'_> {
    fn text(json: &Json, dice: &[u8]) -> String {
        let mut render = Render {
            dice,
            thrown: 0,
            text: String::new(),
        };
        render.value(json);
        render.space();
        render.text
    }

    fn throw(&mut self) -> u8 {
        self.thrown += 1;
        self.dice[self.thrown % self.dice.len()].wrapping_add((self.thrown / self.dice.len()) as u8)
    }

    fn space(&mut self) {
        let space = ["", "", "", "", " ", "\n", "\t\r", "  "][usize::from(self.throw() % 8)];
        self.text.push_str(space);
    }

    fn value(&mut self, json: &Json) {
        self.space();
        match json {
            Json::Null => self.text.push_str("null"),
            Json::Bool(bool) => self.text.push_str(if *bool { "true" } else { "false" }),
            Json::Number(number) => self.text.push_str(number),
            Json::String(string) => self.string(string),
            Json::Array(elements) => {
                self.text.push('[');
                for (index, element) in elements.iter().enumerate() {
                    self.comma(index);
                    self.value(element);
                }
                self.space();
                self.text.push(']');
            }
            Json::Object(members) => {
                self.text.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    self.comma(index);
                    self.space();
                    self.string(name);
                    self.space();
                    self.text.push(':');
                    self.value(value);
                }
                self.space();
                self.text.push('}');
            }
        }
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.space();
            self.text.push(',');
        }
    }

    fn string(&mut self, string: &str) {
        self.text.push('"');
        for character in string.chars() {
            let short = "\"\\/\u{8}\u{c}\n\r\t".find(character);
            match (self.throw() % 8, short) {
                (0..4, Some(at)) => self.text.extend(['\\', char::from(b"\"\\/bfnrt"[at])]),
                (0, _) | (_, Some(_)) => self.utf16(character),
                _ if character < ' ' => self.utf16(character),
                _ => self.text.push(character),
            }
        }
        self.text.push('"');
    }

    fn utf16(&mut self, character: char) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let unit = if self.throw().is_multiple_of(2) {
                format!("\\u{unit:04x}")
            } else {
                format!("\\u{unit:04X}")
            };
            self.text.push_str(&unit);
        }
    }
}

/// A change to some bytes.
#[derive(Clone, Debug)]
enum Change {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
    Repeat(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let telling = || {
        prop_oneof![
            select(&b"{}[]\",:\\u0-+.eEtfn \n\x00\x1f\xff\xc3\xd8$"[..]),
            any::<u8>()
        ]
    };
    prop_oneof![
        (any::<Index>(), telling()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        (any::<Index>(), telling()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        any::<Index>().prop_map(Change::Remove),
        any::<Index>().prop_map(Change::Truncate),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Repeat(from, to)),
    ]
}

fn apply(change: &Change, bytes: &mut Vec<u8>) {
    let place = |index: &Index| index.index(bytes.len() + 1);
    match change {
        _ if bytes.is_empty() => {}
        Change::Replace(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Change::Insert(at, byte) => bytes.insert(place(at), *byte),
        Change::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
        Change::Truncate(at) => bytes.truncate(place(at)),
        Change::Repeat(from, to) => {
            let (from, to) = (place(from).min(place(to)), place(from).max(place(to)));
            let again = bytes[from..to].to_vec();
            bytes.splice(to..to, again);
        }
    }
}

fn tombstones() -> impl Strategy<Value = Tombstones> {
    prop_oneof![Just(Tombstones::Ignore), Just(Tombstones::Delete)]
}

fn key() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        30 => Just(Some(ID.into())),
        1 => Just(Some(NULL_ID.into())),
        1 => Just(None),
        1 => vec(any::<u8>(), 0..40).prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Of the reference itself: it reads what was written.
    #[test]
    fn the_reference_reads_any_json(json in json(), dice in vec(any::<u8>(), 1..200)) {
        prop_assert_eq!(parse(&Render::text(&json, &dice)), Ok(json));
    }

    #[test]
    fn any_entity_becomes_the_references_document(entity in entity(), key in key(), dice in vec(any::<u8>(), 1..200)) {
        let text = Render::text(&entity, &dice);
        agrees(key.as_deref(), Some(text.as_bytes()), Tombstones::Ignore)?;
    }

    #[test]
    fn a_decoder_remembers_nothing_of_the_records_before(entities in vec((entity(), key()), 2..6)) {
        let (mut used, mut out) = (decoder(Tombstones::Ignore), Vec::new());
        for (entity, key) in entities {
            let text = Render::text(&entity, &[1]);
            let (key, value) = (key.as_deref(), Some(text.as_bytes()));
            let found = decoded(&mut used, key, value, &mut out);
            prop_assert_eq!(found, reference_outcome(key, value, Tombstones::Ignore));
        }
    }

    #[test]
    fn any_json_has_the_references_outcome(json in json(), key in key(), dice in vec(any::<u8>(), 1..200)) {
        let text = Render::text(&json, &dice);
        agrees(key.as_deref(), Some(text.as_bytes()), Tombstones::Ignore)?;
    }

    #[test]
    fn a_spoiled_entity_has_the_references_outcome(
        entity in entity(),
        changes in vec(change(), 1..4),
        dice in vec(any::<u8>(), 1..200),
    ) {
        let mut bytes = Render::text(&entity, &dice).into_bytes();
        changes.iter().for_each(|change| apply(change, &mut bytes));
        agrees(Some(ID.as_bytes()), Some(&bytes), Tombstones::Ignore)?;
    }

    #[test]
    fn any_bytes_have_the_references_outcome(
        key in proptest::option::of(vec(any::<u8>(), 0..40)),
        value in proptest::option::of(vec(any::<u8>(), 0..200)),
        tombstones in tombstones(),
    ) {
        agrees(key.as_deref(), value.as_deref(), tombstones)?;
    }

    #[test]
    fn any_tokens_have_the_references_outcome(
        tokens in vec(select(&[
            "{", "}", "[", "]", ",", ":", "\"a\"", "\"id\"", "\"\\u0000\"", "\"\\ud800\"", "\"", "\\", "1", "-", "0", ".5", "e9", "true",
            "null", "fals", " ", "\n", "\u{feff}", "é",
        ][..]), 0..16),
    ) {
        agrees(Some(ID.as_bytes()), Some(format!("{{{}", tokens.concat()).as_bytes()), Tombstones::Ignore)?;
        agrees(Some(ID.as_bytes()), Some(tokens.concat().as_bytes()), Tombstones::Ignore)?;
    }
}
