//! The checkpoint of a partition: who may write it, and from which offset on.
//!
//! One document for each group, topic and partition, in the database of the entities. It decides:
//! Kafka's committed offset only follows it. It is never deleted, since one that is recreated could
//! match the guard of an old owner.

mod changes;
mod noted;
mod of_group;
mod store;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bson::{Bson, Document, Uuid, doc};

use self::noted::{read_leader_epoch, read_rejections, reads_reject_next};
use crate::config::Start;
use crate::database::values::{number, uuid};
use crate::record::{Partition, Position, Rejections};

pub use self::changes::{Found, Reset};
pub use self::noted::{Halt, HaltReason, leader_epoch, reject_next, rejections};
pub use self::of_group::{
    FirstCheckpoint, count_checkpoints, forget_checkpoints, known_topics, open_all, other_groups,
};
pub use self::store::{Checkpoints, ClaimError, Sessions};

/// The collection that holds the checkpoints.
pub const COLLECTION: &str = "workflows_sink_checkpoints";

/// What a checkpoint is of: its `_id`.
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
        doc! {
            "group": &self.group,
            "topic": &*self.partition.topic,
            "partition": self.partition.number,
        }
    }
}

/// A checkpoint as it stands in MongoDB.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// The id of the topic that the offset belongs to; `None` where the broker gave none.
    pub topic_id: Option<Uuid>,
    /// The first offset that is not applied yet.
    pub next_offset: i64,
    /// The epoch of the leader that wrote what stands before it; `None` where no broker told one.
    pub leader_epoch: Option<i32>,
    /// The ids that topics of this name had before, the latest one last: none comes back.
    pub former_topic_ids: Vec<Uuid>,
    /// The claim that may write; `None` where the document names none.
    pub owner: Option<Uuid>,
    /// The number of claims so far, for people.
    pub epoch: i64,
    /// The server session that the owner writes in.
    pub session: Option<Uuid>,
    /// The server session in which the owner writes together with other lanes of its worker, if it
    /// does.
    pub group_session: Option<Uuid>,
    /// The records before it that were rejected in a row.
    pub rejections: Rejections,
    /// Why nothing may be applied until a person says how to continue.
    pub halt: Option<Halt>,
    /// Whether a person has said that the next record is to be a dead letter.
    pub reject_next: bool,
    /// How many transactions have applied dead letters of this partition after all.
    pub replays: i64,
    /// Whether the log was seen to end before this checkpoint. This stays so when the log grows
    /// past it again, since the records there were never applied. Only a command resets it.
    pub truncated: bool,
}

impl Checkpoint {
    /// Reads a checkpoint document.
    ///
    /// # Errors
    /// A message that names the checkpoint, where it has no valid offset. Other fields that are not
    /// what this service writes count as absent.
    pub fn read(document: &Document) -> Result<Checkpoint, String> {
        let to_uuid = |value| uuid(Some(value));
        let uuid = |name: &str| uuid(document.get(name));
        let former = document.get_array("former_topic_ids").ok();
        let number = |name: &str| number(document.get(name));
        let next_offset = number("next_offset").filter(|n| *n >= 0).ok_or_else(|| {
            let id = document.get("_id").unwrap_or(&Bson::Null);
            format!("the checkpoint {id} has no valid next_offset")
        })?;
        Ok(Checkpoint {
            topic_id: uuid("topic_id").filter(|id| id.bytes() != [0; 16]),
            next_offset,
            leader_epoch: read_leader_epoch(document, next_offset),
            former_topic_ids: former.into_iter().flatten().filter_map(to_uuid).collect(),
            owner: uuid("owner"),
            epoch: number("epoch").unwrap_or(0),
            session: uuid("session"),
            group_session: uuid("group_session"),
            rejections: read_rejections(document, next_offset),
            halt: Halt::read(document, next_offset),
            reject_next: reads_reject_next(document, next_offset),
            replays: number("replays").unwrap_or(0),
            truncated: document.get_bool("truncated").unwrap_or(false),
        })
    }
}

impl Checkpoint {
    /// How far the log is applied.
    pub fn position(&self) -> Position {
        Position {
            offset: self.next_offset,
            leader_epoch: self.leader_epoch,
        }
    }
}

/// A partition's log, as Kafka knows it when the partition is claimed.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionLog {
    /// The topic's id; `None` where the broker gives none.
    pub topic_id: Option<Uuid>,
    /// The offsets of the log, from its first record to after the last one that all replicas in
    /// sync have: the high watermark.
    pub offsets: Range<i64>,
    /// Up to where no transaction is open: the last stable offset. Nothing behind it is read yet.
    pub stable_end: i64,
    /// The epoch of the leader that said so; `None` where it told none.
    pub leader_epoch: Option<i32>,
    /// Whether the leader was asked for what stands before the checkpoint, and does not have it.
    pub diverged: bool,
    /// What the group committed, if anything.
    pub committed: Option<i64>,
    /// Whether the topic was known before, so that a partition without a checkpoint was added to
    /// it.
    pub known: bool,
}

