use std::sync::Arc;

use bson::RawDocumentBuf;

use super::*;
use crate::record::DOCUMENT_BYTES_MAX;
use crate::record::entity::{Decoded, Decoder, Tombstones};
use crate::record::mapping::Mapping;
use crate::record::{Header, Partition, Record};

fn key() -> Key {
    Key {
        group: "a.group".to_owned(),
        partition: Partition::new("a.topic", 11),
    }
}

fn topic_id() -> Uuid {
    Uuid::from_bytes([5; 16])
}

/// A batch of one record, which is rejected as it has no JSON in it.
fn batch(key: Option<&[u8]>, value: &[u8], headers: Vec<Header>) -> Batch {
    let mut batch = Batch::new(0);
    let record = Record {
        leader_epoch: None,
        offset: 1 << 40,
        timestamp_ms: Some(1_700_000_000_123),
        key,
        value: Some(value),
        headers,
    };
    let mut decoder = Decoder::new(Arc::new(Mapping::builtin()), Tombstones::Ignore);
    assert!(batch.push(&mut decoder, record));
    assert_eq!(
        batch.entries()[0].decoded,
        Decoded::Rejected(Reason::MalformedValue)
    );
    batch
}

fn letter(batch: &Batch, refusal: Option<&Refusal>) -> Document {
    let entry = &batch.entries()[0];
    document(
        &Mapping::builtin(),
        &key(),
        Some(topic_id()),
        batch,
        entry,
        Reason::MalformedValue,
        refusal,
    )
}

fn len(letter: &Document) -> usize {
    RawDocumentBuf::try_from(letter).unwrap().as_bytes().len()
}

fn bytes_of<'d>(document: &'d Document, name: &str) -> &'d [u8] {
    document.get_binary_generic(name).unwrap()
}

fn header(letter: &Document, index: usize) -> &Document {
    letter.get_array("headers").unwrap()[index]
        .as_document()
        .unwrap()
}

#[test]
fn a_dead_letter_keeps_everything_of_its_record() {
    let headers = vec![
        ("traceparent".into(), Some(vec![0, 255])),
        ("empty".into(), Some(Vec::new())),
        ("null".into(), None),
        ("traceparent".into(), Some(b"again".to_vec())),
        (b"\xff\xfe".to_vec(), None),
    ];
    let before = DateTime::now();
    let mut letter = letter(&batch(Some(b"\xffkey"), b"not \x00 JSON", headers), None);
    let rejected_at = *letter.get_datetime("rejected_at").unwrap();
    assert!((before..=DateTime::now()).contains(&rejected_at));
    letter.remove("rejected_at");
    let binary = |bytes: &[u8]| Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    };
    let expected = doc! {
        "_id": {
            "group": "a.group", "topic": "a.topic", "topic_id": topic_id(),
            "partition": 11, "offset": 1_i64 << 40,
        },
        "state": "open",
        "reason": "malformed_value",
        "key": binary(b"\xffkey"),
        "value": binary(b"not \x00 JSON"),
        "headers": [
            { "key": "traceparent", "value": binary(&[0, 255]) },
            { "key": "empty", "value": binary(b"") },
            { "key": "null", "value": null },
            { "key": "traceparent", "value": binary(b"again") },
            { "key": binary(b"\xff\xfe"), "value": null },
        ],
        "timestamp": DateTime::from_millis(1_700_000_000_123),
        "service_version": env!("CARGO_PKG_VERSION"),
        "detail": { "message": "expected ident at line 1 column 2" },
    };
    assert_eq!(letter, expected);
}

