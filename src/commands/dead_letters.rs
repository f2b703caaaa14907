//! `dead-letters list` and `show`: the records that were rejected.

use std::io::{self, Write};

use anyhow::ensure;
use bson::{Bson, Document, doc, spec::BinarySubtype};
use futures_util::TryStreamExt as _;
use mongodb::Database;
use serde_json::{Map, Value, json};

use super::{or_dash, print_json, print_table, printable, shown};
use crate::cli::{DeadLetters, Partitions};
use crate::config::Config;
use crate::database;
use crate::writer::dead_letter::COLLECTION;

/// The name under which JSON has bytes that are not text.
const HEX: &str = "hex";

/// How much of a key a list shows, in characters.
const KEY_CHARS_MAX: usize = 40;

/// Executes a command, and prints its result.
pub async fn execute(
    config: &Config,
    command: DeadLetters,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let database = database::open(&config.mongodb).await?;
    let group = &config.kafka.group;
    match command {
        DeadLetters::List {
            partitions,
            reason,
            limit,
            json,
        } => {
            let filter = filter(group, &partitions, reason.as_deref());
            let (letters, all) = list(&database, filter, i64::from(limit)).await?;
            print_list(&letters, all, json, out)
        }
        DeadLetters::Show {
            topic,
            partition,
            offset,
            json,
        } => {
            let filter = doc! {
                "_id.group": group,
                "_id.topic": &topic,
                "_id.partition": partition,
                "_id.offset": offset,
            };
            let found: Vec<Document> = database
                .collection::<Document>(COLLECTION)
                .find(filter)
                .await?
                .try_collect()
                .await?;
            ensure!(
                !found.is_empty(),
                "the group {group} has no dead letter at {topic}[{partition}] offset {offset}"
            );
            print_letters(&found, json, out)
        }
    }
}

fn filter(group: &str, partitions: &Partitions, reason: Option<&str>) -> Document {
    let mut filter = doc! { "_id.group": group };
    if let Some(topic) = &partitions.topic {
        filter.insert("_id.topic", topic);
    }
    if let Some(partition) = partitions.partition {
        filter.insert("_id.partition", partition);
    }
    if let Some(reason) = reason {
        filter.insert("reason", reason);
    }
    filter
}

/// The latest `limit` letters without their values, and how many there are in all.
async fn list(
    database: &Database,
    filter: Document,
    limit: i64,
) -> anyhow::Result<(Vec<Document>, u64)> {
    let collection = database.collection::<Document>(COLLECTION);
    let all = collection.count_documents(filter.clone()).await?;
    let is_bytes = doc! { "$eq": [{ "$type": "$value" }, "binData"] };
    let pipeline = [
        doc! { "$match": filter },
        doc! { "$project": {
            "reason": 1, "key": 1, "timestamp": 1, "error": 1, "rejected_at": 1,
            "service_version": 1, "cut": 1,
            "value_bytes": { "$ifNull": [
                "$cut.value.bytes",
                { "$cond": [is_bytes, { "$binarySize": "$value" }, null] },
            ] },
        } },
        doc! { "$sort": { "rejected_at": -1, "_id": -1 } },
        doc! { "$limit": limit },
    ];
    Ok((
        collection.aggregate(pipeline).await?.try_collect().await?,
        all,
    ))
}

fn print_list(
    letters: &[Document],
    all: u64,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if json {
        return Ok(print_json(
            out,
            &letters.iter().map(document_json).collect(),
        )?);
    }
    if letters.is_empty() {
        return Ok(writeln!(out, "no dead letters")?);
    }
    let header = [
        "topic",
        "partition",
        "offset",
        "reason",
        "code",
        "key",
        "bytes",
        "rejected at",
    ];
    let rows = letters.iter().map(|letter| {
        let id = letter.get_document("_id").ok();
        let part = |name: &str| or_dash(id.and_then(|id| id.get(name)).map(plain));
        let error = letter.get_document("error").ok();
        let key = or_dash(letter.get("key").map(plain));
        vec![
            part("topic"),
            part("partition"),
            part("offset"),
            or_dash(letter.get("reason").map(plain)),
            or_dash(error.and_then(|error| error.get("code")).map(plain)),
            key.chars().take(KEY_CHARS_MAX).collect(),
            or_dash(letter.get("value_bytes").map(plain)),
            or_dash(letter.get("rejected_at").map(plain)),
        ]
    });
    print_table(
        out,
        &header,
        &["partition", "offset", "code", "bytes"],
        rows,
    )?;
    if all > letters.len() as u64 {
        writeln!(
            out,
            "\nthe latest {} of {all}; more with --limit",
            letters.len()
        )?;
    }
    Ok(())
}

fn print_letters(letters: &[Document], json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    if json {
        return Ok(print_json(
            out,
            &letters.iter().map(document_json).collect(),
        )?);
    }
    for (i, letter) in letters.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        for (name, value) in letter.iter().filter(|(name, _)| *name != "value") {
            print_field(name, value, out)?;
        }
        let value = letter.get("value").map(pretty);
        writeln!(out, "value\n{}", printable(&or_dash(value)))?;
    }
    Ok(())
}

