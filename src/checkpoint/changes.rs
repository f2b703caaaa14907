//! What changes a checkpoint besides a claim and a batch: each change is made only to what was
//! found.

use bson::{Bson, Document, Uuid, doc};

use super::store::{Checkpoints, ClaimError};
use super::{Checkpoint, Halt, leader_epoch};
use crate::record::Position;

/// How many ids of earlier topics a checkpoint keeps, the latest ones.
const FORMER_TOPIC_IDS_MAX: i32 = 8;

/// What was found of a checkpoint that is to be changed: only that is changed.
#[derive(Clone, Copy, Debug)]
pub enum Found<'f> {
    /// None.
    Absent,
    /// Something that is not a checkpoint, with this `next_offset`, if any.
    Unreadable(Option<&'f Bson>),
    /// This one.
    Checkpoint(&'f Checkpoint),
}

/// Where a person moves a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Reset {
    /// The new owner, which no worker has.
    pub owner: Uuid,
    /// The first offset that is to be applied.
    pub next_offset: i64,
    /// The id of the topic that it is an offset of.
    pub topic_id: Option<Uuid>,
    /// Whether the record there is to be a dead letter.
    pub reject_next: bool,
}

impl Checkpoints {
    /// Moves the checkpoint for a person, under a new owner, so that no earlier one can write any
    /// more. `None` where it is not as `found` any more: it was claimed, written or moved since,
    /// or a try of this very call that was held back has landed.
    ///
    /// # Errors
    /// [`ClaimError`], where this does not count.
    pub async fn reset(
        &self,
        found: Found<'_>,
        to: &Reset,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let Reset {
            owner,
            next_offset,
            topic_id,
            reject_next,
        } = *to;
        let mut set = doc! { "owner": owner, "next_offset": next_offset };
        // The next claim asks for the epoch that belongs to the new offset.
        let mut unset = doc! { "truncated": "", "leader_epoch": "", "rejections": "", "halt": "" };
        match reject_next {
            true => set.insert("reject_next", super::reject_next(next_offset)),
            false => unset.insert("reject_next", ""),
        };
        match topic_id {
            Some(id) => set.insert("topic_id", id),
            None => unset.insert("topic_id", ""),
        };
        let mut update = doc! {
            "$set": set,
            "$unset": unset,
            "$inc": { "epoch": 1_i64 },
            "$currentDate": { "updated_at": true },
        };
        if let Found::Checkpoint(found) = found {
            leave_topic(&mut update, found, topic_id);
        }
        let query = self.as_found(found);
        let is_absent = matches!(found, Found::Absent);
        self.modify_past_holder(query, update, is_absent, tries)
            .await
    }

    /// Notes on a checkpoint, which is as `found`, the topic id and the leader epoch that it does
    /// not name yet. `None` where it is not as `found` any more.
    ///
    /// # Errors
    /// [`ClaimError`], where this does not count.
    pub async fn adopt(
        &self,
        found: &Checkpoint,
        topic_id: Option<Uuid>,
        leader_epoch: Option<i32>,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let set = doc! {
            "topic_id": found.topic_id.or(topic_id),
            "leader_epoch": super::leader_epoch(Position {
                offset: found.next_offset,
                leader_epoch: found.leader_epoch.or(leader_epoch),
            }),
        };
        self.change(found, doc! { "$set": set }, tries).await
    }

    /// Moves a checkpoint, which is as `found`, to `start` of another topic: a fresh lineage.
    /// `None` where it is not as `found` any more.
    ///
    /// # Errors
    /// [`ClaimError`], where this does not count.
    pub async fn relocate(
        &self,
        found: &Checkpoint,
        topic_id: Uuid,
        start: Position,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let mut update = doc! {
            "$set": {
                "topic_id": topic_id,
                "next_offset": start.offset,
                "leader_epoch": leader_epoch(start),
            },
            "$unset": { "truncated": "", "rejections": "", "halt": "", "reject_next": "" },
        };
        leave_topic(&mut update, found, Some(topic_id));
        self.change(found, update, tries).await
    }

    /// Notes on a checkpoint, which is as `found`, that the log was truncated before it. `None`
    /// where it is not as `found` any more.
    ///
    /// # Errors
    /// [`ClaimError`], where this does not count.
    pub async fn mark_truncated(
        &self,
        found: &Checkpoint,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let set = doc! { "truncated": true };
        self.change(found, doc! { "$set": set }, tries).await
    }

    /// Notes on a checkpoint, which is as `found`, that nothing may be applied until a person says
    /// how. `None` where it is not as `found` any more.
    ///
    /// # Errors
    /// [`ClaimError`], where this does not count.
    pub async fn halt(
        &self,
        found: &Checkpoint,
        halt: Halt,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let set = doc! { "halt": halt.document(found.next_offset) };
        self.change(found, doc! { "$set": set }, tries).await
    }

    /// The command by which a transaction that applies dead letters holds the checkpoint: until it
    /// ends, the lane's guard conflicts with it. It finds a checkpoint in the same topic, to which
    /// nobody has applied letters since it was `found`, and counts itself. It answers with the
    /// checkpoint as it is then. `time_ms_max` is the server's limit for it.
    pub fn hold_command(&self, found: &Checkpoint, time_ms_max: i64) -> Document {
        let replays = match found.replays {
            0 => Bson::from(doc! { "$in": [Bson::Null, 0_i64] }),
            replays => Bson::from(replays),
        };
        doc! {
            "findAndModify": super::COLLECTION,
            "query": {
                "_id": self.key.id(),
                "topic_id": is_uuid(found.topic_id),
                "replays": replays,
            },
            "update": { "$inc": { "replays": 1_i64 } },
            "new": true,
            "maxTimeMS": time_ms_max,
        }
    }

    /// Makes this `update` of a checkpoint that is as `found`, and notes the time.
    async fn change(
        &self,
        found: &Checkpoint,
        mut update: Document,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        update.insert("$currentDate", doc! { "updated_at": true });
        let query = self.as_found(Found::Checkpoint(found));
        self.modify(query, update, false, tries).await
    }

    /// The query that finds this checkpoint only as it was `found`: what the network held back must
    /// not move one that has gone on.
    fn as_found(&self, found: Found<'_>) -> Document {
        let mut query = doc! { "_id": self.key.id() };
        query.extend(match found {
            Found::Absent => doc! { "next_offset": { "$exists": false } },
            Found::Unreadable(next_offset) => match next_offset {
                Some(value) => doc! { "next_offset": value.clone() },
                None => doc! { "next_offset": { "$exists": false } },
            },
            Found::Checkpoint(found) => doc! {
                "owner": is_uuid(found.owner),
                "next_offset": found.next_offset,
                "topic_id": is_uuid(found.topic_id),
            },
        });
        query
    }
}

/// The query for what is read as this id; absent is also what is null, zero, or of another type.
fn is_uuid(id: Option<Uuid>) -> Bson {
    match id {
        Some(id) => Bson::from(id),
        None => Bson::from(doc! { "$not": { "$gt": Uuid::from_bytes([0; 16]) } }),
    }
}

/// Adds the id of the topic that a checkpoint leaves to the former ones, if it does.
fn leave_topic(update: &mut Document, left: &Checkpoint, topic_id: Option<Uuid>) {
    if let Some(former) = left.topic_id.filter(|former| Some(*former) != topic_id) {
        let push = doc! { "$each": [former], "$slice": -FORMER_TOPIC_IDS_MAX };
        update.insert("$push", doc! { "former_topic_ids": push });
    }
}
