//! The checkpoints in MongoDB: read, claimed, created and moved, each as a majority has it.

use std::time::Duration;

use bson::{Bson, DateTime, Document, Uuid, doc};
use mongodb::Database;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::WriteConcern;

use super::{COLLECTION, Checkpoint, Halt, Key, leader_epoch};
use crate::database::errors::code;
use crate::record::Position;

/// How long a first try to claim may wait for a transaction that holds the checkpoint, in
/// milliseconds. That of a dead owner would hold it for a minute, and is killed instead.
const CLAIM_MS_FIRST: u64 = 250;

/// How long a later try may wait at most, in milliseconds: a slow replica set is given time.
const CLAIM_MS_MAX: u64 = 10_000;

/// How much longer than the server's own limit an answer is waited for.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// How many ids of earlier topics a checkpoint keeps, the latest ones.
const FORMER_TOPIC_IDS_MAX: i32 = 8;

const MAX_TIME_MS_EXPIRED: i32 = 50;
const DUPLICATE_KEY: i32 = 11000;

/// Why a try to claim did not count.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The driver's or server's error.
    #[error("{}", crate::database::errors::shown(.0))]
    Driver(#[from] Error),
    /// Written, but perhaps not by a majority: what was read may be rolled back. With the server's
    /// code.
    #[error("the claim was not acknowledged by a majority (code {0})")]
    WriteConcern(i32),
    /// Another claim came in between two steps of this one.
    #[error("another claim came in between")]
    Outrun,
    /// No answer came in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The document has no valid offset.
    #[error("{0}")]
    Unreadable(String),
}

/// The server sessions that an owner writes in: these are killed where its transaction holds the
/// checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// The lane's own.
    pub own: Uuid,
    /// That of the group that the lane joins, if it does.
    pub group: Option<Uuid>,
}

impl From<Uuid> for Sessions {
    fn from(own: Uuid) -> Self {
        Sessions { own, group: None }
    }
}

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

/// One checkpoint in one database.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    database: Database,
    key: Key,
}

impl Checkpoints {
    /// The checkpoint `key` in `database`.
    pub fn new(database: Database, key: Key) -> Self {
        Checkpoints { database, key }
    }

    /// What this checkpoint is of.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The checkpoint as a majority of the replica set has it; `None` where there is none.
    ///
    /// # Errors
    /// [`ClaimError`], where the server does not answer or the document is not a checkpoint.
    pub async fn read(&self) -> Result<Option<Checkpoint>, ClaimError> {
        let find = doc! {
            "find": COLLECTION,
            "filter": { "_id": self.key.id() },
            "limit": 1,
            "singleBatch": true,
            "readConcern": { "level": "majority" },
            "maxTimeMS": CLAIM_MS_MAX as i64,
        };
        let reply = answer(self.database.run_command(find), CLAIM_MS_MAX).await?;
        let found = reply
            .get_document("cursor")
            .and_then(|cursor| cursor.get_array("firstBatch"));
        let found = found
            .ok()
            .and_then(|batch| batch.first())
            .and_then(Bson::as_document);
        found
            .map(Checkpoint::read)
            .transpose()
            .map_err(ClaimError::Unreadable)
    }

    /// Gives the right to write to `owner`, which writes in `sessions`, and the checkpoint; `None`
    /// where there is none yet. The claim counts only once a majority has it.
    ///
    /// `tries` is how often this claim was tried before: later tries wait longer. Where a
    /// transaction holds the checkpoint, the sessions that the document names are killed: its owner
    /// is dead, or is fenced by this claim anyway. The claim follows at once, before a zombie
    /// begins another transaction.
    ///
    /// # Errors
    /// [`ClaimError`], where the claim does not count.
    pub async fn claim(
        &self,
        owner: Uuid,
        sessions: impl Into<Sessions>,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let query = doc! { "_id": self.key.id() };
        self.modify_past_holder(query, claimed_by(owner, sessions.into()), false, tries)
            .await
    }

    /// As [`Checkpoints::claim`], of a checkpoint that one of `owners` holds; `None` also where
    /// somebody else holds it.
    ///
    /// # Errors
    /// [`ClaimError`], where the claim does not count.
    pub async fn take_over(
        &self,
        owners: [Uuid; 2],
        owner: Uuid,
        sessions: impl Into<Sessions>,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let query = doc! { "_id": self.key.id(), "owner": { "$in": owners } };
        self.modify_past_holder(query, claimed_by(owner, sessions.into()), false, tries)
            .await
    }

