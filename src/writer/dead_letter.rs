//! A rejected record as it is kept: everything that is needed to understand it, and to produce it
//! again.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, Uuid, doc};
use sha2::{Digest, Sha256};

use crate::checkpoint::Key;
use crate::record::Header;
use crate::record::batch::{Batch, Entry};
use crate::record::detail::{Detail, detail};
use crate::record::entity::{Reason, Refusal};
use crate::record::mapping::Mapping;
use crate::telemetry::version::VERSION;

#[cfg(test)]
mod tests;

/// The collection that holds the dead letters.
pub const COLLECTION: &str = "workflows_sink_dead_letters";

/// The most bytes of key, value and headers that are kept whole: the document stays under MongoDB's
/// 16 MiB, whatever else is in it.
const WHOLE_BYTES_MAX: usize = 15 * 1024 * 1024;

/// How many bytes of each part are kept of a record that is cut.
const CUT_BYTES: usize = 64 * 1024;

/// How many headers are kept of a record that is cut.
const CUT_HEADERS: usize = 64;

/// The most bytes of what the server says beside a message, as BSON; of more, only its text's
/// beginning is kept.
const INFO_BYTES_MAX: usize = 16 * 1024;

/// The state of a letter whose record is not applied. Letters of release 0.1.0 have no state, and
/// are open.
pub const OPEN: &str = "open";

/// The state of a letter whose record was applied after all.
pub const REPLAYED: &str = "replayed";

/// The state of a letter that a person has given up.
pub const DISCARDED: &str = "discarded";

/// The condition on the state of a letter that is open. Letters of release 0.1.0 have no state.
pub fn is_open() -> Document {
    doc! { "$in": [OPEN, Bson::Null] }
}

/// The field `closed` of a letter that is no longer open, for `why`.
pub fn closed(why: &str) -> Document {
    doc! { "at": DateTime::now(), "by_version": VERSION, "why": first(why, CUT_BYTES) }
}

/// The field `error` of a letter whose write the server refuses.
pub fn error(refusal: &Refusal) -> Document {
    let message = first(&refusal.message, CUT_BYTES);
    let mut error = doc! { "code": refusal.code, "message": message };
    if let Some(info) = &refusal.info {
        let bytes = info.to_vec().map_or(usize::MAX, |bytes| bytes.len());
        match bytes <= INFO_BYTES_MAX {
            true => error.insert("info", info.as_ref().clone()),
            false => error.insert(
                "info",
                format!("{}…", first(&info.to_string(), INFO_BYTES_MAX)),
            ),
        };
    }
    error
}

/// The `_id` of a letter: where its record stands. Ids compare by the order of their fields too, so
/// nothing else makes one.
pub fn id(key: &Key, topic_id: Option<Uuid>, offset: i64) -> Document {
    doc! {
        "group": &key.group,
        "topic": &*key.partition.topic,
        "topic_id": topic_id,
        "partition": key.partition.number,
        "offset": offset,
    }
}

/// The document for a rejected record. Its `_id` is where the record stands, so that the same
/// record rejected again replaces it, and is open again.
///
/// `entry` is one of `batch`, decoded by `mapping`. `refusal` is what the server answered, for
/// [`Reason::WriteError`].
pub fn document(
    mapping: &Mapping,
    key: &Key,
    topic_id: Option<Uuid>,
    batch: &Batch,
    entry: &Entry,
    reason: Reason,
    refusal: Option<&Refusal>,
) -> Document {
    let (record_key, value) = (batch.key(entry), batch.value(entry));
    let bytes = [record_key, value]
        .into_iter()
        .flatten()
        .map(<[u8]>::len)
        .sum::<usize>()
        + entry.header_bytes();
    let cut = bytes > WHOLE_BYTES_MAX;
    let keep = if cut { CUT_BYTES } else { usize::MAX };
    let headers = entry
        .headers
        .iter()
        .take(if cut { CUT_HEADERS } else { usize::MAX });
    let header = |(name, value): &Header| {
        let value = binary(value.as_deref(), keep);
        doc! { "key": header_name(name, keep), "value": value }
    };
    let mut letter = doc! {
        "_id": id(key, topic_id, entry.offset),
        "state": OPEN,
        "reason": reason.as_str(),
        "key": binary(record_key, keep),
        "value": binary(value, keep),
        "headers": headers.map(header).collect::<Vec<_>>(),
        "timestamp": entry.timestamp_ms.map(DateTime::from_millis),
        "service_version": VERSION,
        "rejected_at": DateTime::now(),
    };
    let detail = detail_document(detail(mapping, record_key, value, reason));
    if !detail.is_empty() {
        letter.insert("detail", detail);
    }
    if let Some(trace_id) = trace_id(&entry.headers) {
        letter.insert("trace_id", trace_id);
    }
    if let Some(refusal) = refusal {
        letter.insert("error", error(refusal));
    }
    if cut {
        letter.insert("cut", sizes(record_key, value, entry));
    }
    letter
}

