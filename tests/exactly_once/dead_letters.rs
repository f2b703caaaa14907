//! What is kept of a rejected record.

use bson::{Bson, Document, doc};
use workflows_sink::record::batch::Batch;
use workflows_sink::record::{Header, Record};

use crate::support::{World, records, settle};

/// MongoDB's limit of a document.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

fn bytes<'a>(letter: &'a Document, name: &str) -> &'a [u8] {
    letter.get_binary_generic(name).unwrap()
}

#[tokio::test]
async fn a_dead_letter_keeps_the_record_as_it_came_and_where_it_stood() {
    let world = World::new("letter").await;
    let mut writer = world.sink().await.writer(4).await;
    let mut batch = records(4);
    let headers: Vec<Header> = vec![
        ("trace".into(), Some(vec![0xff, 0x00])),
        ("trace".into(), None),
    ];
    batch.record(Record {
        leader_epoch: None,
        offset: 4,
        timestamp_ms: Some(1_700_000_000_123),
        key: Some(b"\xfe"),
        value: Some(b"{}"),
        headers,
    });
    batch.record(Record {
        offset: 6,
        key: None,
        value: Some(b"\xff"),
        ..Record::default()
    });
    let settled = settle(&mut writer, &batch.batch()).await;
    assert_eq!(settled.next_offset(), 7);

    let letters = world.dead_letters().await;
    let [first, second] = &letters[..] else {
        panic!("{letters:?}");
    };
    let id = doc! { "group": "sinks", "topic": "states", "topic_id": null, "partition": 3, "offset": 4_i64 };
    assert_eq!(first.get_document("_id").unwrap(), &id);
    assert_eq!(first.get_str("reason").unwrap(), "malformed_key");
    assert_eq!(
        (bytes(first, "key"), bytes(first, "value")),
        (&b"\xfe"[..], &b"{}"[..])
    );
    let headers = first.get_array("headers").unwrap();
    assert_eq!(headers.len(), 2);
    let header = headers[0].as_document().unwrap();
    assert_eq!(header.get_str("key").unwrap(), "trace");
    assert_eq!(bytes(header, "value"), [0xff, 0x00]);
    assert_eq!(
        headers[1],
        Bson::from(doc! { "key": "trace", "value": null })
    );
    let timestamp = first.get_datetime("timestamp").unwrap();
    assert_eq!(timestamp.timestamp_millis(), 1_700_000_000_123);
    assert_eq!(
        first.get_str("service_version").unwrap(),
        env!("CARGO_PKG_VERSION")
    );
    assert!(first.get_datetime("rejected_at").is_ok());
    assert!(!first.contains_key("error") && !first.contains_key("cut"));

    assert_eq!(
        second
            .get_document("_id")
            .unwrap()
            .get_i64("offset")
            .unwrap(),
        6
    );
    assert_eq!(second.get_str("reason").unwrap(), "malformed_value");
    assert_eq!(
        (second.get("key"), second.get("timestamp")),
        (Some(&Bson::Null), Some(&Bson::Null))
    );
}

#[tokio::test]
async fn a_record_that_is_rejected_again_takes_the_same_place() {
    let world = World::new("rejected_again").await;
    let sink = world.sink().await;
    let batch = |start| {
        let batch = records(start).push(Some(b"a"), Some(b"no JSON"));
        batch.push(Some(b"b"), Some(b"no JSON")).batch()
    };
    for _ in 0..3 {
        let mut writer = sink.writer(0).await;
        settle(&mut writer, &batch(0)).await;
        world
            .tamper(doc! { "$set": { "next_offset": 0_i64 } })
            .await;
    }
    assert_eq!(world.dead_letters().await.len(), 2);
}

#[tokio::test]
async fn a_record_too_large_for_a_document_is_cut_and_says_so() {
    let world = World::new("cut").await;
    let mut writer = world.sink().await.writer(0).await;
    let poison = vec![b'x'; DOCUMENT_BYTES_MAX];
    let batch = records(0)
        .push(Some(b"k"), Some(&poison))
        .dataset("a", r#""n": 1"#)
        .batch();
    settle(&mut writer, &batch).await;
    let letters = world.dead_letters().await;
    let value = bytes(&letters[0], "value");
    assert!(!value.is_empty() && value.len() < 1024 * 1024 && poison.starts_with(value));
    assert_eq!(bytes(&letters[0], "key"), b"k");
    let cut = letters[0].get_document("cut").unwrap();
    let cut = cut.get_document("value").unwrap();
    assert_eq!(cut.get_i64("bytes").unwrap(), DOCUMENT_BYTES_MAX as i64);
    assert_eq!(
        cut.get_str("sha256").unwrap(),
        // head -c 16777216 /dev/zero | tr '\0' x | sha256sum
        "a06c26cbac8b80704f420222dae5658b88ff2da96702d12ef7a4223e9361f7c1"
    );
    assert_eq!(world.documents("datasets").await.len(), 1);
}

#[tokio::test]
async fn a_large_record_that_fits_is_kept_whole() {
    let world = World::new("kept_whole").await;
    let mut writer = world.sink().await.writer(0).await;
    let poison = vec![b'x'; 15 * 1024 * 1024 - 1];
    let batch = records(0).push(Some(b"k"), Some(&poison)).batch();
    settle(&mut writer, &batch).await;
    let letters = world.dead_letters().await;
    assert_eq!(bytes(&letters[0], "value"), poison);
    assert!(!letters[0].contains_key("cut"));
}

/// Together they are more than one command can carry.
#[tokio::test]
async fn many_large_dead_letters_are_one_transaction_all_the_same() {
    let world = World::new("many_letters").await;
    let mut writer = world.sink().await.writer(0).await;
    let poison = vec![b'x'; 3 * 1024 * 1024];
    let header: Header = ("trace".into(), Some(poison.clone()));
    let mut batch = records(0);
    for offset in 0..12 {
        let (value, headers) = if offset % 2 == 0 {
            (&poison[..], vec![])
        } else {
            (&b"no JSON"[..], vec![header.clone()])
        };
        batch.record(Record {
            offset,
            value: Some(value),
            headers,
            ..Record::default()
        });
    }
    let batch: Batch = batch.batch();
    let settled = settle(&mut writer, &batch).await;
    assert_eq!(settled.counts().transactions, 1);
    assert_eq!(world.dead_letters().await.len(), 12);
}