    /// Moves the checkpoint for a person, under a new owner, so that no earlier one can write any
    /// more. `None` where it is not as `found` any more: it was claimed,
    /// written or moved since, or this very call was, and a try of it that was held back has
    /// landed.
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
        let mut set = doc! {
            "owner": owner,
            "next_offset": next_offset,
            "reject_next": reject_next,
        };
        // The next claim asks for the epoch that belongs to the new offset.
        let mut unset = doc! { "truncated": "", "leader_epoch": "", "rejections": "", "halt": "" };
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

    /// Modifies the checkpoint. Where a transaction holds it, kills its session and retries once.
    async fn modify_past_holder(
        &self,
        query: Document,
        update: Document,
        upsert: bool,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let modified = self
            .modify(query.clone(), update.clone(), upsert, tries)
            .await;
        match modified {
            Err(ClaimError::Driver(error))
                if code(&error) == Some(MAX_TIME_MS_EXPIRED) && self.kill_holder().await? =>
            {
                self.modify(query, update, upsert, tries).await
            }
            modified => modified,
        }
    }

    /// The first claim of a partition: creates the checkpoint at `first`, in the topic `topic_id`,
    /// so that no later start resolves it again. Where another first claim was faster, its offset
    /// stays, and `None` may be given.
    ///
    /// # Errors
    /// [`ClaimError`], where the claim does not count.
    pub async fn open(
        &self,
        owner: Uuid,
        sessions: impl Into<Sessions>,
        first: Position,
        topic_id: Option<Uuid>,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let mut made = doc! { "next_offset": first.offset, "leader_epoch": leader_epoch(first) };
        if let Some(id) = topic_id {
            made.insert("topic_id", id);
        }
        let mut update = claimed_by(owner, sessions.into());
        update.insert("$setOnInsert", made);
        self.modify(doc! { "_id": self.key.id() }, update, true, tries)
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
        let update = doc! { "$set": set, "$currentDate": { "updated_at": true } };
        let query = self.as_found(Found::Checkpoint(found));
        self.modify(query, update, false, tries).await
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
            "$unset": { "truncated": "", "rejections": "", "halt": "" },
            "$currentDate": { "updated_at": true },
        };
        leave_topic(&mut update, found, Some(topic_id));
        let query = self.as_found(Found::Checkpoint(found));
        self.modify(query, update, false, tries).await
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
        let update = doc! { "$set": { "truncated": true }, "$currentDate": { "updated_at": true } };
        let query = self.as_found(Found::Checkpoint(found));
        self.modify(query, update, false, tries).await
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
        let update = doc! { "$set": set, "$currentDate": { "updated_at": true } };
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

    /// Modifies the checkpoint that `query` finds, and gives it as it is then.
    async fn modify(
        &self,
        query: Document,
        update: Document,
        upsert: bool,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let time_ms = CLAIM_MS_FIRST
            .saturating_mul(1 << tries.min(16))
            .min(CLAIM_MS_MAX);
        let command = doc! {
            "findAndModify": COLLECTION,
            "query": query,
            "update": update,
            "upsert": upsert,
            "new": true,
            "writeConcern": { "w": "majority" },
            "maxTimeMS": time_ms as i64,
        };
        let reply = match answer(self.database.run_command(command), time_ms).await {
            Err(ClaimError::Driver(error)) if upsert && code(&error) == Some(DUPLICATE_KEY) => {
                return Ok(None);
            }
            other => other?,
        };
        if let Some(concern) = reply.get("writeConcernError") {
            let code = concern
                .as_document()
                .and_then(|c| c.get_i32("code").ok())
                .unwrap_or(0);
            return Err(ClaimError::WriteConcern(code));
        }
        let found = reply.get_document("value").ok();
        found
            .map(Checkpoint::read)
            .transpose()
            .map_err(ClaimError::Unreadable)
    }

