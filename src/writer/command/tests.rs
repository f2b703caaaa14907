use std::borrow::Cow;

use bson::{Document, bson, doc};
use proptest::prelude::*;

use super::*;
use crate::record::DOCUMENT_BYTES_MAX;

/// The most that the server accepts as a command.
const SERVER_COMMAND_BYTES_MAX: usize = 16 * 1024 * 1024 + 16 * 1024;

/// Room for what the driver adds to a command in a transaction: `lsid`, `txnNumber`,
/// `$clusterTime`, …
const DRIVER_BYTES: usize = 2 * 1024;

fn write<'a>(id: &'a str, document: &Document) -> Write<'a> {
    Write {
        record: 0,
        states: 1,
        id,
        document: Cow::Owned(document.to_vec().unwrap()),
        names: document.len(),
    }
}

/// A write whose document is `len` bytes long, its `_id` not counted.
fn write_of(id: &str, len: usize) -> Write<'_> {
    let text = "x".repeat(len - doc! { "x": "" }.to_vec().unwrap().len());
    write(id, &doc! { "x": text })
}

fn parsed(command: &RawDocumentBuf) -> Document {
    Document::from_reader(command.as_bytes()).unwrap()
}

/// Every element checked, as the server does, and not only those that are looked at.
fn assert_valid(command: &RawDocumentBuf) {
    assert_eq!(parsed(command).to_vec().unwrap(), command.as_bytes());
}

fn update_of(collection: &str, updates: Vec<Document>, time_ms_max: i64) -> Document {
    doc! {
        "update": collection, "updates": updates, "ordered": true, "maxTimeMS": time_ms_max,
    }
}

prop_compose! {
    fn document()(
        fields in prop::collection::btree_map("[a-zé]{1,8}", ".{0,20}", 0..6),
    ) -> Document {
        fields.into_iter().map(|(name, value)| (name, value.into())).collect()
    }
}

/// The write that a property test speaks of.
fn told((id, document, names): &(String, Document, usize)) -> Write<'_> {
    Write {
        names: *names,
        ..write(id, document)
    }
}

/// How many names a document is said to have: few or many.
fn names() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1, SET_NAMES_MAX, SET_NAMES_MAX + 1])
}

