//! A record that cannot be applied is kept as a dead letter, whole, and holds up no other.

use std::collections::BTreeMap;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, doc};
use local_stack::Message;
use test_support::history::read_log;
use test_support::look::number;
use test_support::scene::Scene;
use test_support::wait::until;
use test_support::worker::run;

use crate::drain::{expected, written};

const ID: &str = "0123456789abcdef0123456789abcdef";

/// The server's code for a document that a collection's validator refuses.
const VALIDATION: i64 = 121;
/// The server's code for a value that a unique index has already.
const DUPLICATE: i64 = 11_000;

fn keyed(value: impl Into<Vec<u8>>) -> Message {
    Message::new(ID, value)
}

fn with(fields: &str) -> Message {
    keyed(format!(r#"{{"id":"{ID}","kind":"Dataset",{fields}}}"#))
}

fn entity(id: u32, kind: &str, fields: &str) -> Message {
    let id = format!("{id:032x}");
    Message::new(
        id.clone(),
        format!(r#"{{"id":"{id}","kind":"{kind}",{fields}}}"#),
    )
}

/// What the contract rejects by itself, with the reason.
fn rejected_by_contract() -> Vec<(&'static str, Message)> {
    let deep = format!(r#""deep":{}1{}"#, "[".repeat(100), "]".repeat(100));
    // As BSON an array of small integers is six times its JSON.
    let large = format!(r#""large":[{}0]"#, "0,".repeat(1_400_000));
    let whole = format!(r#"{{"id":"{ID}","kind":"Dataset"}}"#);
    let without_key = Message {
        key: None,
        ..keyed(whole.clone())
    };
    vec![
        ("malformed_value", keyed(*b"\xff\xfe")),
        ("malformed_value", keyed("not JSON")),
        ("malformed_value", keyed(r#"["id"]"#)),
        ("malformed_value", keyed(format!("{whole} {whole}"))),
        ("malformed_value", with(r#""x":NaN"#)),
        ("malformed_value", keyed("x".repeat(16_000_000))),
        ("malformed_key", without_key),
        ("malformed_key", Message::new(*b"\xff", whole.clone())),
        ("missing_id", keyed(r#"{"kind":"Dataset"}"#)),
        ("missing_id", keyed(r#"{"id":null,"kind":"Dataset"}"#)),
        ("missing_id", keyed(r#"{"id":7,"kind":"Dataset"}"#)),
        ("key_mismatch", Message::new("another", whole)),
        ("missing_kind", keyed(format!(r#"{{"id":"{ID}"}}"#))),
        (
            "missing_kind",
            keyed(format!(r#"{{"id":"{ID}","kind":7}}"#)),
        ),
        (
            "unknown_kind",
            keyed(format!(r#"{{"id":"{ID}","kind":"Nonsense"}}"#)),
        ),
        ("malformed_labels", with(r#""labels":[]"#)),
        ("malformed_labels", with(r#""labels":"a=b""#)),
        ("unsafe_field_name", with(r#""":1"#)),
        ("unsafe_field_name", with(r#""$set":{"a":1}"#)),
        ("unsafe_field_name", with(r#""a.b":1"#)),
        ("unsafe_field_name", with(r#""_id":"x""#)),
        ("unsafe_field_name", with(r#""a":{"b\u0000c":1}"#)),
        ("number_out_of_range", with(r#""n":9223372036854775808"#)),
        ("number_out_of_range", with(r#""n":1e400"#)),
        ("too_deep", with(&deep)),
        ("too_large", with(&large)),
    ]
}

/// A state that a unique index lets pass, and one that it does not; likewise for a validator.
fn judged_by_the_server() -> [(Option<i64>, Message); 6] {
    [
        (None, entity(1, "Method", r#""name":"taken""#)),
        (Some(DUPLICATE), entity(2, "Method", r#""name":"taken""#)),
        (None, entity(2, "Method", r#""name":"free""#)),
        (None, entity(3, "Report", r#""size":1"#)),
        (
            Some(VALIDATION),
            entity(3, "Report", r#""size":-1,"lost":true"#),
        ),
        (None, entity(3, "Report", r#""size":2"#)),
    ]
}

fn skipped() -> [Message; 3] {
    let null = "0".repeat(32);
    let owned = format!(r#"{{"id":"{null}","kind":"Dataset"}}"#);
    let tombstone = |key: Option<&str>| Message {
        key: key.map(|key| key.as_bytes().to_vec()),
        ..Message::default()
    };
    [
        Message::new(null, owned),
        tombstone(Some(ID)),
        tombstone(None),
    ]
}

fn binary(bytes: Option<&[u8]>) -> Bson {
    let of = |bytes: &[u8]| Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    };
    bytes.map_or(Bson::Null, |bytes| Bson::Binary(of(bytes)))
}

/// One of each poison, in order, with the record that it is expected for.
struct Poison {
    offset: i64,
    reason: &'static str,
    code: Option<i64>,
    record: Message,
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_poison_becomes_dead_letters_with_all_that_it_carried() {
    let scene = Scene::uncompacted("poison", 1).await;
    server_that_judges(&scene).await;
    let (mut topic, mut poison, mut good): (Vec<Message>, Vec<Poison>, Vec<Message>) =
        Default::default();
    let mut add = |record: Message, rejected: Option<(&'static str, Option<i64>)>| {
        let headers = [
            ("trace", Some(b"a\xffb".to_vec())),
            ("empty", Some(vec![])),
            ("null", None),
        ];
        let record = Message {
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
            ..record
        };
        topic.push(record.clone());
        match rejected {
            Some((reason, code)) => poison.push(Poison {
                offset: topic.len() as i64 - 1,
                reason,
                code,
                record,
            }),
            None => good.push(record),
        }
    };
    for (n, (reason, record)) in (100..).zip(rejected_by_contract()) {
        add(entity(n, "Dataset", r#""before":true"#), None);
        add(record, Some((reason, None)));
        add(entity(n, "Dataset", r#""after":true"#), None);
    }
    for (code, record) in judged_by_the_server() {
        add(record, code.map(|code| ("write_error", Some(code))));
    }
    for record in skipped() {
        add(record, None);
    }
    scene.produce(&topic);
    let began = DateTime::now();
    let mut worker = scene.worker(&[]);
    scene.settled().await;

    assert_eq!(scene.entities().await, expected(&good));
    let letters = scene.dead_letters().await;
    let ended = DateTime::now();
    let (log, topic_id) = (read_log(&scene).await, scene.topic_id().await);
    let mut found: BTreeMap<i64, Document> = letters
        .into_iter()
        .map(|letter| {
            (
                number(letter.get_document("_id").unwrap().get("offset")),
                letter,
            )
        })
        .collect();
    for poison in &poison {
        let mut letter = found
            .remove(&poison.offset)
            .unwrap_or_else(|| panic!("no dead letter for {} at {}", poison.reason, poison.offset));
        let rejected_at = letter.remove("rejected_at");
        let rejected_at = rejected_at
            .as_ref()
            .and_then(Bson::as_datetime)
            .expect("rejected_at");
        assert!((began..=ended).contains(rejected_at), "{rejected_at}");
        if let Some(code) = poison.code {
            let Some(Bson::Document(error)) = letter.remove("error") else {
                panic!("no error in {letter}");
            };
            assert_eq!(number(error.get("code")), code);
            assert!(!error.get_str("message").expect("a message").is_empty());
        }
        let value = poison.record.value.as_deref();
        if value.is_some_and(|value| value.len() > 15 * 1024 * 1024) {
            let cut = letter.remove("cut").expect("it says that it is cut");
            let cut = cut
                .as_document()
                .expect("a document")
                .get_document("value")
                .expect("of the value");
            assert_eq!(
                number(cut.get("bytes")),
                value.map_or(0, <[u8]>::len) as i64
            );
            assert_eq!(
                letter.remove("value"),
                Some(binary(value.map(|value| &value[..64 * 1024])))
            );
        } else {
            assert_eq!(letter.remove("value"), Some(binary(value)));
        }
        let headers = poison.record.headers.iter();
        let headers: Vec<Document> = headers
            .map(|(key, value)| doc! { "key": key, "value": binary(value.as_deref()) })
            .collect();
        let timestamp = log[&0][poison.offset as usize]
            .timestamp_ms
            .expect("a timestamp");
        let id = doc! {
            "group": &scene.group, "topic": &scene.topic, "topic_id": topic_id, "partition": 0, "offset": poison.offset,
        };
        let rest = doc! {
            "_id": id,
            "reason": poison.reason,
            "key": binary(poison.record.key.as_deref()),
            "headers": headers,
            "timestamp": DateTime::from_millis(timestamp),
            "service_version": env!("CARGO_PKG_VERSION"),
        };
        assert_eq!(letter.remove("state"), Some(Bson::from("open")));
        let is_told = letter.remove("detail").is_some();
        assert!(is_told, "{}: no detail", poison.reason);
        assert_eq!(letter, rest);
    }
    assert!(found.is_empty(), "not poison: {found:?}");

    let counted = |reason: &str| {
        worker.metric(
            "workflows_sink_dead_letters_total",
            &format!("\"{reason}\""),
        )
    };
    until("the last batch is counted", || async {
        counted("write_error") == Some(2.0)
    })
    .await;
    for poison in &poison {
        let count = rejected_by_contract()
            .iter()
            .filter(|(reason, _)| *reason == poison.reason)
            .count();
        assert_eq!(
            counted(poison.reason),
            Some(if count == 0 { 2.0 } else { count as f64 })
        );
    }
    assert_eq!(written(&worker), (good.len() - 3) as f64);
    assert_eq!(
        worker.metric("workflows_sink_records_settled_total", "\"skipped\""),
        Some(3.0)
    );
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

/// A collection with a unique index, and one with a validator.
async fn server_that_judges(scene: &Scene) {
    let options = mongodb::options::IndexOptions::builder()
        .unique(true)
        .build();
    let unique = mongodb::IndexModel::builder()
        .keys(doc! { "name": 1 })
        .options(options)
        .build();
    let methods = scene.database.collection::<Document>("methods");
    methods.create_index(unique).await.expect("an index");
    let reports = scene.database.create_collection("reports");
    reports
        .validator(doc! { "size": { "$gte": 0 } })
        .await
        .expect("a collection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_nothing_but_rejections_stops_its_partition_and_no_other() {
    let scene = Scene::new("breaker", 2).await;
    let numbered = |n: u32, partition: i32, kind: &str| Message {
        partition: Some(partition),
        ..entity(n, kind, r#""a":1"#)
    };
    let unknown: Vec<Message> = (1..101).map(|n| numbered(n, 0, "Nonsense")).collect();
    let good: Vec<Message> = (200..300).map(|n| numbered(n, 1, "Dataset")).collect();
    scene.produce(&unknown);
    let limits = [
        ("DYFF_WORKFLOWS_SINK__REJECTIONS_IN_A_ROW_MAX", "20"),
        ("DYFF_WORKFLOWS_SINK__FLUSH_RECORDS_MAX", "10"),
    ];
    let mut worker = scene.worker(&limits);
    until("the breaker is open", || async {
        worker.metric("workflows_sink_breaker_open", "") == Some(1.0)
    })
    .await;
    scene.produce(&good);
    until("the other partition goes on", || async {
        scene.checkpoints().await.get(&1) == Some(&100)
    })
    .await;
    assert_eq!(scene.entities().await, expected(&good));
    assert_eq!(
        worker.count("ERROR", "this partition has stopped"),
        1,
        "{}",
        worker.log()
    );
    worker.logs("`workflows-sink dead-letters list`").await;
    assert_eq!(scene.checkpoints().await[&0], 20);
    assert_eq!(scene.dead_letters().await.len(), 20);
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    // Once somebody has looked, there is no limit, and all of it is kept.
    let resolve = ["offsets", "resolve", "--continue", "--yes"];
    let (code, _, error) = run(&scene.environment(), &resolve).await;
    assert_eq!(code, Some(0), "{error}");
    let mut unlimited = scene.worker(&[("DYFF_WORKFLOWS_SINK__REJECTIONS_IN_A_ROW_MAX", "0")]);
    scene.settled().await;
    assert_eq!(scene.dead_letters().await.len(), 100);
    assert_eq!(
        unlimited.metric("workflows_sink_breaker_open", ""),
        Some(0.0)
    );
    assert_eq!(unlimited.stop().await, Some(0), "{}", unlimited.log());
}