    /// Ends the transaction that holds the checkpoint, by killing the sessions of the last owner;
    /// `false` where the checkpoint names none. One of them may be the session of this very claim:
    /// the driver reuses a dropped writer's session, with its transaction still open where the
    /// writer was dropped in its first statement or its commit. A user may always kill sessions of
    /// its own.
    async fn kill_holder(&self) -> Result<bool, ClaimError> {
        let found = self.read().await?.unwrap_or_default();
        let sessions: Vec<Uuid> = [found.session, found.group_session]
            .into_iter()
            .flatten()
            .collect();
        if sessions.is_empty() {
            return Ok(false);
        }
        tracing::info!(
            partition = %self.key.partition,
            ?sessions,
            "killing the sessions of a dead owner"
        );
        let ids: Vec<Document> = sessions.iter().map(|id| doc! { "id": id }).collect();
        let kill = doc! { "killSessions": ids };
        answer(self.database.run_command(kill), CLAIM_MS_MAX).await?;
        Ok(true)
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

/// What a claim changes.
fn claimed_by(owner: Uuid, sessions: Sessions) -> Document {
    doc! {
        "$set": { "owner": owner, "session": sessions.own, "group_session": sessions.group },
        "$inc": { "epoch": 1_i64 },
        "$currentDate": { "updated_at": true },
    }
}

/// A checkpoint that nobody has claimed yet.
#[derive(Clone, Debug)]
pub struct FirstCheckpoint {
    /// What it is of.
    pub key: Key,
    /// Where it begins.
    pub start: Position,
    /// The id of the topic; `None` where the broker gives none.
    pub topic_id: Option<Uuid>,
}

/// Makes all of these checkpoints, or none. `false` where there is one of them already.
///
/// # Errors
/// The driver's or the server's. They may have been made all the same.
pub async fn open_all(database: &Database, first: &[FirstCheckpoint]) -> Result<bool, Error> {
    let documents = first.iter().map(|first| {
        doc! {
            "_id": first.key.id(),
            "next_offset": first.start.offset,
            "leader_epoch": leader_epoch(first.start),
            "topic_id": first.topic_id,
            "epoch": 0_i64,
            "updated_at": DateTime::now(),
        }
    });
    let documents: Vec<Document> = documents.collect();
    if documents.is_empty() {
        return Ok(true);
    }
    let mut session = database.client().start_session().await?;
    let begun = session.start_transaction();
    begun.write_concern(WriteConcern::majority()).await?;
    let collection = database.collection::<Document>(COLLECTION);
    let inserted = collection.insert_many(documents).session(&mut session);
    if let Err(error) = inserted.await {
        let _ = session.abort_transaction().await;
        return match is_duplicate(&error) {
            true => Ok(false),
            false => Err(error),
        };
    }
    session.commit_transaction().await?;
    Ok(true)
}

fn is_duplicate(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::InsertMany(failed) => {
            (failed.write_errors.iter().flatten()).any(|error| error.code == DUPLICATE_KEY)
        }
        _ => code(error) == Some(DUPLICATE_KEY),
    }
}

/// The groups other than `group` with checkpoints for one of `topics`: they are not fenced against
/// us.
///
/// # Errors
/// The driver's or the server's.
pub async fn other_groups(
    database: &Database,
    group: &str,
    topics: &[String],
) -> Result<Vec<String>, Error> {
    let filter = doc! { "_id.topic": { "$in": topics }, "_id.group": { "$ne": group } };
    let groups = database
        .collection::<Document>(COLLECTION)
        .distinct("_id.group", filter)
        .await?;
    Ok(groups
        .into_iter()
        .filter_map(|group| group.as_str().map(str::to_owned))
        .collect())
}

/// The topics among `topics` for which `group` has a checkpoint of any partition.
///
/// # Errors
/// The driver's or the server's.
pub async fn known_topics(
    database: &Database,
    group: &str,
    topics: &[String],
) -> Result<Vec<String>, Error> {
    let filter = doc! { "_id.topic": { "$in": topics }, "_id.group": group };
    let known = database
        .collection::<Document>(COLLECTION)
        .distinct("_id.topic", filter)
        .await?;
    Ok(known
        .into_iter()
        .filter_map(|topic| topic.as_str().map(str::to_owned))
        .collect())
}

/// Waits for an answer, a little longer than the server's own limit of `time_ms`.
async fn answer(
    command: impl IntoFuture<Output = Result<Document, Error>>,
    time_ms: u64,
) -> Result<Document, ClaimError> {
    let deadline = Duration::from_millis(time_ms) + ANSWER_GRACE;
    match tokio::time::timeout(deadline, command.into_future()).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ClaimError::TimedOut(deadline)),
    }
}