proptest! {
    #[test]
    fn an_update_is_what_a_document_would_be(
        collection in "[a-z]{1,20}",
        documents in prop::collection::vec((".{0,40}", document(), names()), 0..25),
        replace in any::<bool>(),
        time_ms_max in 1..100_000_i64,
    ) {
        let writes: Vec<_> = documents
            .iter()
            .map(told)
            .collect();
        let mode = if replace { WriteMode::Replace } else { WriteMode::Set };
        let command = update(&collection, &writes, mode, time_ms_max);
        let updates: Vec<_> = documents
            .iter()
            .map(|(id, document, names)| {
                let u = match mode {
                    WriteMode::Replace => document.into(),
                    WriteMode::Set if *names <= SET_NAMES_MAX => bson!({ "$set": document }),
                    WriteMode::Set => bson!([
                        { "$replaceWith": { "$mergeObjects": ["$$ROOT", { "$literal": document }] } },
                    ]),
                };
                doc! { "q": { "_id": id }, "u": u, "upsert": true }
            })
            .collect();
        let expected = update_of(&collection, updates, time_ms_max);
        prop_assert_eq!(parsed(&command), expected.clone());
        prop_assert_eq!(command.as_bytes(), expected.to_vec().unwrap());
    }

    #[test]
    fn an_update_of_statements_is_that_of_their_writes(
        parts in prop::collection::vec(
            prop::collection::vec((".{0,40}", document(), names()), 0..6),
            1..6,
        ),
        replace in any::<bool>(),
    ) {
        let mode = if replace { WriteMode::Replace } else { WriteMode::Set };
        let parts: Vec<Vec<Write<'_>>> = (parts.iter())
            .map(|part| part.iter().map(told).collect())
            .collect();
        let statements: Vec<Statements> = (parts.iter())
            .map(|part| Statements::new(part, mode))
            .collect();
        for (part, statements) in parts.iter().zip(&statements) {
            let room: usize = part.iter().map(statement_bytes).sum();
            prop_assert!(statements.bytes() <= room, "it grew while it was made");
        }
        let count: usize = statements.iter().map(Statements::count).sum();
        let all: Vec<Write<'_>> = parts.into_iter().flatten().collect();
        let each: Vec<&[u8]> = statements.iter().flat_map(Statements::iter).collect();
        let together = update_all("models", &each, 7);
        prop_assert_eq!(&together, &update("models", &all, mode, 7));
        prop_assert_eq!(count, all.len());
    }

    #[test]
    fn a_put_is_what_a_document_would_be(
        documents in prop::collection::vec((document(), document()), 0..12),
    ) {
        let documents: Vec<Document> = documents
            .into_iter()
            .map(|(id, mut document)| {
                document.insert("_id", id);
                document
            })
            .collect();
        let raw: Vec<_> = documents.iter().map(|d| RawDocumentBuf::try_from(d).unwrap()).collect();
        let command = put("letters", &raw, 5);
        let updates: Vec<_> = documents
            .iter()
            .map(|document| {
                let id = document.get_document("_id").unwrap();
                doc! { "q": { "_id": id }, "u": document, "upsert": true }
            })
            .collect();
        let expected = update_of("letters", updates, 5);
        prop_assert_eq!(command.as_bytes(), expected.to_vec().unwrap());
    }

    /// Runs hold every write once and in order, as many together as may be and no more.
    #[test]
    fn runs_are_cut_at_the_limits_and_nowhere_else(
        sizes in prop::collection::vec(
            prop_oneof![Just(20), Just(2 << 20), Just(3 << 20), Just(9 << 20)],
            0..12,
        ),
    ) {
        // One buffer for all: the sizes count here, not the contents.
        let buffer = vec![0; 9 << 20];
        let writes: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(record, size)| Write {
                record,
                states: 1,
                id: "",
                document: Cow::Borrowed(&buffer[..*size]),
                names: 1,
            })
            .collect();
        let bytes = |run: &[Write<'_>]| run.iter().map(|write| write.document.len()).sum::<usize>();
        let cut: Vec<_> = runs(&writes).collect();
        let written = cut.iter().flat_map(|run| run.iter());
        let records: Vec<usize> = written.map(|write| write.record).collect();
        prop_assert_eq!(records, (0..writes.len()).collect::<Vec<_>>());
        for run in &cut {
            prop_assert!(run.len() == 1 || bytes(run) <= COMMAND_BYTES_MAX);
            prop_assert!(!run.is_empty());
        }
        for pair in cut.windows(2) {
            let with_next = bytes(pair[0]) + pair[1][0].document.len();
            prop_assert!(with_next > COMMAND_BYTES_MAX, "room was left");
        }
    }
}