impl PartitionLog {
    /// The position at `offset`, as the leader that answered has it.
    pub fn position(&self, offset: i64) -> Position {
        Position {
            offset,
            leader_epoch: self.leader_epoch,
        }
    }
}

/// Where a checkpoint stands in the log of its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Inside the log, of the same topic: continue from here.
    Resume,
    /// Inside the log, whose topic id or leader epoch the checkpoint does not name yet.
    Adopt,
    /// The topic was recreated and has this id: a fresh lineage, from the log's start.
    Recreated(Uuid),
    /// Before the log's start: records were deleted before they were applied.
    Expired,
    /// Of the same topic, but not of the same log: it ended before the checkpoint, now or once, or
    /// has other records there. The log was truncated.
    Truncated,
    /// Who answered knows less than the checkpoint does, a topic or a leader of the past: ask
    /// again.
    Stale,
}

/// Decides where the checkpoint stands in the log. An id that is absent on either side never means
/// that the topic was recreated.
pub fn standing(checkpoint: &Checkpoint, log: &PartitionLog) -> Standing {
    match (checkpoint.topic_id, log.topic_id) {
        (Some(was), Some(is)) if was != is => match checkpoint.former_topic_ids.contains(&is) {
            true => Standing::Stale,
            false => Standing::Recreated(is),
        },
        _ if checkpoint.next_offset < log.offsets.start => Standing::Expired,
        _ if checkpoint.truncated || log.diverged => Standing::Truncated,
        _ if checkpoint.next_offset > log.offsets.end => match is_of_the_past(checkpoint, log) {
            true => Standing::Stale,
            false => Standing::Truncated,
        },
        (None, Some(_)) => Standing::Adopt,
        _ if checkpoint.leader_epoch.is_none() && log.leader_epoch.is_some() => Standing::Adopt,
        _ => Standing::Resume,
    }
}

/// Whether a claim of a partition that has stopped would find it so again: what halts it is in its
/// checkpoint, or no log of this topic brings back what is missing. `was_expired`: whether it has
/// stopped because records were deleted; where that comes to another cause, it is another stop.
pub fn stays_stopped(checkpoint: &Checkpoint, log: &PartitionLog, was_expired: bool) -> bool {
    match standing(checkpoint, log) {
        Standing::Recreated(_) => false,
        Standing::Expired => was_expired,
        Standing::Truncated | Standing::Stale => checkpoint.truncated,
        Standing::Resume | Standing::Adopt => checkpoint.halt.is_some(),
    }
}

/// Whether a later leader than the one that answered had what the checkpoint stands on.
pub fn is_of_the_past(checkpoint: &Checkpoint, log: &PartitionLog) -> bool {
    let epochs = log.leader_epoch.zip(checkpoint.leader_epoch);
    epochs.is_some_and(|(answered, applied)| answered < applied)
}

/// Where a partition without a checkpoint begins: at the group's committed offset. Without one, at
/// the log's start if the topic was known before (the partition was added), else where `start`
/// says.
///
/// # Errors
/// [`Standing::Expired`] or [`Standing::Truncated`], where the committed offset is outside the log:
/// it is not silently replaced.
pub fn first_offset(log: &PartitionLog, start: Start) -> Result<i64, Standing> {
    match log.committed {
        Some(committed) if committed < log.offsets.start => Err(Standing::Expired),
        Some(committed) if committed > log.offsets.end => Err(Standing::Truncated),
        Some(committed) => Ok(committed),
        None if log.known || start == Start::Earliest => Ok(log.offsets.start),
        None => Ok(log.stable_end),
    }
}

/// The right to move a partition's checkpoint, until somebody else claims it.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// A random id, made for this claim and no other.
    pub owner: Uuid,
    /// How far the log is applied.
    pub position: Position,
    /// The checkpoint's epoch, for people.
    pub epoch: i64,
    /// The id of the topic that the offsets belong to; `None` where the broker gave none.
    pub topic_id: Option<Uuid>,
    /// The ids that topics of this name had before.
    pub former_topic_ids: Vec<Uuid>,
    /// The records before the position that were rejected in a row.
    pub rejections: Rejections,
    /// Whether a person has said that the next record is to be a dead letter.
    pub reject_next: bool,
}

/// What a guard that did not match means, by the checkpoint as a majority has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// The checkpoint stands at this end of an unanswered commit of ours: that commit landed.
    Landed(i64),
    /// It stands where the guard expects it: the guard may match the next time.
    Open,
    /// It is ours but stands elsewhere, cannot be read, or is absent: restored, reset or deleted.
    /// The lane must claim again.
    Moved,
    /// Another claim holds it.
    NotMine,
}

/// Decides what a guard that did not match means. `found` is the checkpoint now, `start` the offset
/// that the guard expected, and `ends` are the ends of the unanswered commits from there.
pub fn fence(found: Option<&Checkpoint>, owner: Uuid, start: i64, ends: &[i64]) -> Fence {
    match found {
        Some(found) if found.owner != Some(owner) => Fence::NotMine,
        Some(found) if ends.contains(&found.next_offset) => Fence::Landed(found.next_offset),
        Some(found) if found.next_offset == start => Fence::Open,
        _ => Fence::Moved,
    }
}