fn print_field(name: &str, value: &Bson, out: &mut impl Write) -> io::Result<()> {
    let mut line = |name: &str, text: &str| writeln!(out, "{name:<16}{}", printable(text));
    match (name, value) {
        ("_id" | "error", Bson::Document(parts)) => {
            for (name, value) in parts {
                line(name, &plain(value))?;
            }
        }
        ("headers", Bson::Array(headers)) => {
            for header in headers.iter().filter_map(Bson::as_document) {
                let part = |name: &str| or_dash(header.get(name).map(plain));
                line("header", &format!("{} = {}", part("key"), part("value")))?;
            }
        }
        ("cut", cut) => {
            let whole = bson_json(cut);
            line(
                name,
                &format!("only its beginning was kept; the whole: {whole}"),
            )?;
        }
        _ => line(name, &plain(value))?,
    }
    Ok(())
}

/// A value for a terminal: JSON is indented; other text as it is; other bytes in hex.
fn pretty(value: &Bson) -> String {
    let plain = plain(value);
    match serde_json::from_str::<Value>(&plain) {
        Ok(json) => format!("{json:#}"),
        Err(_) => plain,
    }
}

/// One field as text.
fn plain(value: &Bson) -> String {
    match bson_json(value) {
        Value::String(text) => text,
        Value::Null => "-".to_owned(),
        other => match (other.get(HEX), other.as_object().map(Map::len)) {
            (Some(Value::String(hex)), Some(1)) => format!("0x{hex}"),
            _ => other.to_string(),
        },
    }
}

fn document_json(document: &Document) -> Value {
    let fields = document
        .iter()
        .map(|(name, value)| (name.clone(), bson_json(value)));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// Plain JSON for programs: bytes that are UTF-8 as text, others as `{"hex": …}`; ids and times as
/// text.
fn bson_json(value: &Bson) -> Value {
    match value {
        Bson::Document(document) => document_json(document),
        Bson::Array(values) => values.iter().map(bson_json).collect(),
        Bson::Binary(binary) if binary.subtype == BinarySubtype::Uuid => {
            json!(binary.to_uuid().map(|id| id.to_string()).ok())
        }
        Bson::Binary(binary) => match std::str::from_utf8(&binary.bytes) {
            Ok(text) => json!(text),
            Err(_) => {
                let digits = binary.bytes.iter().map(|byte| format!("{byte:02x}"));
                json!({ HEX: digits.collect::<String>() })
            }
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

#[cfg(test)]
mod tests {
    use bson::{Binary, DateTime, Uuid};

    use super::*;

    fn bytes(bytes: &[u8]) -> Binary {
        Binary {
            subtype: BinarySubtype::Generic,
            bytes: bytes.to_vec(),
        }
    }

    fn letter() -> Document {
        doc! {
            "_id": {
                "group": "g",
                "topic": "t",
                "topic_id": Uuid::from_bytes([1; 16]),
                "partition": 3,
                "offset": 4711_i64,
            },
            "reason": "write_error",
            "key": bytes(b"k\x1b[2J"),
            "value": bytes(br#"{"id":"k"}"#),
            "headers": [{ "key": "trace", "value": bytes(&[0xff, 0x00]) }],
            "timestamp": DateTime::from_millis(0),
            "rejected_at": DateTime::from_millis(1000),
            "error": { "code": 121, "message": "Document failed validation" },
        }
    }

    fn text(print: impl FnOnce(&mut Vec<u8>) -> anyhow::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_letter_is_shown_in_full_and_moves_no_cursor() {
        let text = text(|out| print_letters(&[letter()], false, out));
        for line in [
            "topic           t",
            "topic_id        01010101-0101-0101-0101-010101010101",
            "partition       3",
            "offset          4711",
            "reason          write_error",
            "key             k\\u{1b}[2J",
            "header          trace = 0xff00",
            "timestamp       1970-01-01T00:00:00Z",
            "code            121",
            "message         Document failed validation",
            "value",
            "  \"id\": \"k\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn programs_get_the_same_as_json() {
        let json: Value =
            serde_json::from_str(&text(|out| print_letters(&[letter()], true, out))).unwrap();
        assert_eq!(json[0]["_id"]["offset"], 4711);
        assert_eq!(json[0]["value"], r#"{"id":"k"}"#);
        assert_eq!(json[0]["headers"][0]["value"], json!({ "hex": "ff00" }));
        assert_eq!(json[0]["rejected_at"], "1970-01-01T00:00:01Z");
    }

    #[test]
    fn a_list_is_one_line_each_and_says_that_there_is_more() {
        let table = text(|out| print_list(&[letter()], 9, false, out));
        let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            row,
            [
                "t",
                "3",
                "4711",
                "write_error",
                "121",
                "k\\u{1b}[2J",
                "-",
                "1970-01-01T00:00:01Z"
            ]
        );
        assert!(table.ends_with("the latest 1 of 9; more with --limit\n"));
        assert_eq!(
            text(|out| print_list(&[], 0, false, out)),
            "no dead letters\n"
        );
    }

    #[test]
    fn a_list_is_of_one_group_and_narrowed_by_what_is_asked() {
        let all = filter("g", &Partitions::default(), None);
        assert_eq!(all, doc! { "_id.group": "g" });
        let some = Partitions {
            topic: Some("t".to_owned()),
            partition: Some(3),
        };
        assert_eq!(
            filter("g", &some, Some("unknown_kind")),
            doc! {
                "_id.group": "g",
                "_id.topic": "t",
                "_id.partition": 3,
                "reason": "unknown_kind",
            }
        );
    }
}
