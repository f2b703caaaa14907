//! Which letters: what was typed as a query, and the cursor of a list. Pure.

use anyhow::Context as _;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, Uuid, doc};

use crate::cli::{LetterFilter, LetterState};
use crate::writer::dead_letter::{DISCARDED, REPLAYED, is_open};

/// The query for the letters of `group` that match, in this state.
pub(in crate::commands) fn matching(
    group: &str,
    filter: &LetterFilter,
    state: LetterState,
) -> Document {
    let mut query = doc! { "_id.group": group };
    match state {
        LetterState::Open => query.insert("state", is_open()),
        LetterState::Replayed => query.insert("state", REPLAYED),
        LetterState::Discarded => query.insert("state", DISCARDED),
        LetterState::All => None,
    };
    if let Some(topic) = &filter.partitions.topic {
        query.insert("_id.topic", topic);
    }
    if let Some(partition) = filter.partitions.partition {
        query.insert("_id.partition", partition);
    }
    if let Some(reason) = &filter.reason {
        query.insert("reason", reason);
    }
    if let Some(kind) = &filter.kind {
        query.insert("detail.kind", kind);
    }
    if let Some(code) = filter.code {
        query.insert("error.code", code);
    }
    if let Some(key) = &filter.key {
        let bytes = key.clone().into_bytes();
        let subtype = BinarySubtype::Generic;
        query.insert("key", Binary { subtype, bytes });
    }
    let mut rejected_at = Document::new();
    if let Some(since) = filter.since {
        rejected_at.insert("$gte", DateTime::from_millis(since));
    }
    if let Some(until) = filter.until {
        rejected_at.insert("$lt", DateTime::from_millis(until));
    }
    if !rejected_at.is_empty() {
        query.insert("rejected_at", rejected_at);
    }
    query
}

/// Where a list stopped: the time of its last letter, and that letter's place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cursor {
    rejected_at: DateTime,
    topic: String,
    topic_id: Option<Uuid>,
    partition: i32,
    offset: i64,
}

impl Cursor {
    /// That behind `letter`.
    pub(super) fn behind(letter: &Document) -> Option<Cursor> {
        let id = letter.get_document("_id").ok()?;
        let topic_id = match id.get("topic_id") {
            Some(Bson::Binary(id)) => Some(id.to_uuid().ok()?),
            _ => None,
        };
        Some(Cursor {
            rejected_at: *letter.get_datetime("rejected_at").ok()?,
            topic: id.get_str("topic").ok()?.to_owned(),
            topic_id,
            partition: id.get_i32("partition").ok()?,
            offset: id.get_i64("offset").ok()?,
        })
    }

    /// The query for what comes behind it in a list of `group`, the latest first.
    pub(super) fn query(&self, group: &str) -> Document {
        // In the order in which a letter's `_id` has its fields, or no letter would compare.
        let id = doc! {
            "group": group,
            "topic": &self.topic,
            "topic_id": self.topic_id,
            "partition": self.partition,
            "offset": self.offset,
        };
        doc! { "$or": [
            { "rejected_at": { "$lt": self.rejected_at } },
            { "rejected_at": self.rejected_at, "_id": { "$lt": id } },
        ] }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.topic_id.map(|id| id.to_string().replace('-', ""));
        write!(
            f,
            "{}:{}:{}:{}:{}",
            self.rejected_at.timestamp_millis(),
            self.topic,
            id.unwrap_or_default(),
            self.partition,
            self.offset
        )
    }
}

/// Reads a cursor that a list has printed.
///
/// # Errors
/// Where it is none.
pub(super) fn read_cursor(text: &str) -> anyhow::Result<Cursor> {
    let read = || {
        let mut parts = text.split(':');
        let rejected_at = DateTime::from_millis(parts.next()?.parse().ok()?);
        let topic = parts.next()?.to_owned();
        let topic_id = match parts.next()? {
            "" => None,
            id => Some(Uuid::parse_str(id).ok()?),
        };
        let cursor = Cursor {
            rejected_at,
            topic,
            topic_id,
            partition: parts.next()?.parse().ok()?,
            offset: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(cursor)
    };
    read().with_context(|| format!("{text:?} is not a cursor that a list has printed"))
}
