use std::collections::BTreeSet;

use bson::raw::RawDocumentBuf;
use bson::{Uuid, doc};

use super::document::OlderDocument;
use super::*;
use crate::commands::offsets::tests::place;
use crate::commands::schema::assert_schema;
use crate::record::Record;
use crate::record::entity::Tombstones;
use crate::record::fold::{KindChanges, WriteMode};
use crate::record::mapping::Mapping;

const MAPPING: &str = "id='id'\nkind='kind'\nmaps=['labels']\n[collections]\nA='as'\nB='bs'\n";

/// What there is of the key `k`: a log of `0..end` with its checkpoint, and the documents.
#[derive(Clone)]
struct Case {
    start: i64,
    end: i64,
    next_offset: i64,
    /// Values by their offsets; `None` is a tombstone.
    records: Vec<(i64, Option<&'static str>)>,
    letters: Vec<Document>,
    stored: Vec<(&'static str, Document)>,
    mode: WriteMode,
    kind_changes: KindChanges,
    tombstones: Tombstones,
}

impl Default for Case {
    fn default() -> Self {
        Case {
            start: 0,
            end: 3,
            next_offset: 3,
            records: vec![
                (0, Some(r#"{"id":"k","kind":"A","a":1}"#)),
                (2, Some(r#"{"id":"k","kind":"A","b":2}"#)),
            ],
            letters: Vec::new(),
            stored: vec![("as", doc! { "_id": "k", "kind": "A", "a": 1, "b": 2 })],
            mode: WriteMode::Set,
            kind_changes: KindChanges::Keep,
            tombstones: Tombstones::Ignore,
        }
    }
}

impl Case {
    /// Every other offset of its log is another key's.
    fn log(&self, rules: &ExplainRules, shown_max: usize) -> PlaceLog {
        let mut place = place(Some(self.next_offset), None);
        place.log.offsets = self.start..self.end;
        place.log.stable_end = self.end;
        let letters = letters_in(&self.letters, &place.partition, &place.log);
        let applied_to = place.applied_to().unwrap();
        let mut reader = KeyReader::new(rules, b"k", &letters, applied_to, shown_max);
        for offset in self.start..self.end {
            let of_key = self.records.iter().find(|(at, _)| *at == offset);
            let header = (
                b"traceparent".to_vec(),
                Some(format!("00-{offset:031x}f-00f067aa0ba902b7-01").into_bytes()),
            );
            let record = Record {
                offset,
                timestamp_ms: Some(1_700_000_000_000 + offset),
                key: Some(if of_key.is_some() { b"k" } else { b"other" }),
                value: of_key
                    .map_or(Some("{}"), |(_, value)| *value)
                    .map(str::as_bytes),
                headers: vec![header],
                ..Record::default()
            };
            reader.record(&record).unwrap();
        }
        PlaceLog {
            place,
            is_home: true,
            found: reader.finish(),
        }
    }

    fn explained(&self) -> Explained {
        self.explained_with(10)
    }

    fn explained_with(&self, shown_max: usize) -> Explained {
        let rules = ExplainRules {
            mapping: Arc::new(Mapping::parse(MAPPING).unwrap()),
            tombstones: self.tombstones,
            mode: self.mode,
            kind_changes: self.kind_changes,
        };
        let logs = vec![self.log(&rules, shown_max)];
        let stored = rules.mapping.collections().filter_map(|(id, name)| {
            let (_, document) = self.stored.iter().find(|(other, _)| *other == name)?;
            let document = RawDocumentBuf::try_from(document).unwrap();
            Some((id, TopFields::read(&document).unwrap()))
        });
        Explained {
            key: "k".to_owned(),
            document: entity_document(&rules, &logs, &stored.collect()),
            logs,
            partitions: 1,
            letters: self.letters.clone(),
        }
    }

    fn verdict(&self) -> String {
        self.explained().verdict()
    }
}

fn letter(offset: i64, state: &str, reason: &str) -> Document {
    doc! {
        "_id": {
            "group": "g", "topic": "t", "topic_id": Uuid::from_bytes([1; 16]), "partition": 0,
            "offset": offset,
        },
        "state": state, "reason": reason, "detail": { "kind": "New\u{202e}" },
        "error": { "code": 121 },
    }
}

const UP_TO_DATE: &str = "up to date: the document is what the log says";

#[test]
fn the_first_line_answers_why_it_looks_stale() {
    let good = Case::default();
    assert_eq!(good.verdict(), UP_TO_DATE);
    let with = |change: &dyn Fn(&mut Case)| {
        let mut case = good.clone();
        change(&mut case);
        case.verdict()
    };
    let behind = with(&|case| {
        (case.next_offset, case.end) = (1, 9);
        case.stored = vec![("as", doc! { "_id": "k", "kind": "A", "a": 1 })];
    });
    assert_eq!(
        behind,
        "behind: the checkpoint is 2 records before its newest state"
    );
    let altered = with(&|case| {
        case.stored = vec![("as", doc! { "_id": "k", "kind": "A", "a": 1_i64, "c": 3 })];
    });
    assert_eq!(altered, "the document differs from the log in: a, b, c");
    let missing = with(&|case| case.stored.clear());
    assert_eq!(missing, "the document is missing in `as`");
    let unknown = with(&|case| {
        case.records.clear();
        case.stored.clear();
    });
    assert_eq!(
        unknown,
        "no record of this key in the topics, and no document"
    );
    let forgotten = with(&|case| case.records.clear());
    assert_eq!(
        forgotten,
        "no record of this key in the topics: what its document in `as` is from is no longer there"
    );
    let stopped = with(&|case| (case.start, case.end) = (1, 2));
    assert_eq!(
        stopped,
        "no record of this key in the topics: what its document in `as` is from is no longer there"
    );
    let truncated = with(&|case| case.next_offset = 7);
    assert_eq!(truncated, "its partition: truncated");
}

#[test]
fn a_state_counts_unless_its_letter_says_otherwise() {
    let mut case = Case {
        letters: vec![letter(2, "open", "unknown_kind")],
        stored: vec![("as", doc! { "_id": "k", "kind": "A", "a": 1 })],
        ..Case::default()
    };
    let rejected = "its newest state was rejected (unknown_kind New\\u{202e}), ";
    let accepted_today = "and would be accepted today: `dead-letters replay`";
    assert_eq!(case.verdict(), format!("{rejected}{accepted_today}"));
    case.letters = vec![letter(2, "discarded", "unknown_kind")];
    assert_eq!(case.verdict(), format!("{rejected}and given up"));
    case.letters = vec![letter(2, "open", "write_error")];
    assert_eq!(
        case.verdict(),
        "its newest state was rejected (write_error 121), `dead-letters replay` once the cause is \
         mended"
    );
    case.letters = vec![letter(2, "replayed", "unknown_kind")];
    assert_eq!(
        case.verdict(),
        "the document differs from the log in: b",
        "it was applied"
    );
    case.letters = vec![letter(0, "open", "unknown_kind")];
    case.stored = vec![("as", doc! { "_id": "k", "kind": "A", "b": 2 })];
    assert_eq!(
        case.verdict(),
        "1 state of it was rejected, and the letter is open"
    );
    case.letters = vec![letter(2, "open", "unknown_kind")];
    case.stored = vec![("as", doc! { "_id": "k", "kind": "A", "a": 1, "b": 2 })];
    let explained = case.explained();
    assert!(explained.document.has_open_letters);
    assert_eq!(
        explained.verdict(),
        "1 letter of it is open, though its record was applied since: `dead-letters replay` closes \
         it, and changes nothing"
    );
    assert!(!explained.document.comparison.is_faulty());
    case.letters.push(letter(0, "open", "write_error"));
    assert_eq!(
        case.verdict(),
        "its newest state was rejected (unknown_kind New\\u{202e}), and would be accepted today: \
         `dead-letters replay`; there is a document in `as`, and none by the log; 1 other state of it was \
         rejected, and the letter is open",
        "what MongoDB refused may be refused again"
    );
    case.stored = vec![("as", doc! { "_id": "k", "kind": "A", "b": 2 })];
    let mut former = letter(0, "open", "unknown_kind");
    let id = former.get_document_mut("_id").unwrap();
    id.insert("topic_id", Uuid::from_bytes([9; 16]));
    case.letters = vec![former];
    assert_eq!(
        case.verdict(),
        "the document differs from the log in: a",
        "a letter of another topic says nothing of this log"
    );
}

#[test]
fn what_the_log_has_lost_is_no_difference_where_fields_stay() {
    let mut case = Case {
        start: 1,
        ..Case::default()
    };
    let explained = case.explained();
    assert_eq!(explained.verdict(), UP_TO_DATE);
    let comparison = &explained.document.comparison;
    assert_eq!(comparison.of_lost_states, ["a".to_owned()].into());
    assert_eq!(comparison.would_be, comparison.stored);
    case.mode = WriteMode::Replace;
    assert_eq!(case.verdict(), "the document differs from the log in: a");
    case.mode = WriteMode::Set;
    case.tombstones = Tombstones::Delete;
    case.records.insert(1, (1, None));
    assert_eq!(
        case.verdict(),
        "the document differs from the log in: a",
        "nothing before the tombstone is left"
    );
    case.stored = vec![("as", doc! { "_id": "k", "kind": "A", "b": 2 })];
    assert_eq!(case.verdict(), UP_TO_DATE);
    case.records.truncate(2);
    assert_eq!(
        case.verdict(),
        "there is a document in `as`, and none by the log"
    );
    case.stored.clear();
    assert_eq!(
        case.verdict(),
        "up to date: there is no document, as the log says"
    );
}

#[test]
fn a_change_of_kind_leaves_an_older_document() {
    let mut case = Case::default();
    case.records[1].1 = Some(r#"{"id":"k","kind":"B","b":2}"#);
    case.stored = vec![
        ("as", doc! { "_id": "k", "kind": "A", "a": 1 }),
        ("bs", doc! { "_id": "k", "kind": "B", "b": 2 }),
    ];
    let explained = case.explained();
    assert_eq!(explained.verdict(), UP_TO_DATE);
    let [
        OlderDocument {
            collection,
            kind: Some(kind),
            until: Some(0),
            ..
        },
    ] = &explained.document.older[..]
    else {
        panic!("{:?}", explained.document.older);
    };
    assert_eq!((collection.as_str(), kind.as_str()), ("as", "A"));
    // While the second still waits, the first is the document.
    case.next_offset = 1;
    case.stored.pop();
    let explained = case.explained();
    assert_eq!(explained.document.moves_to.as_deref(), Some("bs"));
    assert_eq!(
        explained.document.collection.as_deref(),
        Some("as"),
        "as it is now"
    );
}

#[test]
fn where_a_change_of_kind_deletes_only_the_new_document_is_expected() {
    let mut case = Case {
        kind_changes: KindChanges::Delete,
        ..Case::default()
    };
    // To another collection and back, which leaves no field of before.
    case.records[1].1 = Some(r#"{"id":"k","kind":"B","b":2}"#);
    case.records
        .insert(1, (1, Some(r#"{"id":"k","kind":"B","c":3}"#)));
    case.stored = vec![("bs", doc! { "_id": "k", "kind": "B", "b": 2, "c": 3 })];
    assert_eq!(case.explained().verdict(), UP_TO_DATE);
    case.records
        .push((3, Some(r#"{"id":"k","kind":"A","b":4}"#)));
    (case.end, case.next_offset) = (4, 4);
    case.stored = vec![("as", doc! { "_id": "k", "kind": "A", "b": 4 })];
    assert_eq!(case.explained().verdict(), UP_TO_DATE);
    case.stored[0].1.insert("a", 1);
    let comparison = case.explained().document.comparison;
    assert_eq!(comparison.faulty(), BTreeSet::from([&"a".to_owned()]));
}

#[test]
fn states_are_shown_in_bounded_memory() {
    let explained = Case::default().explained_with(1);
    let found = &explained.logs[0].found;
    assert_eq!((found.states.len(), found.states_count), (1, 2));
    assert_eq!(found.states[0].offset, 2);
}

#[test]
fn people_and_programs_get_all_of_it_and_nothing_forges_a_line() {
    let mut case = Case {
        start: 1,
        end: 8,
        next_offset: 5,
        letters: vec![letter(3, "open", "unknown_kind")],
        stored: vec![
            (
                "as",
                doc! { "_id": "k", "kind": "A", "lost": "\u{1b}[2J\u{202e}" },
            ),
            ("bs", doc! { "_id": "k", "kind": "B\nforged" }),
        ],
        ..Case::default()
    };
    case.records = vec![
        (1, None),
        (
            2,
            Some(r#"{"id":"k","kind":"A","a":{"$oid":"x"},"labels":{"l":"v"}}"#),
        ),
        (3, Some(r#"{"id":"k","kind":"A","c":1.5}"#)),
        (4, Some(r#"{"id":"k","kind":"Old\r\n"}"#)),
        (6, Some(r#"{"id":"k","kind":"A","d":[1,null]}"#)),
        (7, Some(r#"not JSON"#)),
    ];
    let explained = case.explained();
    let mut text = Vec::new();
    print_explained(&explained, &mut text).unwrap();
    insta::assert_snapshot!("text", String::from_utf8(text).unwrap());
    let mut json = Vec::new();
    print_json_of(&explained, &mut json).unwrap();
    insta::assert_snapshot!("json", String::from_utf8(json.clone()).unwrap());
    let mut fine = Vec::new();
    print_json_of(&Case::default().explained(), &mut fine).unwrap();
    let maps = [
        ".document.expected",
        ".document.stored",
        ".document.would_be",
        ".older_documents[].document",
    ];
    assert_schema("explain", &[json, fine], &maps);
}
