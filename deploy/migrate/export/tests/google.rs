//! What others write is read, and written alike: Google's own classes the entities, and LevelDB the
//! logs. See `tests/data/README.md`.

use std::io::Read;
use std::path::PathBuf;

use datastore_export::write::{LogWriter, encode};
use datastore_export::{Entity, Fault, Id, Key, Place, Step, Value, read_log, sources};
use flate2::read::GzDecoder;

fn key(project: &str, namespace: &str, path: &str) -> Key {
    let key: Key = path.parse().unwrap();
    Key {
        project: project.into(),
        namespace: namespace.into(),
        ..key
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn properties<const N: usize>(properties: [(&str, Value); N]) -> Vec<(String, Value)> {
    properties
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

fn inflated(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    GzDecoder::new(gzip).read_to_end(&mut bytes).unwrap();
    bytes
}

fn every_type() -> Entity {
    let user = properties([
        ("email", text("someone@example.com")),
        ("auth_domain", text("gmail.com")),
        ("user_id", text("1234")),
    ]);
    Entity {
        key: key("project", "", "Account:public/Evaluation:5634161670881280"),
        properties: properties([
            ("null", Value::Null),
            ("yes", Value::Bool(true)),
            ("least", Value::Integer(i64::MIN)),
            ("most", Value::Integer(i64::MAX)),
            ("third", Value::Double(1.0 / 3.0)),
            ("negativeZero", Value::Double(-0.0)),
            ("infinite", Value::Double(f64::INFINITY)),
            ("creationTime", Value::Timestamp(1_600_000_000_123_456)),
            ("before1970", Value::Timestamp(-1)),
            ("status", text("Complete ✓")),
            ("link", text("https://example.com")),
            ("bytes", Value::Blob((0..=255).collect())),
            (
                "point",
                Value::Point {
                    latitude: 48.1,
                    longitude: 11.5,
                },
            ),
            (
                "model",
                Value::Key(key("project", "", "Account:public/Model:7")),
            ),
            ("user", Value::Entity(user)),
            (
                "tags",
                Value::Array(vec![text("a"), text("b"), Value::Null]),
            ),
            ("between", Value::Integer(1)),
            ("one", Value::Array(vec![Value::Integer(1)])),
            ("none", Value::Array(vec![])),
            ("text", text("long")),
            ("blob", Value::Blob(b"\x00\xff".into())),
            ("packed", Value::Blob(b"packed ".repeat(9))),
        ]),
    }
}

fn nested() -> Entity {
    let list = Value::Array(vec![Value::Integer(1), Value::Integer(2)]);
    let mut inner = properties([("n", Value::Integer(1)), ("list", list)]);
    for _ in 0..3 {
        inner = properties([("inner", Value::Entity(inner))]);
    }
    Entity {
        key: Key {
            project: "project".into(),
            namespace: "team".into(),
            path: vec![Step {
                kind: "Nested".into(),
                id: Id::Name("a/b:c%d".into()),
            }],
        },
        properties: properties([("deep", Value::Entity(inner))]),
    }
}

fn large() -> Entity {
    Entity {
        key: Key {
            project: "project".into(),
            namespace: String::new(),
            path: vec![Step {
                kind: "Large".into(),
                id: Id::Name("1".into()),
            }],
        },
        properties: properties([("blob", Value::Blob(vec![0; 40_000]))]),
    }
}

#[test]
fn what_google_encodes_is_read_as_it_was_given() {
    let path = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/output-0.gz"
    ));
    let file: &str = path.to_str().unwrap();
    let sources = sources(std::slice::from_ref(&path)).unwrap().files;
    let mut reader = sources[0].open().unwrap();
    let found: Vec<(Place, Entity)> = reader
        .by_ref()
        .map(|(place, entity)| (place, entity.unwrap()))
        .collect();
    let expected = [every_type(), nested(), large(), every_type()];
    assert_eq!(found.len(), expected.len());
    for (number, ((place, entity), expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(entity, expected);
        assert_eq!(place.to_string(), format!("{file} record {}", number + 1));
    }
    // Debug tells what equality does not: -0.0 is 0.0.
    assert_eq!(format!("{:?}", found[0].1), format!("{:?}", every_type()));
    assert_eq!(Some(reader.bytes_read()), sources[0].bytes);
}

/// An export of a demo is what it claims to be.
#[test]
fn an_entity_is_written_byte_for_byte_as_google_encodes_it() {
    let list = Value::Array(vec![text("a"), text("b")]);
    let point = Value::Point {
        latitude: 48.1,
        longitude: 11.5,
    };
    let model = Value::Key(key("project", "", "Account:public/Model:7"));
    let inner = properties([("n", Value::Integer(1))]);
    let entity = Entity {
        key: key("project", "team", "Account:public/Evaluation:7"),
        properties: properties([
            ("null", Value::Null),
            ("yes", Value::Bool(true)),
            ("whole", Value::Integer(-1)),
            ("third", Value::Double(1.0 / 3.0)),
            ("creationTime", Value::Timestamp(1_600_000_000_123_456)),
            ("status", text("Complete")),
            ("point", point),
            ("model", model),
            ("tags", list),
            ("none", Value::Array(vec![])),
            ("text", text(&"t".repeat(1501))),
            ("blob", Value::Blob(vec![0; 40_000])),
            ("inner", Value::Entity(inner)),
        ]),
    };
    let mut log = LogWriter::new(vec![]);
    log.add(&encode(&entity).unwrap()).unwrap();
    let google = inflated(include_bytes!("data/written.gz"));
    assert!(log.into_inner() == google, "other bytes than Google's");
}

/// What LevelDB was given: one batch for each pair of key and value.
fn batches() -> Vec<Vec<u8>> {
    let bytes = [10, 32_701, 32_733, 20, 100_000, 0];
    let batch = |(number, length): (u8, usize)| {
        let mut batch = u64::from(number + 1).to_le_bytes().to_vec();
        batch.extend(1_u32.to_le_bytes());
        batch.extend(b"\x01\x04key");
        batch.push(b'0' + number);
        let mut rest = length;
        while rest >= 0x80 {
            batch.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        batch.push(u8::try_from(rest).unwrap());
        batch.extend(vec![number; length]);
        batch
    };
    (0..).zip(bytes).map(batch).collect()
}

#[test]
fn a_log_is_written_byte_for_byte_as_leveldb_writes_it() {
    let mut log = LogWriter::new(vec![]);
    for batch in batches() {
        log.add(&batch).unwrap();
    }
    let leveldb = inflated(include_bytes!("data/leveldb.gz"));
    assert!(log.into_inner() == leveldb, "other bytes than LevelDB's");
}

/// A batch is no entity, but each is found, and nothing between them is called damaged.
#[test]
fn each_record_of_a_log_of_leveldb_is_found() {
    let leveldb = inflated(include_bytes!("data/leveldb.gz"));
    let faults: Vec<Fault> = read_log(&leveldb[..], "log")
        .map(|(_, found)| found.unwrap_err())
        .collect();
    let not_entity = |fault: &Fault| matches!(fault, Fault::NotEntity { .. });
    assert!(faults.iter().all(not_entity), "{faults:?}");
    assert_eq!(faults.len(), batches().len());
}
