//! Which letters: what was typed as a query, and the cursor of a list. Pure.

use anyhow::Context as _;
use bson::spec::BinarySubtype;
use bson::{Binary, DateTime, Document, Uuid, doc};

use crate::checkpoint::Key;
use crate::cli::{LetterFilter, LetterState};
use crate::database::values::uuid;
use crate::record::Partition;
use crate::writer::dead_letter::{self, DISCARDED, REPLAYED, is_open};

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
    partition: Partition,
    topic_id: Option<Uuid>,
    offset: i64,
}

impl Cursor {
    /// That behind `letter`.
    pub(super) fn behind(letter: &Document) -> Option<Cursor> {
        let id = letter.get_document("_id").ok()?;
        Some(Cursor {
            rejected_at: *letter.get_datetime("rejected_at").ok()?,
            partition: Partition::new(id.get_str("topic").ok()?, id.get_i32("partition").ok()?),
            topic_id: uuid(id.get("topic_id")),
            offset: id.get_i64("offset").ok()?,
        })
    }

    /// The query for what comes behind it in a list of `group`, the latest first.
    pub(super) fn query(&self, group: &str) -> Document {
        let (group, partition) = (group.to_owned(), self.partition.clone());
        let id = dead_letter::id(&Key { group, partition }, self.topic_id, self.offset);
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
            self.partition.topic,
            id.unwrap_or_default(),
            self.partition.number,
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
        let topic = parts.next()?;
        let topic_id = match parts.next()? {
            "" => None,
            id => Some(Uuid::parse_str(id).ok()?),
        };
        let number = parts.next()?.parse().ok()?;
        let cursor = Cursor {
            rejected_at,
            partition: Partition::new(topic, number),
            topic_id,
            offset: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(cursor)
    };
    read().with_context(|| format!("{text:?} is not a cursor that a list has printed"))
}
