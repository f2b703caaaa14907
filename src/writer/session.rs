//! One transaction after the other in one server session: begin, statements, commit, end.

use std::time::{Duration, Instant};

use bson::{Document, RawDocumentBuf, Uuid, doc};
use mongodb::error::Error;
use mongodb::options::{ReadConcern, TransactionOptions, WriteConcern};
use mongodb::{ClientSession, Database};

use super::command::{COMMAND_WRITES_MAX, STATEMENT_MS_MAX};
use super::reply::Reply;
use super::transaction::{Failure, check, invalid};
use crate::backoff::Backoff;
use crate::checkpoint;
use crate::database::errors;

/// How long an answer may take before the connection is given up and the outcome is unknown.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// How long the end of an earlier transaction is waited for: the session's next one ends it too, and on a dead connection no
/// answer comes.
const ABORT_DEADLINE: Duration = Duration::from_secs(2);

/// How long one update may take before those that would follow in its transaction are not sent.
const UPDATE_LONG: Duration = Duration::from_secs(2);

/// How often a commit of unknown outcome is sent again before the guard is asked instead.
const COMMITS_MAX: u32 = 3;

/// A server session, and the database that its transactions write.
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

    /// Begins a transaction. One that may still be open ends: by the abort, or by the new one's higher number.
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

    pub(super) async fn run(&mut self, command: impl IntoCommand) -> Result<Reply, Failure> {
        let command = command.into_command().map_err(invalid)?;
        let run = self
            .database
            .run_raw_command(command)
            .session(&mut self.session);
        Ok(Reply::read(&within_deadline(run.into_future()).await?))
    }

    /// One of a transaction's updates of entities, which are so many writes together. Where the last one took long and they are
    /// more than one command may hold, this one ends with [`Failure::Slow`] instead.
    pub(super) async fn update(
        &mut self,
        command: RawDocumentBuf,
        writes: usize,
    ) -> Result<Reply, Failure> {
        if self.is_slow && writes > COMMAND_WRITES_MAX {
            // At once: what it has inserted is in the way of others.
            self.abort().await;
            return Err(Failure::Slow);
        }
        let began = Instant::now();
        let reply = self.run(command).await?;
        self.is_slow = began.elapsed() > UPDATE_LONG;
        Ok(reply)
    }

    /// Moves checkpoints on by their guards, all or none: [`Failure::Guard`] where one does not match.
    pub(super) async fn guard(&mut self, guards: &[&Document]) -> Result<(), Failure> {
        let command = doc! {
            "update": checkpoint::COLLECTION,
            "updates": guards,
            "maxTimeMS": STATEMENT_MS_MAX,
        };
        let guarded = self.run(command).await?;
        if guarded.n < guards.len() as u64 && guarded.write_error.is_none() {
            self.abort().await;
            return Err(Failure::Guard);
        }
        check(&guarded, |_| None)
    }

    /// Commits, and again while the answer leaves open what became of it.
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

    /// Ends a transaction that may be open; a failure to do so is the server's to clean up.
    pub(super) async fn abort(&mut self) {
        let aborted = self.session.abort_transaction().into_future();
        let _ = tokio::time::timeout(ABORT_DEADLINE, aborted).await;
    }
}

/// The id under which the server knows a session, and by which it can be killed.
pub fn session_id(session: &ClientSession) -> Uuid {
    match session.id().get("id") {
        Some(bson::Bson::Binary(binary)) => binary.to_uuid().unwrap_or_default(),
        _ => Uuid::default(),
    }
}

async fn within_deadline<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
        Ok(answer) => answer.map_err(Failure::Driver),
        Err(_) => Err(Failure::Deadline),
    }
}

/// What can be sent as a command: raw where it is large, a document where it is small.
pub(super) trait IntoCommand {
    fn into_command(self) -> bson::error::Result<RawDocumentBuf>;
}

impl IntoCommand for RawDocumentBuf {
    fn into_command(self) -> bson::error::Result<RawDocumentBuf> {
        Ok(self)
    }
}

impl IntoCommand for Document {
    fn into_command(self) -> bson::error::Result<RawDocumentBuf> {
        RawDocumentBuf::try_from(&self)
    }
}