#[test]
fn runs_are_cut_by_count_too() {
    let id = "0".repeat(32);
    let document = doc! { "x": 1 };
    let writes: Vec<_> = (0..COMMAND_WRITES_MAX * 2 + 1)
        .map(|_| write(&id, &document))
        .collect();
    let lengths: Vec<_> = runs(&writes).map(<[Write<'_>]>::len).collect();
    assert_eq!(lengths, [COMMAND_WRITES_MAX, COMMAND_WRITES_MAX, 1]);
    assert_eq!(runs(&[]).count(), 0);
    let statements = Statements::new(&writes, WriteMode::Set);
    let statements: Vec<&[u8]> = statements.iter().collect();
    let lengths: Vec<_> = statement_runs(&statements).map(<[_]>::len).collect();
    assert_eq!(lengths, [COMMAND_WRITES_MAX, COMMAND_WRITES_MAX, 1]);
    assert_eq!(statement_runs(&[]).count(), 0);
    let ids = vec!["1"; COMMAND_IDS_MAX + 1];
    let lengths: Vec<_> = id_runs(&ids).map(<[&str]>::len).collect();
    assert_eq!(lengths, [COMMAND_IDS_MAX, 1]);
}

#[test]
fn ids_count_towards_a_run() {
    let id = "i".repeat(3 << 20);
    let document = doc! {};
    let writes: Vec<_> = (0..3).map(|_| write(&id, &document)).collect();
    assert_eq!(
        runs(&writes).map(<[Write<'_>]>::len).collect::<Vec<_>>(),
        [2, 1]
    );
}

#[test]
fn tombstones_of_long_keys_take_several_commands() {
    let id = "i".repeat(3 << 20);
    let ids = [&*id, &*id, &*id, "1"];
    let lengths: Vec<_> = id_runs(&ids).map(<[&str]>::len).collect();
    assert_eq!(lengths, [2, 2]);
    assert_eq!(id_runs(&[]).count(), 0);
}

#[test]
fn a_larger_document_goes_alone() {
    let writes = [
        write_of("1", 100),
        write_of("2", COMMAND_BYTES_MAX + 1),
        write_of("3", 100),
        write_of("4", 100),
    ];
    let lengths: Vec<_> = runs(&writes).map(<[Write<'_>]>::len).collect();
    assert_eq!(lengths, [1, 1, 2]);
}

#[test]
fn the_largest_document_fits_a_command() {
    let id = "0123456789abcdef0123456789abcdef";
    let id_len = b"t_id\0llll\0".len() + id.len();
    let largest = write_of(id, DOCUMENT_BYTES_MAX - id_len);
    let merged = Write {
        names: SET_NAMES_MAX + 1,
        ..write_of(id, DOCUMENT_BYTES_MAX - id_len)
    };
    for (mode, largest) in [
        (WriteMode::Set, &largest),
        (WriteMode::Set, &merged),
        (WriteMode::Replace, &largest),
    ] {
        let command = update(
            &"c".repeat(120),
            std::slice::from_ref(largest),
            mode,
            30_000,
        );
        assert!(command.as_bytes().len() + DRIVER_BYTES < SERVER_COMMAND_BYTES_MAX);
        assert_valid(&command);
    }
}

#[test]
fn a_full_run_fits_a_command() {
    let ids: Vec<String> = (0..COMMAND_WRITES_MAX)
        .map(|i| format!("{i:032}"))
        .collect();
    let each = COMMAND_BYTES_MAX / COMMAND_WRITES_MAX - 32;
    let writes: Vec<_> = ids.iter().map(|id| write_of(id, each)).collect();
    assert_eq!(runs(&writes).count(), 1);
    let command = update("models", &writes, WriteMode::Set, 30_000);
    assert!(command.as_bytes().len() + DRIVER_BYTES < SERVER_COMMAND_BYTES_MAX);
    assert_valid(&command);
}

#[test]
fn a_command_is_allocated_once() {
    for (names, overhead) in [(SET_NAMES_MAX, 96), (SET_NAMES_MAX + 1, 192)] {
        let writes: Vec<_> = (0..100)
            .map(|_| Write {
                names,
                ..write_of("0123456789abcdef", 100)
            })
            .collect();
        let bytes: usize = writes
            .iter()
            .map(|w| w.document.len() + w.id.len() + overhead)
            .sum();
        let command = update("models", &writes, WriteMode::Set, 30_000).into_bytes();
        assert!(command.capacity() <= bytes + 128, "it grew on the way");
    }
}

#[test]
fn a_delete_names_every_id() {
    let command = delete("models", &["1", "2"], 7);
    let expected = doc! {
        "delete": "models",
        "deletes": [{ "q": { "_id": { "$in": ["1", "2"] } }, "limit": 0 }],
        "maxTimeMS": 7_i64,
    };
    assert_eq!(parsed(&command), expected);
}