/// What is known of a detail, by the names of its parts.
fn detail_document(detail: Detail) -> Document {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let parts = [
        ("kind", detail.kind.map(Bson::from)),
        ("field", detail.field.map(Bson::from)),
        ("found", detail.found.map(Bson::from)),
        ("number", detail.number.map(Bson::from)),
        ("key", detail.key.map(Bson::from)),
        ("id", detail.id.map(Bson::from)),
        (
            "depth",
            detail.depth.map(|depth| number(depth.into()).into()),
        ),
        ("bytes", detail.bytes.map(|bytes| number(bytes).into())),
        ("message", detail.message.map(Bson::from)),
    ];
    let known = parts.into_iter();
    known
        .filter_map(|(name, part)| Some((name.to_owned(), part?)))
        .collect()
}

/// The trace that a record belongs to, by its header `traceparent` (W3C Trace Context): the first
/// one that is valid.
pub fn trace_id(headers: &[Header]) -> Option<&str> {
    let is_hex = |text: &str| {
        text.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let named = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"traceparent"));
    let values = named.filter_map(|(_, value)| str::from_utf8(value.as_deref()?).ok());
    let ids = values.filter_map(|value| {
        let mut parts = value.split('-');
        let (version, id, parent) = (parts.next()?, parts.next()?, parts.next()?);
        let is_valid = (version.len(), id.len(), parent.len()) == (2, 32, 16)
            && [version, id, parent].into_iter().all(is_hex)
            && id.bytes().any(|digit| digit != b'0');
        is_valid.then_some(id)
    });
    ids.into_iter().next()
}

/// What a dead letter that is cut says about the whole record: sizes in bytes, and SHA-256 in hex.
/// About the headers it says their count, and the hash of all names and values one after the other.
fn sizes(key: Option<&[u8]>, value: Option<&[u8]>, entry: &Entry) -> Document {
    let part = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => Bson::from(
            doc! { "bytes": bytes.len() as i64, "sha256": hex::encode(Sha256::digest(bytes)) },
        ),
        None => Bson::Null,
    };
    let headers = (entry.headers.iter())
        .flat_map(|(name, value)| [name.as_slice(), value.as_deref().unwrap_or_default()]);
    let (mut bytes, mut hash) = (0, Sha256::new());
    for part in headers {
        bytes += part.len();
        hash.update(part);
    }
    let headers = doc! {
        "count": entry.headers.len() as i64,
        "bytes": bytes as i64,
        "sha256": hex::encode(hash.finalize()),
    };
    doc! { "key": part(key), "value": part(value), "headers": headers }
}

fn binary(bytes: Option<&[u8]>, keep: usize) -> Bson {
    bytes.map_or(Bson::Null, |bytes| {
        let bytes = bytes[..bytes.len().min(keep)].to_vec();
        Bson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes,
        })
    })
}

/// The name as text where it is text, else as bytes.
fn header_name(name: &[u8], keep: usize) -> Bson {
    match str::from_utf8(name) {
        Ok(text) => Bson::from(first(text, keep)),
        Err(_) => binary(Some(name), keep),
    }
}

/// The beginning of `text`, at most `keep` bytes, not through the middle of a character.
fn first(text: &str, keep: usize) -> &str {
    &text[..text.floor_char_boundary(keep)]
}
