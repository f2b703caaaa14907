//! A transaction that applies dead letters after all. Its first command touches the checkpoint of
//! their partition, as the guard of a lane's transaction does: so of the two only one can commit,
//! and neither sees half of the other.

use std::sync::Arc;

use bson::{DateTime, Document, RawDocument, doc};
use mongodb::Database;
use mongodb::error::Error;

use super::Failure;
use super::command::{self, STATEMENT_MS_MAX};
use super::dead_letter::{self, REPLAYED, closed, is_open};
use super::failure::refusal_of;
use super::moved::Created;
use super::session::Session;
use super::transaction::check;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::database::errors::{self, Cause, Subject, Verdict};
use crate::record::entity::Refusal;
use crate::record::fold::{KindChanges, Write, WriteMode};
use crate::record::mapping::{CollectionId, Mapping};

/// Why letters are closed, as is noted with them.
const WHY: &str = "replayed";

/// Why a transaction with letters did not commit, as far as is known.
#[derive(Debug)]
pub enum NotReplayed {
    /// The checkpoint is not as it was found, or a letter is no longer open as it was: look again.
    Changed,
    /// The lane or somebody else holds what it needs: the same may succeed the next time.
    Conflict,
    /// It passes by itself; the transaction may have been committed. With the error's text.
    Transient(String),
    /// The server refuses a write: that of this record, or, without one, some write of a command.
    Refused(Option<usize>, Refusal),
    /// No transaction can succeed. With the error's text.
    Permanent(String),
}

impl From<Failure> for NotReplayed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused {
                record, refusal, ..
            } => NotReplayed::Refused(Some(record), refusal),
            Failure::Guard | Failure::Together => NotReplayed::Changed,
            Failure::Deadline | Failure::Slow => NotReplayed::Transient("no answer".to_owned()),
            Failure::WriteConcern(code) => {
                NotReplayed::Transient(format!("write concern error {code}"))
            }
            Failure::Transient(Cause::Conflict, _) => NotReplayed::Conflict,
            Failure::Transient(_, code) => NotReplayed::Transient(format!("write error {code}")),
            Failure::Driver(error) => match errors::of_error(&error) {
                Verdict::Transient(Cause::Conflict) => NotReplayed::Conflict,
                Verdict::Transient(_) => NotReplayed::Transient(errors::shown(&error)),
                Verdict::Permanent(Subject::Record) => {
                    NotReplayed::Refused(None, refusal_of(&error))
                }
                Verdict::Permanent(Subject::Deployment) => {
                    NotReplayed::Permanent(errors::shown(&error))
                }
            },
        }
    }
}

/// A server session for transactions that apply letters.
pub struct ReplaySession {
    session: Session,
    mapping: Arc<Mapping>,
    mode: WriteMode,
    kind_changes: KindChanges,
}

impl ReplaySession {
    /// A session of its own, whose states are written as the service writes them.
    ///
    /// # Errors
    /// The driver's, where it can start none.
    pub async fn start(
        database: &Database,
        mapping: Arc<Mapping>,
        mode: WriteMode,
        kind_changes: KindChanges,
    ) -> Result<ReplaySession, Error> {
        let session = database.client().start_session().await?;
        Ok(ReplaySession {
            session: Session::new(database.clone(), session),
            mapping,
            mode,
            kind_changes,
        })
    }

    /// Begins a transaction that holds the checkpoint, which is as it was `found` but may have gone
    /// on. Gives the checkpoint as it is.
    ///
    /// # Errors
    /// [`NotReplayed`].
    pub async fn begin(
        &mut self,
        checkpoints: &Checkpoints,
        found: &Checkpoint,
    ) -> Result<Checkpoint, NotReplayed> {
        self.session.begin().await?;
        let hold = checkpoints.hold_command(found, STATEMENT_MS_MAX);
        let held = self.session.answer(command::raw(&hold)).await?;
        let held = held.get_document("value").map_err(|_| NotReplayed::Changed);
        Checkpoint::read(held?).map_err(NotReplayed::Permanent)
    }

    /// Gives each document of `collection` that `filter` finds, as the transaction sees it, with
    /// the fields of `projection`, to `each`.
    ///
    /// # Errors
    /// [`NotReplayed`].
    pub async fn find(
        &mut self,
        collection: &str,
        filter: Document,
        projection: Document,
        each: impl FnMut(&RawDocument),
    ) -> Result<(), NotReplayed> {
        Ok(self
            .session
            .find(collection, filter, projection, each)
            .await?)
    }

    /// Writes states into `collection`, in their order.
    ///
    /// # Errors
    /// [`NotReplayed`].
    pub async fn write(
        &mut self,
        collection: CollectionId,
        writes: &[Write<'_>],
    ) -> Result<(), NotReplayed> {
        let name = self.mapping.collection(collection);
        let mut created = Created::new(self.kind_changes);
        for run in command::runs(writes) {
            let update = command::update(name, run, self.mode, STATEMENT_MS_MAX);
            let reply = self.session.run(update).await?;
            check(&reply, |index| {
                run.get(index).map(|write| (write.record, write.states))
            })?;
            created.note(collection, reply);
        }
        let removing_from = &mut None;
        let removed = (self.session).remove_moved(&self.mapping, &created, removing_from);
        removed.await?;
        Ok(())
    }

    /// Closes the letters of these ids, each of which is open and was rejected at this time, as
    /// replayed at `at`.
    ///
    /// # Errors
    /// [`NotReplayed::Changed`], where one of them is not.
    pub async fn close(
        &mut self,
        letters: &[(Document, DateTime)],
        at: DateTime,
    ) -> Result<(), NotReplayed> {
        let mut noted = closed(WHY);
        noted.insert("at", at);
        for run in letters.chunks(command::COMMAND_IDS_MAX) {
            let close = |(id, rejected_at): &(Document, DateTime)| {
                doc! {
                    "q": as_open(id, *rejected_at),
                    "u": { "$set": { "state": REPLAYED, "closed": &noted } },
                }
            };
            let command = doc! {
                "update": dead_letter::COLLECTION,
                "updates": run.iter().map(close).collect::<Vec<_>>(),
                "maxTimeMS": STATEMENT_MS_MAX,
            };
            let reply = self.session.run(command::raw(&command)).await?;
            check(&reply, |_| None)?;
            if reply.n < run.len() as u64 {
                return Err(NotReplayed::Changed);
            }
        }
        Ok(())
    }

    /// Commits, to a majority.
    ///
    /// # Errors
    /// [`NotReplayed`]; after [`NotReplayed::Transient`] and [`NotReplayed::Conflict`], it may have
    /// been committed all the same.
    pub async fn commit(&mut self) -> Result<(), NotReplayed> {
        Ok(self.session.commit().await?)
    }

    /// Ends a transaction that may be open.
    pub async fn abort(&mut self) {
        self.session.abort().await;
    }
}

/// The query for a letter that is open, as it was rejected at this time.
pub fn as_open(id: &Document, rejected_at: DateTime) -> Document {
    doc! {
        "_id": id,
        "rejected_at": rejected_at,
        "state": is_open(),
    }
}
