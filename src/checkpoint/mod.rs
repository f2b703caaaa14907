//! The checkpoint of a partition: who may write it, and from which offset on.
//!
//! One document per group, topic and partition, in the database of the entities. It is the truth:
//! Kafka's committed offset only ever follows it. It is never deleted, since a document made anew
//! could match a guard that an old owner still holds.

mod store;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bson::{Bson, Document, Uuid, doc};

use crate::config::Start;
use crate::record::Partition;

pub use self::store::{Checkpoints, ClaimError, Sessions, known_topics, other_groups};

/// The collection that holds the checkpoints.
pub const COLLECTION: &str = "workflows_sink_checkpoints";

/// Up to here every whole number has a double of its own; a shell writes doubles.
const WHOLE_DOUBLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What a checkpoint is kept under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The consumer group.
    pub group: String,
    /// The partition.
    pub partition: Partition,
}

impl Key {
    /// The document's `_id`.
    pub fn id(&self) -> Document {
        doc! { "group": &self.group, "topic": &*self.partition.topic, "partition": self.partition.number }
    }
}

/// A checkpoint as it stands in MongoDB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// The id of the topic that the offset belongs to, where the broker gave one.
    pub topic_id: Option<Uuid>,
    /// The first offset that is not applied yet.
    pub next_offset: i64,
    /// The claim that may write.
    pub owner: Option<Uuid>,
    /// How many claims there have been, for people.
    pub epoch: i64,
    /// The server session that the owner writes in.
    pub session: Option<Uuid>,
    /// The server session in which the owner writes together with other lanes of its worker, if it does.
    pub group_session: Option<Uuid>,
    /// The log was seen to end before this checkpoint. It stays so when the log grows past it again,
    /// since what stands there then was never applied; only a command ends it.
    pub truncated: bool,
}

impl Checkpoint {
    /// Reads a checkpoint document. An error says which field is not what this service writes.
    pub fn read(document: &Document) -> Result<Checkpoint, String> {
        let uuid = |name: &str| match document.get(name) {
            Some(Bson::Binary(binary)) => binary.to_uuid().ok(),
            _ => None,
        };
        let number = |name: &str| match document.get(name) {
            Some(Bson::Int64(n)) => Some(*n),
            Some(Bson::Int32(n)) => Some(i64::from(*n)),
            Some(Bson::Double(n)) if n.fract() == 0.0 && n.abs() <= WHOLE_DOUBLE_MAX => {
                Some(*n as i64)
            }
            _ => None,
        };
        Ok(Checkpoint {
            topic_id: uuid("topic_id").filter(|id| id.bytes() != [0; 16]),
            next_offset: number("next_offset").filter(|n| *n >= 0).ok_or_else(|| {
                let id = document.get("_id").unwrap_or(&Bson::Null);
                format!("the checkpoint {id} has no valid next_offset")
            })?,
            owner: uuid("owner"),
            epoch: number("epoch").unwrap_or(0),
            session: uuid("session"),
            group_session: uuid("group_session"),
            truncated: document.get_bool("truncated").unwrap_or(false),
        })
    }
}

/// What Kafka knows of a partition when it is claimed.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The topic's id; absent where the broker gives none.
    pub topic_id: Option<Uuid>,
    /// The offsets of the log, from its start to behind its last record.
    pub offsets: Range<i64>,
    /// What the group committed, if anything.
    pub committed: Option<i64>,
    /// Whether the topic was known before, so that a partition without a checkpoint is a new one.
    pub known: bool,
}

/// How a checkpoint stands to the log of its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Inside the log, of the same topic: go on from here.
    Resume,
    /// Inside the log; the topic's id was not known when the checkpoint was made: note it.
    Adopt(Uuid),
    /// Another topic under the same name: a fresh lineage, from the log's start.
    Recreated(Uuid),
    /// Before the log's start: records were deleted before they were applied.
    Expired,
    /// Behind the log's end, now or once, although it is the same topic: the log was truncated.
    Truncated,
}

/// Decides how the checkpoint stands to the log. An id that is absent on either side never means
/// that the topic was recreated.
pub fn standing(checkpoint: &Checkpoint, log: &Log) -> Standing {
    match (checkpoint.topic_id, log.topic_id) {
        (Some(was), Some(is)) if was != is => Standing::Recreated(is),
        _ if checkpoint.next_offset < log.offsets.start => Standing::Expired,
        _ if checkpoint.truncated || checkpoint.next_offset > log.offsets.end => {
            Standing::Truncated
        }
        (None, Some(is)) => Standing::Adopt(is),
        _ => Standing::Resume,
    }
}

/// Where a partition without a checkpoint begins: at what the group committed; without that, at the
/// beginning if the topic was known before (the partition was added), else where the setting says.
///
/// A committed offset outside the log is not skipped over in silence: it is the error's standing.
pub fn first_offset(log: &Log, start: Start) -> Result<i64, Standing> {
    match log.committed {
        Some(committed) if committed < log.offsets.start => Err(Standing::Expired),
        Some(committed) if committed > log.offsets.end => Err(Standing::Truncated),
        Some(committed) => Ok(committed),
        None if log.known || start == Start::Earliest => Ok(log.offsets.start),
        None => Ok(log.offsets.end),
    }
}

/// The right to write a partition's checkpoint, until somebody else claims it.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Made for this claim, and for no other.
    pub owner: Uuid,
    /// Where to go on.
    pub next_offset: i64,
    /// The checkpoint's epoch, for people.
    pub epoch: i64,
    /// The topic that the offsets belong to.
    pub topic_id: Option<Uuid>,
}

/// What a guard that did not match means, from the checkpoint as a majority sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// It stands where a commit of ours leads whose answer was lost: that commit landed.
    Landed(i64),
    /// It stands where the guard wanted it: what kept it from matching has passed; try again.
    Open,
    /// It is ours but stands elsewhere, cannot be read, or is gone: restored, reset or deleted. Claim again.
    Moved,
    /// Another claim holds it.
    NotMine,
}

/// Reads a guard's failure: `found` is the checkpoint now, `from` where the batch begins, `ends` where
/// the commits from there lead whose outcome is not known.
pub fn fence(found: Option<&Checkpoint>, owner: Uuid, from: i64, ends: &[i64]) -> Fence {
    match found {
        Some(found) if found.owner != Some(owner) => Fence::NotMine,
        Some(found) if ends.contains(&found.next_offset) => Fence::Landed(found.next_offset),
        Some(found) if found.next_offset == from => Fence::Open,
        _ => Fence::Moved,
    }
}
