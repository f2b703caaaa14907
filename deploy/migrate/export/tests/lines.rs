//! Plain JSON lines, and files of each form and compression.

use std::fs;
use std::io::{Cursor, Write};

use datastore_export::write::{LogWriter, encode};
use datastore_export::{Entity, Fault, Reader, Value, decode_line, sources};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn plain_json_is_read_with_its_own_types_and_in_its_order() {
    let line = br#"{"z":1,"a":1.0,"key":"Account:public/Evaluation:5634161670881280","t":"x",
        "null":null,"yes":true,"list":[1,"b",[]],"inner":{"b":1,"a":{}}}"#;
    let entity = decode_line(line).unwrap();
    assert_eq!(
        entity.key.to_string(),
        "Account:public/Evaluation:5634161670881280"
    );
    let inner = vec![
        ("b".into(), Value::Integer(1)),
        ("a".into(), Value::Entity(vec![])),
    ];
    let list = vec![Value::Integer(1), text("b"), Value::Array(vec![])];
    let expected: Vec<(String, Value)> = vec![
        ("z".into(), Value::Integer(1)),
        ("a".into(), Value::Double(1.0)),
        ("t".into(), text("x")),
        ("null".into(), Value::Null),
        ("yes".into(), Value::Bool(true)),
        ("list".into(), Value::Array(list)),
        ("inner".into(), Value::Entity(inner)),
    ];
    assert_eq!(entity.properties, expected);
}

