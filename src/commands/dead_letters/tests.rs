use bson::spec::BinarySubtype;
use bson::{Binary, DateTime, Document, Uuid, doc};
use serde_json::{Value, json};

use super::filter::{Cursor, matching, read_cursor};
use super::{discard, list, show, summary};
use crate::cli::{LetterFilter, LetterState, Partitions};
use crate::commands::schema::assert_schema;

fn bytes(bytes: &[u8]) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    }
}

fn id(offset: i64) -> Document {
    doc! {
        "group": "g",
        "topic": "t",
        "topic_id": Uuid::from_bytes([1; 16]),
        "partition": 3,
        "offset": offset,
    }
}

/// A letter whose parts try to look like more lines than they are.
fn letter() -> Document {
    doc! {
        "_id": id(4711),
        "state": "replayed",
        "reason": "write_error",
        "key": bytes("k\x1b[2J\nt 3 4712 \u{202e}\u{2028}forged".as_bytes()),
        "value": bytes(br#"{"id":"k","n":1.000000000000000000001,"n":18446744073709551616}"#),
        "headers": [
            { "key": "trace", "value": bytes(&[0xff, 0x00]) },
            { "key": "a\nreason", "value": bytes(b"none\r\nkey x") },
        ],
        "timestamp": DateTime::from_millis(0),
        "rejected_at": DateTime::from_millis(1000),
        "error": { "code": 121, "message": "Document failed validation", "info": { "rule": 1 } },
        "detail": { "kind": "Model\n" },
        "closed": { "at": DateTime::from_millis(2000), "by_version": "0.1.0", "why": "fixed" },
    }
}

fn plain_letter(offset: i64) -> Document {
    doc! {
        "_id": id(offset),
        "reason": "unknown_kind",
        "detail": { "kind": "Novelty" },
        "key": bytes("é".repeat(60).as_bytes()),
        "value_bytes": 1234,
        "rejected_at": DateTime::from_millis(offset),
    }
}

fn text(print: impl FnOnce(&mut Vec<u8>) -> anyhow::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_letter_is_shown_as_it_came_and_nothing_in_it_forges_a_line() {
    let shown = text(|out| show::print(&[letter()], false, false, out));
    insta::assert_snapshot!("show", shown);
    let on_terminal = text(|out| show::print(&[letter()], false, true, out));
    assert_eq!(on_terminal, shown, "nothing to escape in this value");
    let mut loud = letter();
    loud.insert("value", bytes(b"{\"a\": \"\x1b[2J\"}\r\n"));
    let shown = text(|out| show::print(&[loud.clone()], false, false, out));
    assert!(shown.ends_with("value\n{\"a\": \"\x1b[2J\"}\r\n\n"));
    let shown = text(|out| show::print(&[loud], false, true, out));
    assert!(shown.ends_with("value\n{\"a\": \"\\u{1b}[2J\"}\\r\n\n"));
}

#[test]
fn programs_get_the_same_as_json() {
    let shown = text(|out| show::print(&[letter()], true, false, out));
    assert_schema("dead-letters show", std::slice::from_ref(&shown), &[]);
    for (yes, form) in [
        (true, "dead-letters discard"),
        (false, "dead-letters discard, dry"),
    ] {
        let print = |json| text(|out| discard::print(3, yes, json, out));
        assert_schema(form, &[print(true)], &[]);
        let name = if yes { "discarded" } else { "would_discard" };
        insta::assert_snapshot!(name, print(false));
    }
    let json: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(json[0]["_id"]["offset"], 4711);
    let value = r#"{"id":"k","n":1.000000000000000000001,"n":18446744073709551616}"#;
    assert_eq!(json[0]["value"], value);
    assert_eq!(json[0]["headers"][0]["value"], json!({ "hex": "ff00" }));
    assert_eq!(json[0]["rejected_at"], "1970-01-01T00:00:01.000Z");
}

#[test]
fn a_list_is_one_line_each_and_says_how_it_continues() {
    let letters = [letter(), plain_letter(7)];
    insta::assert_snapshot!(
        "list",
        text(|out| list::print_list(&letters, 5_017, false, out))
    );
    let listed = text(|out| list::print_list(&letters, 9, true, out));
    assert_schema("dead-letters list", std::slice::from_ref(&listed), &[]);
    let json: Value = serde_json::from_str(&listed).unwrap();
    let cursor = Cursor::behind(&letters[1]).unwrap();
    assert_eq!(json[1]["cursor"], cursor.to_string());
    assert_eq!(read_cursor(&cursor.to_string()).unwrap(), cursor);
    for bad in ["", "1", "x:t::3:7", "1:t::3:7:8", "1:t:zz:3:7"] {
        assert!(read_cursor(bad).is_err(), "{bad}");
    }
}

#[test]
fn counts_have_their_times_and_an_example() {
    let count = |kind: Option<&str>, letters: i64| {
        doc! {
            "_id": kind, "letters": letters, "first": DateTime::from_millis(0),
            "last": DateTime::from_millis(1000), "example": id(12),
        }
    };
    let counts = [count(Some("Novelty"), 5_015), count(None, 1)];
    insta::assert_snapshot!(
        "count",
        text(|out| list::print_counts("kind", &counts, false, out))
    );
    insta::assert_snapshot!(
        "count_json",
        text(|out| list::print_counts("kind", &counts, true, out))
    );
    let by = ["reason", "kind", "code", "day"];
    let outputs = by.map(|by| text(|out| list::print_counts(by, &counts, true, out)));
    assert_schema("dead-letters list --by", &outputs, &[]);
}

#[test]
fn a_summary_is_one_screen() {
    let count = |state: &str, kind: String, letters: i64| {
        doc! {
            "_id": { "state": state, "reason": "unknown_kind", "kind": kind },
            "letters": letters, "first": DateTime::from_millis(letters),
            "last": DateTime::from_millis(100_000 + letters), "oldest": id(letters), "newest": id(99),
        }
    };
    let mut counts: Vec<Document> = (0..17)
        .map(|n| count("open", format!("Kind{n}"), 1_700 - n))
        .collect();
    counts.push(count("replayed", "Model".to_owned(), 7));
    insta::assert_snapshot!(
        "summary",
        text(|out| summary::print("g", &counts, false, out))
    );
    counts.drain(2..17);
    insta::assert_snapshot!(
        "summary_json",
        text(|out| summary::print("g", &counts, true, out))
    );
    let outputs =
        [&counts[..], &[]].map(|counts| text(|out| summary::print("g", counts, true, out)));
    assert_schema("dead-letters summary", &outputs, &[]);
}

#[test]
fn a_list_is_of_one_group_and_narrowed_by_what_is_asked() {
    let all = matching("g", &LetterFilter::default(), LetterState::All);
    assert_eq!(all, doc! { "_id.group": "g" });
    let some = LetterFilter {
        partitions: Partitions {
            topic: Some("t".to_owned()),
            partition: Some(3),
        },
        reason: Some("unknown_kind".to_owned()),
        kind: Some("Curve".to_owned()),
        code: Some(121),
        key: Some("k".to_owned()),
        since: Some(1),
        until: Some(2),
    };
    assert_eq!(
        matching("g", &some, LetterState::Open),
        doc! {
            "_id.group": "g",
            "state": { "$in": ["open", null] },
            "_id.topic": "t",
            "_id.partition": 3,
            "reason": "unknown_kind",
            "detail.kind": "Curve",
            "error.code": 121,
            "key": bytes(b"k"),
            "rejected_at": { "$gte": DateTime::from_millis(1), "$lt": DateTime::from_millis(2) },
        }
    );
}
