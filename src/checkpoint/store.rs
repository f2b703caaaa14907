//! The checkpoints in MongoDB: read, claimed and created, each as a majority has it.

use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, process};

use bson::{Bson, Document, Uuid, doc};
use mongodb::Database;
use mongodb::error::Error;

use super::{COLLECTION, Checkpoint, Key, leader_epoch};
use crate::database::errors::code;
use crate::record::Position;
use crate::telemetry::version::VERSION;

/// How long a first try to claim may wait for a transaction that holds the checkpoint, in
/// milliseconds. That of a dead owner would hold it for a minute, and is killed instead.
const CLAIM_MS_FIRST: u64 = 250;

/// How long a later try may wait at most, in milliseconds: a slow replica set is given time.
const CLAIM_MS_MAX: u64 = 10_000;

/// How much longer than the server's own limit an answer is waited for.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

const MAX_TIME_MS_EXPIRED: i32 = 50;
pub(super) const DUPLICATE_KEY: i32 = 11000;

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

/// One checkpoint in one database.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    database: Database,
    pub(super) key: Key,
    member_id: Option<String>,
}

impl Checkpoints {
    /// The checkpoint `key` in `database`.
    pub fn new(database: Database, key: Key) -> Self {
        Checkpoints {
            database,
            key,
            member_id: None,
        }
    }

    /// The same checkpoint by way of another client's `database`.
    pub fn within(&self, database: Database) -> Self {
        Checkpoints {
            database,
            ..self.clone()
        }
    }

    /// Notes who claims, for people: the worker's id in its group, where it is a member.
    pub fn claimed_as(&mut self, member_id: Option<String>) {
        self.member_id = member_id;
    }

    /// The database that it is in.
    pub fn database(&self) -> &Database {
        &self.database
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
        self.modify_past_holder(query, self.claimed_by(owner, sessions.into()), false, tries)
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
        self.modify_past_holder(query, self.claimed_by(owner, sessions.into()), false, tries)
            .await
    }

    /// Modifies the checkpoint. Where a transaction holds it, kills its session and retries once.
    pub(super) async fn modify_past_holder(
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
        let mut update = self.claimed_by(owner, sessions.into());
        update.insert("$setOnInsert", made);
        self.modify(doc! { "_id": self.key.id() }, update, true, tries)
            .await
    }

    /// Modifies the checkpoint that `query` finds, and gives it as it is then.
    pub(super) async fn modify(
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

    /// What a claim changes.
    fn claimed_by(&self, owner: Uuid, sessions: Sessions) -> Document {
        doc! {
            "$set": {
                "owner": owner,
                "session": sessions.own,
                "group_session": sessions.group,
                "worker": {
                    "host": host(),
                    "pid": i64::from(process::id()),
                    "member_id": &self.member_id,
                    "version": VERSION,
                },
            },
            "$inc": { "epoch": 1_i64 },
            "$currentDate": { "updated_at": true },
        }
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

/// The host that this process runs on, which is the pod's name: for people.
fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim_end().to_owned()
    })
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