#[test]
fn the_key_of_a_line_says_its_form() {
    let table = [
        (
            r#"{"__key__":"K:1","key":"k"}"#,
            "K:1",
            vec![("key", text("k"))],
        ),
        (
            r#"{"key":[{"kind":"K","id":1},{"kind":"L","name":"1"}]}"#,
            "K:1/L:%31",
            vec![],
        ),
        (r#"{"key":[{"kind":"K","id":"1"}]}"#, "K:1", vec![]),
        (
            r#"{"key":{"path":[{"kind":"K","name":"a"}]}}"#,
            "K:a",
            vec![],
        ),
        (
            r#"{"key":"K:1","properties":"p"}"#,
            "K:1",
            vec![("properties", text("p"))],
        ),
    ];
    for (line, key, properties) in table {
        let entity = decode_line(line.as_bytes()).unwrap();
        assert_eq!(entity.key.to_string(), key);
        let named = properties
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        assert!(entity.properties.into_iter().eq(named), "{line}");
    }
}

#[test]
fn a_line_that_is_no_entity_is_a_fault_that_holds_no_value() {
    let table: [(&[u8], &str); 14] = [
        (b"secret", "not JSON at column 1"),
        (b"{\"key\":\"K:1\"", "not JSON at column"),
        (b"{\"key\":\"K:1\"} {}", "not JSON at column"),
        (b"\"\xff\"", "not JSON at column 0"),
        (b"[]", "no object"),
        (b"{}", "no member key"),
        (b"{\"key\":1}", "neither text, list nor object"),
        (b"{\"key\":\"secret\"}", "KIND:ID"),
        (b"{\"key\":[]}", "its key is incomplete"),
        (b"{\"key\":\"K:0\"}", "its key is incomplete"),
        (
            b"{\"key\":[{\"kind\":\"K\",\"id\":1,\"x\":1}]}",
            "beside kind",
        ),
        (b"{\"key\":\"K:1\",\"a\":1,\"a\":2}", "given twice"),
        (
            b"{\"key\":\"K:1\",\"a\":9223372036854775808}",
            "beyond 64 bits",
        ),
        (b"{\"key\":\"K:1\",\"a\":1e999}", "beyond"),
    ];
    for (line, why) in table {
        let fault = decode_line(line).unwrap_err().to_string();
        assert!(fault.contains(why), "{fault}");
        assert!(!fault.contains("secret"), "{fault}");
    }
    let deep = format!(
        "{{\"key\":\"K:1\",\"a\":{}{}}}",
        "[".repeat(99_999),
        "]".repeat(99_999)
    );
    let fault = decode_line(deep.as_bytes()).unwrap_err();
    assert!(matches!(fault, Fault::Depth { .. }), "{fault}");
}

proptest! {
    /// `serde_json` alone would round the last bit of some.
    #[test]
    fn every_number_is_read_as_it_was_written(double in prop::num::f64::NORMAL, integer: i64) {
        let line = format!("{{\"key\":\"K:1\",\"d\":{double:?},\"i\":{integer}}}");
        let entity = decode_line(line.as_bytes()).unwrap();
        prop_assert_eq!(entity.get("d"), Some(&Value::Double(double)));
        prop_assert_eq!(entity.get("i"), Some(&Value::Integer(integer)));
    }

    #[test]
    fn no_text_brings_the_reader_down(
        text in r#"(\PC|[\[\]{}:,"0-9.eE+-]|"key"|"K:1"|\\u|path|kind|id|name|null){0,40}"#
    ) {
        let _ = decode_line(text.as_bytes());
        let _ = decode_line(format!("{{\"key\":\"K:1\",\"a\":{text}}}").as_bytes());
        let _ = decode_line(format!("{{\"key\":{{\"path\":{text}}}}}").as_bytes());
    }
}

const LINES: &[u8] = b"{\"key\":\"K:1\"}\n{\"key\":\"K:2\"}\n";

fn log() -> Vec<u8> {
    let mut log = LogWriter::new(vec![]);
    for id in 1..=2 {
        let entity = Entity {
            key: format!("K:{id}").parse().unwrap(),
            properties: vec![],
        };
        log.add(&encode(&entity).unwrap()).unwrap();
    }
    log.into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// The keys of a file, or what is wrong.
fn keys(bytes: Vec<u8>, file: &str) -> Result<Vec<String>, Fault> {
    let reader = Reader::new(Cursor::new(bytes), file)?;
    let keys = reader.map(|(_, entity)| Ok(entity?.key.to_string()));
    keys.collect()
}

#[test]
fn a_file_of_any_form_and_compression_is_read() {
    for content in [LINES.to_vec(), log()] {
        let (begin, end) = content.split_at(20);
        // The end of a zstd frame that holds nothing, as some programs write.
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
        let table = [
            content.clone(),
            gzip(&content),
            [gzip(begin), gzip(end)].concat(),
            zstd(&content),
            [zstd(begin), skippable.to_vec(), zstd(end)].concat(),
            [skippable.to_vec(), zstd(&content)].concat(),
        ];
        for (number, bytes) in table.into_iter().enumerate() {
            let keys = keys(bytes, "-").unwrap_or_else(|fault| panic!("{number}: {fault}"));
            assert_eq!(keys, ["K:1", "K:2"], "{number}");
        }
    }
    assert_eq!(keys(vec![], "-").unwrap(), [""; 0]);
    let marked = [b"\xef\xbb\xbf", LINES].concat();
    assert_eq!(keys(marked, "-").unwrap(), ["K:1", "K:2"]);
}

#[test]
fn a_compressed_file_that_is_cut_or_damaged_is_a_fault() {
    for compress in [gzip, zstd] {
        let whole = compress(LINES);
        for length in 5..whole.len() {
            let cut = keys(whole[..length].to_vec(), "-");
            assert!(matches!(cut, Err(Fault::Io(_))), "{length}: {cut:?}");
        }
        let mut damaged = whole.clone();
        let last = damaged.len() - 6;
        damaged[last] ^= 1;
        assert!(keys(damaged, "-").is_err());
    }
    // A frame's checksum is its last four bytes, if the frame has one.
    let mut other = zstd(LINES);
    *other.last_mut().unwrap() ^= 1;
    assert!(matches!(keys(other, "-"), Err(Fault::Io(_))));
}

#[test]
fn a_log_is_known_by_its_name_when_its_beginning_is_damaged() {
    let mut log = log();
    log[..7].copy_from_slice(b"{\"key\":");
    assert!(matches!(
        keys(log, "kind_K/output-3"),
        Err(Fault::Damaged { .. })
    ));
}

#[test]
fn what_was_read_of_a_file_can_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("entities.jsonl.gz");
    let lines: Vec<u8> = (1..10_000)
        .flat_map(|id| format!("{{\"key\":\"K:{}\"}}\n", id * 7_919 % 10_007).into_bytes())
        .collect();
    fs::write(&path, gzip(&lines)).unwrap();
    let source = sources(&[path]).unwrap().files.remove(0);
    let mut reader = source.open().unwrap();
    assert_eq!(
        reader.by_ref().filter(|(_, found)| found.is_ok()).count(),
        9_999
    );
    assert_eq!(Some(reader.bytes_read()), source.bytes);
}