#[test]
fn what_a_record_does_not_have_is_null() {
    let mut batch = Batch::new(0);
    let mut decoder = Decoder::new(Arc::new(Mapping::builtin()), Tombstones::Delete);
    batch.push(&mut decoder, Record::default());
    let entry = &batch.entries()[0];
    let mapping = Mapping::builtin();
    let letter = document(
        &mapping,
        &key(),
        None,
        &batch,
        entry,
        Reason::MalformedKey,
        None,
    );
    for name in ["key", "value", "timestamp"] {
        assert_eq!(letter.get(name), Some(&Bson::Null), "{name}");
    }
    let id = letter.get_document("_id").unwrap();
    assert_eq!(id.get("topic_id"), Some(&Bson::Null));
    assert_eq!(letter.get_array("headers").unwrap().len(), 0);
    assert!(!letter.contains_key("error") && !letter.contains_key("cut"));
}

#[test]
fn the_servers_word_is_kept_with_the_record_it_speaks_of() {
    let refusal = Refusal {
        code: 121,
        message: "Document failed validation".to_owned(),
        info: None,
    };
    let batch = batch(Some(b"1"), b"", Vec::new());
    let entry = &batch.entries()[0];
    let letter = document(
        &Mapping::builtin(),
        &key(),
        None,
        &batch,
        entry,
        Reason::WriteError,
        Some(&refusal),
    );
    assert_eq!(letter.get_str("reason").unwrap(), "write_error");
    let expected = doc! { "code": 121, "message": "Document failed validation" };
    assert_eq!(letter.get_document("error").unwrap(), &expected);
}

#[test]
fn what_the_server_says_beside_its_message_is_kept_up_to_a_size() {
    let refusal = |text: String| Refusal {
        code: 121,
        message: String::new(),
        info: Some(Box::new(doc! { "failingDocumentId": text })),
    };
    let small = error(&refusal("1".to_owned()));
    assert_eq!(
        small.get_document("info").unwrap(),
        &doc! { "failingDocumentId": "1" }
    );
    let large = error(&refusal("1".repeat(INFO_BYTES_MAX)));
    let info = large.get_str("info").unwrap();
    assert!(info.len() <= INFO_BYTES_MAX + 3 && info.ends_with("1…"));
}

#[test]
fn the_trace_is_that_of_the_first_valid_traceparent() {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let valid = format!("00-{id}-00f067aa0ba902b7-01");
    let header = |value: &str| ("traceparent".into(), Some(value.as_bytes().to_vec()));
    for (headers, expected) in [
        (vec![header("abc"), header(&valid)], Some(id)),
        (vec![header(&valid.to_uppercase())], None),
        (vec![header(&valid.replace(id, &"0".repeat(32)))], None),
        (vec![("traceparent".into(), None)], None),
        (
            vec![("other".into(), Some(valid.clone().into_bytes()))],
            None,
        ),
    ] {
        assert_eq!(trace_id(&headers), expected);
    }
}

#[test]
fn a_record_of_15_mib_is_kept_whole_and_one_byte_more_is_cut() {
    let value = vec![b'x'; WHOLE_BYTES_MAX + 1 - 3];
    let whole = letter(&batch(Some(b"key"), &value[1..], Vec::new()), None);
    assert!(!whole.contains_key("cut"));
    assert_eq!(bytes_of(&whole, "value").len(), WHOLE_BYTES_MAX - 3);
    assert!(len(&whole) <= DOCUMENT_BYTES_MAX);
    let cut = letter(&batch(Some(b"key"), &value, Vec::new()), None);
    assert!(cut.contains_key("cut"));
    assert_eq!(bytes_of(&cut, "value"), &value[..CUT_BYTES]);
    assert_eq!(
        bytes_of(&cut, "key"),
        b"key",
        "what is short enough stays whole"
    );
}

