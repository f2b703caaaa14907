//! The dead letters that records must become.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, doc};
use sha2::{Digest as _, Sha256};
use workflows_sink::record::entity::Reason;

use super::timeline::Step;
use super::{Record, Settings};

/// Beyond this many bytes a record is cut.
const WHOLE_BYTES_MAX: usize = 15 * 1024 * 1024;
/// What is left of each part of a record that is cut, in bytes.
const CUT_BYTES: usize = 64 * 1024;
/// How many headers are left of it.
const CUT_HEADERS: usize = 64;
/// What a header counts for beside its bytes.
const HEADER_BYTES: usize = 64;

/// The letter's `_id`.
pub fn id(settings: &Settings, partition: i32, step: &Step<'_>) -> Document {
    doc! {
        "group": &settings.group,
        "topic": &settings.topic,
        "topic_id": step.topic_id,
        "partition": partition,
        "offset": step.record.offset,
    }
}

/// The letter of a rejected record, but for what [`comparable`] leaves out.
pub fn letter(settings: &Settings, partition: i32, step: &Step<'_>, reason: Reason) -> Document {
    let Record {
        key,
        value,
        headers,
        timestamp_ms,
        ..
    } = step.record;
    let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let header_bytes = |(name, value): &(String, Option<Vec<u8>>)| name.len() + len(value);
    let headers_bytes: usize = headers.iter().map(header_bytes).sum();
    let is_cut =
        len(key) + len(value) + headers_bytes + HEADER_BYTES * headers.len() > WHOLE_BYTES_MAX;
    let keep = if is_cut { CUT_BYTES } else { usize::MAX };
    let keep_headers = if is_cut { CUT_HEADERS } else { usize::MAX };
    let kept = headers.iter().take(keep_headers).map(|(name, value)| {
        let name = &name[..name.floor_char_boundary(keep)];
        doc! { "key": name, "value": binary(value, keep) }
    });
    let mut letter = doc! {
        "_id": id(settings, partition, step),
        "reason": reason.as_str(),
        "key": binary(key, keep),
        "value": binary(value, keep),
        "headers": kept.collect::<Vec<_>>(),
        "timestamp": timestamp_ms.map(DateTime::from_millis),
    };
    if is_cut {
        let part = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map_or(Bson::Null, |bytes| {
                doc! { "bytes": bytes.len() as i64, "sha256": hex::encode(Sha256::digest(bytes)) }.into()
            })
        };
        let mut all = Vec::new();
        for (name, value) in headers {
            all.extend_from_slice(name.as_bytes());
            all.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        let headers = doc! { "count": headers.len() as i64, "bytes": headers_bytes as i64, "sha256": hex::encode(Sha256::digest(&all)) };
        letter.insert(
            "cut",
            doc! { "key": part(key), "value": part(value), "headers": headers },
        );
    }
    letter
}

/// A letter without what differs from one writing to the next; `None` if it lacks that.
pub fn comparable(letter: &Document) -> Option<Document> {
    let mut letter = letter.clone();
    letter.remove("service_version")?.as_str()?;
    letter.remove("rejected_at")?.as_datetime()?;
    // What is derived from the record, and held by tests of its own.
    for derived in ["state", "detail", "trace_id"] {
        letter.remove(derived);
    }
    let is_refused = letter.get_str("reason").ok() == Some(Reason::WriteError.as_str());
    (letter.remove("error").is_some() == is_refused).then_some(letter)
}

fn binary(bytes: &Option<Vec<u8>>, keep: usize) -> Bson {
    bytes.as_ref().map_or(Bson::Null, |bytes| {
        Bson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes: bytes[..bytes.len().min(keep)].to_vec(),
        })
    })
}
