//! One transaction after the other in one server session: begin, statements, commit or abort.

use std::time::{Duration, Instant};

use bson::{Document, RawDocument, RawDocumentBuf, Uuid, doc};
use mongodb::error::Error;
use mongodb::options::{ReadConcern, TransactionOptions, WriteConcern};
use mongodb::{ClientSession, Database};

use super::command::{COMMAND_WRITES_MAX, STATEMENT_MS_MAX};
use super::reply::Reply;
use super::transaction::check;
use super::{Failure, command};
use crate::backoff::Backoff;
use crate::checkpoint;
use crate::database::errors;
use crate::database::values::uuid;

/// How long an answer may take before it is no longer waited for, and the outcome is unknown.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// How long an abort is waited for: the session's next transaction ends the earlier one too, and on
/// a dead connection no answer comes.
const ABORT_DEADLINE: Duration = Duration::from_secs(2);

/// How long one update may take before the next ones of its transaction are no longer sent.
const UPDATE_LONG: Duration = Duration::from_secs(2);

/// How often a commit of unknown outcome is sent again before the checkpoint is read instead.
const COMMITS_MAX: u32 = 3;

/// A server session, and the database that its transactions write to.
pub(super) struct Session {
    database: Database,
    session: ClientSession,
    /// Whether the transaction's last update took long.
    is_slow: bool,
}

impl Session {
    pub(super) fn new(database: Database, session: ClientSession) -> Self {
        Session {
            database,
            session,
            is_slow: false,
        }
    }

    /// Begins a transaction. One that may still be open ends: by the abort, or by the new one's
    /// higher number.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        self.abort().await;
        self.is_slow = false;
        let options = TransactionOptions::builder()
            .read_concern(ReadConcern::local())
            .write_concern(WriteConcern::majority())
            .max_commit_time(Duration::from_millis(STATEMENT_MS_MAX as u64))
            .build();
        let begun = self.session.start_transaction().with_options(options);
        within_deadline(begun.into_future()).await
    }

    /// Runs a command in the transaction.
    pub(super) async fn run(&mut self, command: RawDocumentBuf) -> Result<Reply, Failure> {
        Ok(Reply::read(self.answer(command).await?))
    }

    /// Runs a command in the transaction, and gives the whole answer.
    pub(super) async fn answer(&mut self, command: RawDocumentBuf) -> Result<Document, Failure> {
        let run = self
            .database
            .run_raw_command(command)
            .session(&mut self.session);
        within_deadline(run.into_future()).await
    }

    /// Gives each document of `collection` that `filter` finds, as the transaction sees it, with
    /// the fields of `projection`, to `each`.
    pub(super) async fn find(
        &mut self,
        collection: &str,
        filter: Document,
        projection: Document,
        mut each: impl FnMut(&RawDocument),
    ) -> Result<(), Failure> {
        let collection = self.database.collection::<RawDocumentBuf>(collection);
        let find = collection.find(filter).projection(projection);
        let find = find.session(&mut self.session);
        let mut cursor = within_deadline(find.into_future()).await?;
        while within_deadline(cursor.advance(&mut self.session)).await? {
            each(cursor.current());
        }
        Ok(())
    }

    /// Runs one of the transaction's updates of entities, which are so many `writes` in all. Where
    /// the last one took long, and the writes are more than one command may hold, fails with
    /// [`Failure::Slow`] instead.
    pub(super) async fn update(
        &mut self,
        command: RawDocumentBuf,
        writes: usize,
    ) -> Result<Reply, Failure> {
        if self.is_slow && writes > COMMAND_WRITES_MAX {
            // At once: what it has inserted slows other lanes down.
            self.abort().await;
            return Err(Failure::Slow);
        }
        let began = Instant::now();
        let reply = self.run(command).await?;
        self.is_slow = began.elapsed() > UPDATE_LONG;
        Ok(reply)
    }

    /// Deletes the entities `ids` from `collection`, where they are. Gives how many were there.
    pub(super) async fn delete(&mut self, collection: &str, ids: &[&str]) -> Result<u64, Failure> {
        let mut deleted = 0;
        for run in command::id_runs(ids) {
            let delete = command::delete(collection, run, STATEMENT_MS_MAX);
            let reply = self.run(delete).await?;
            check(&reply, |_| None)?;
            deleted += reply.n;
        }
        Ok(deleted)
    }

    /// Moves checkpoints by their guards, all or none: [`Failure::Guard`] where one does not match.
    pub(super) async fn guard(&mut self, guards: &[&Document]) -> Result<(), Failure> {
        let command = doc! {
            "update": checkpoint::COLLECTION,
            "updates": guards,
            "maxTimeMS": STATEMENT_MS_MAX,
        };
        let guarded = self.run(command::raw(&command)).await?;
        if guarded.n < guards.len() as u64 && guarded.write_error.is_none() {
            self.abort().await;
            return Err(Failure::Guard);
        }
        check(&guarded, |_| None)
    }

    /// Commits. While the answer leaves the outcome open, sends the commit again.
    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        let mut backoff = Backoff::new();
        loop {
            let committed = within_deadline(self.session.commit_transaction().into_future()).await;
            match committed {
                Err(Failure::Driver(error))
                    if errors::commit_is_unknown(&error) && backoff.tries() < COMMITS_MAX =>
                {
                    backoff.wait().await;
                }
                other => return other,
            }
        }
    }

    /// Ends a transaction that may be open. Where this fails, the next transaction or the server
    /// ends it.
    pub(super) async fn abort(&mut self) {
        let aborted = self.session.abort_transaction().into_future();
        let _ = tokio::time::timeout(ABORT_DEADLINE, aborted).await;
    }
}

/// The id under which the server knows a session, and by which it can be killed.
pub fn session_id(session: &ClientSession) -> Uuid {
    uuid(session.id().get("id")).expect("the driver gives each session a UUID")
}

async fn within_deadline<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
        Ok(answer) => answer.map_err(Failure::Driver),
        Err(_) => Err(Failure::Deadline),
    }
}