#[test]
fn a_cut_dead_letter_says_how_long_the_whole_was_and_what_its_hash_is() {
    let value = vec![0; 16 << 20];
    let headers = vec![("a".into(), Some(b"b".to_vec())), ("c".into(), None)];
    let letter = letter(&batch(Some(b"abc"), &value, headers), None);
    let cut = letter.get_document("cut").unwrap();
    // By sha256sum, of "abc", of 16 MiB of zeros, and again of "abc".
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let zeros = "080acf35a507ac9849cfcba47dc2ad83e01b75663a516279c8b9d243b719643e";
    let expected = doc! {
        "key": { "bytes": 3_i64, "sha256": abc },
        "value": { "bytes": 16_i64 << 20, "sha256": zeros },
        "headers": { "count": 2_i64, "bytes": 3_i64, "sha256": abc },
    };
    assert_eq!(cut, &expected);
    let coordinates = letter.get_document("_id").unwrap();
    assert_eq!(coordinates.get_i64("offset").unwrap(), 1 << 40);
    assert_eq!(letter.get_str("reason").unwrap(), "malformed_value");

    let nothing = super::sizes(None, None, &batch(None, b"", Vec::new()).entries()[0]);
    assert_eq!(
        (nothing.get("key"), nothing.get("value")),
        (Some(&Bson::Null), Some(&Bson::Null))
    );
}

#[test]
fn a_name_is_cut_between_characters() {
    // The limit falls into the middle of a character of two, three and four bytes.
    for character in ["é", "€", "😀"] {
        let name = "x".to_owned() + &character.repeat(CUT_BYTES);
        let value = vec![0; WHOLE_BYTES_MAX];
        let letter = letter(
            &batch(
                None,
                &value,
                vec![(name.clone().into(), Some(vec![0; CUT_BYTES + 1]))],
            ),
            None,
        );
        let kept = header(&letter, 0).get_str("key").unwrap();
        assert!(name.starts_with(kept));
        assert!((CUT_BYTES - 3..=CUT_BYTES).contains(&kept.len()));
        assert_eq!(bytes_of(header(&letter, 0), "value").len(), CUT_BYTES);
    }
}

#[test]
fn the_servers_message_is_cut_too() {
    let refusal = Refusal {
        code: 2,
        message: "é".repeat(16 << 20),
        info: None,
    };
    let letter = letter(&batch(None, b"", Vec::new()), Some(&refusal));
    let message = letter
        .get_document("error")
        .unwrap()
        .get_str("message")
        .unwrap();
    assert_eq!(message.len(), CUT_BYTES);
    assert!(!letter.contains_key("cut"), "the record is whole");
}

#[test]
fn many_headers_fit_whole_or_are_cut() {
    for count in [60_000, 240_000, 400_000] {
        let headers = vec![(Vec::new(), Some(Vec::new())); count];
        let letter = letter(&batch(None, b"", headers), None);
        assert!(len(&letter) <= DOCUMENT_BYTES_MAX, "{count}");
        let kept = letter.get_array("headers").unwrap().len();
        let cut = letter.contains_key("cut");
        assert_eq!(kept, if cut { CUT_HEADERS } else { count });
        assert_eq!(cut, count == 400_000);
    }
}

/// Wherever a record's bytes are, its dead letter can be stored: these are the largest there can
/// be.
#[test]
fn every_dead_letter_fits_a_document() {
    let message = "m".repeat(CUT_BYTES + 1);
    let longest =
        |count: usize, len: usize| vec![("x".repeat(len).into(), Some(vec![0; len])); count];
    for (key_len, value_len, headers) in [
        (0, WHOLE_BYTES_MAX, Vec::new()),
        (WHOLE_BYTES_MAX, 0, Vec::new()),
        (
            CUT_BYTES,
            WHOLE_BYTES_MAX,
            longest(CUT_HEADERS + 1, CUT_BYTES + 1),
        ),
        (0, 0, longest(WHOLE_BYTES_MAX / (2 * 1_000 + 64), 1_000)),
        (0, 0, longest(WHOLE_BYTES_MAX / (2 * 20 + 64), 20)),
        (100, 100, longest(1, WHOLE_BYTES_MAX / 2 - 200)),
    ] {
        let refusal = Refusal {
            code: 1,
            message: message.clone(),
            info: None,
        };
        let batch = batch(Some(&vec![0; key_len]), &vec![b'{'; value_len], headers);
        let len = len(&letter(&batch, Some(&refusal)));
        assert!((8 << 20..=DOCUMENT_BYTES_MAX).contains(&len), "{len} bytes");
    }
}
