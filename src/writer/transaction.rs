//! One attempt at one transaction: guard, deletes, writes, dead letters, commit.

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::options::{ReadConcern, TransactionOptions, WriteConcern};

use super::{Counts, Writer};
use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::checkpoint;
use crate::command::{self, STATEMENT_MS_MAX};
use crate::dead_letter;
use crate::fold::Plan;
use crate::reply::Reply;
use crate::verdict::{self, Cause, Refusal, Verdict};

/// How long an answer may take before the connection is given up and the outcome is unknown.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// How long the end of an earlier transaction is waited for: the session's next one ends it too, and on a dead connection no
/// answer comes.
const ABORT_DEADLINE: Duration = Duration::from_secs(2);

/// How often a commit of unknown outcome is sent again before the guard is asked instead.
const COMMITS_MAX: u32 = 3;

/// The most bytes of dead letters in one command.
const DEAD_LETTER_COMMAND_BYTES_MAX: usize = 12 * 1024 * 1024;

/// Why one attempt did not commit.
pub(super) enum Failure {
    Guard,
    Refused {
        record: usize,
        states: usize,
        refusal: Refusal,
    },
    Driver(Error),
    Deadline,
    WriteConcern(i32),
    Passing(Cause, i32),
}

/// A transaction whose commit was sent.
pub(super) struct Sent {
    /// Behind the last record that it covers.
    pub(super) covered: usize,
    /// Where it moves the checkpoint.
    pub(super) to: i64,
    /// What became of its records, as far as the server said.
    pub(super) counts: Counts,
}

impl Writer {
    /// One transaction: guard, deletes, writes, dead letters, commit. A commit that failed, or was not waited for, is kept
    /// in `sent`, since it may have landed or may still land.
    pub(super) async fn attempt(
        &mut self,
        batch: &Batch,
        plan: &Plan<'_>,
        from: i64,
        to: i64,
        sent: &mut Vec<Sent>,
    ) -> Result<Sent, Failure> {
        self.begin().await?;
        let guard = self.run(self.guard(from, to)).await?;
        if guard.n == 0 && guard.write_error.is_none() {
            self.abort().await;
            return Err(Failure::Guard);
        }
        check(&guard, |_| None)?;
        let mut counts = planned(plan);
        self.delete(&plan.deletes).await?;
        for (collection, writes) in &plan.writes {
            let name = self.target.mapping.collection(*collection).to_owned();
            for run in command::runs(writes) {
                let update = command::update(&name, run, self.target.mode, STATEMENT_MS_MAX);
                let reply = self.run(update).await?;
                check(&reply, |index| {
                    run.get(index).map(|write| (write.record, write.states))
                })?;
                counts.upserted += reply.modified + reply.upserted;
                counts.unchanged +=
                    (run.len() as u64).saturating_sub(reply.modified + reply.upserted);
            }
        }
        self.bury(batch, plan).await?;
        let commit = Sent {
            covered: plan.records.end,
            to,
            counts,
        };
        sent.push(commit);
        self.commit().await?;
        sent.pop().ok_or(Failure::Guard)
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        self.abort().await;
        let options = TransactionOptions::builder()
            .read_concern(ReadConcern::local())
            .write_concern(WriteConcern::majority())
            .max_commit_time(Duration::from_millis(STATEMENT_MS_MAX as u64))
            .build();
        let begun = self.session.start_transaction().with_options(options);
        within_deadline(begun.into_future()).await
    }

    fn guard(&self, from: i64, to: i64) -> Document {
        doc! {
            "update": checkpoint::COLLECTION,
            "updates": [{
                "q": { "_id": self.checkpoints.key().id(), "owner": self.claim.owner, "next_offset": from },
                "u": { "$set": { "next_offset": to }, "$currentDate": { "updated_at": true } },
            }],
            "maxTimeMS": STATEMENT_MS_MAX,
        }
    }

    async fn delete(&mut self, ids: &[&str]) -> Result<(), Failure> {
        let mapping = Arc::clone(&self.target.mapping);
        for run in command::id_runs(ids) {
            for (_, collection) in mapping.collections() {
                let delete = command::delete(collection, run, STATEMENT_MS_MAX).map_err(invalid)?;
                check(&self.run(delete).await?, |_| None)?;
            }
        }
        Ok(())
    }

    /// Keeps the rejected records, in the same transaction.
    async fn bury(&mut self, batch: &Batch, plan: &Plan<'_>) -> Result<(), Failure> {
        let mut letters = Vec::new();
        let mut bytes = 0;
        for rejected in &plan.rejected {
            let letter = dead_letter::document(
                self.checkpoints.key(),
                self.claim.topic_id,
                batch,
                &batch.entries()[rejected.record],
                rejected.reason,
                rejected.refusal,
            );
            let letter = RawDocumentBuf::try_from(&letter).map_err(invalid)?;
            let size = letter.as_bytes().len();
            if bytes + size > DEAD_LETTER_COMMAND_BYTES_MAX && !letters.is_empty() {
                self.put(&letters).await?;
                (letters, bytes) = (Vec::new(), 0);
            }
            bytes += size;
            letters.push(letter);
        }
        if letters.is_empty() {
            Ok(())
        } else {
            self.put(&letters).await
        }
    }

    async fn put(&mut self, letters: &[RawDocumentBuf]) -> Result<(), Failure> {
        let put =
            command::put(dead_letter::COLLECTION, letters, STATEMENT_MS_MAX).map_err(invalid)?;
        check(&self.run(put).await?, |_| None)
    }

    async fn run(&mut self, command: impl IntoCommand) -> Result<Reply, Failure> {
        let command = command.into_command().map_err(invalid)?;
        let run = self
            .database
            .run_raw_command(command)
            .session(&mut self.session);
        Ok(Reply::read(&within_deadline(run.into_future()).await?))
    }

    /// Commits, and again while the answer leaves open what became of it.
    async fn commit(&mut self) -> Result<(), Failure> {
        let mut backoff = Backoff::new();
        loop {
            let committed = within_deadline(self.session.commit_transaction().into_future()).await;
            match committed {
                Err(Failure::Driver(error))
                    if verdict::commit_is_unknown(&error) && backoff.tries() < COMMITS_MAX =>
                {
                    backoff.wait().await;
                }
                other => return other,
            }
        }
    }

    /// Ends a transaction that may be open; a failure to do so is the server's to clean up.
    async fn abort(&mut self) {
        let aborted = self.session.abort_transaction().into_future();
        let _ = tokio::time::timeout(ABORT_DEADLINE, aborted).await;
    }
}

/// A reply that is an error after all. `record_of` says which record, and how many states, the
/// write at an index stands for; where it knows none, the write is ours and not a record's.
fn check(
    reply: &Reply,
    record_of: impl Fn(usize) -> Option<(usize, usize)>,
) -> Result<(), Failure> {
    if let Some(error) = &reply.write_error {
        return Err(
            match (
                verdict::of_write(error.code, error.on_id),
                record_of(error.index),
            ) {
                (Verdict::Retry(cause), _) => Failure::Passing(cause, error.code),
                (_, Some((record, states))) => Failure::Refused {
                    record,
                    states,
                    refusal: Refusal {
                        code: error.code,
                        message: error.message.clone(),
                    },
                },
                (_, None) => Failure::Passing(Cause::Other, error.code),
            },
        );
    }
    match reply.write_concern_error {
        Some(code) => Err(Failure::WriteConcern(code)),
        None => Ok(()),
    }
}

/// What is known of a plan's counts before the server has said which writes changed something.
fn planned(plan: &Plan<'_>) -> Counts {
    Counts {
        folded: plan.folded as u64,
        deleted: plan.deletes.len() as u64,
        skipped: plan.skipped as u64,
        rejected_last: rejected_last(plan),
        rejected: plan
            .rejected
            .iter()
            .map(|rejected| rejected.reason)
            .collect(),
        transactions: 1,
        ..Counts::default()
    }
}

/// How many rejected records stand behind the last one that is applied. A plan with tombstones counts
/// none: where those stand it no longer knows.
fn rejected_last(plan: &Plan<'_>) -> u64 {
    let written = plan.writes.iter().flat_map(|(_, writes)| writes);
    let last = written.map(|write| write.record).max();
    let behind = plan
        .rejected
        .iter()
        .filter(|r| last.is_none_or(|last| r.record > last));
    if plan.deletes.is_empty() {
        behind.count() as u64
    } else {
        0
    }
}

fn invalid(error: bson::error::Error) -> Failure {
    Failure::Driver(Error::from(error))
}

async fn within_deadline<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
        Ok(answer) => answer.map_err(Failure::Driver),
        Err(_) => Err(Failure::Deadline),
    }
}

/// What can be sent as a command: raw where it is large, a document where it is small.
trait IntoCommand {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::Reason;
    use crate::fold::{Rejected, Write};
    use crate::mapping::{CollectionId, Mapping};

    fn collection() -> CollectionId {
        let mapping = Mapping::builtin();
        mapping.collections().map(|(id, _)| id).next().unwrap()
    }

    #[test]
    fn rejections_are_in_a_row_behind_the_last_record_that_is_applied() {
        let rejected = |record| Rejected {
            record,
            reason: Reason::MissingId,
            refusal: None,
        };
        let write = Write {
            record: 2,
            states: 1,
            id: "1",
            document: (&[][..]).into(),
        };
        let mut plan = Plan {
            rejected: vec![rejected(0), rejected(1), rejected(3), rejected(4)],
            writes: vec![(collection(), vec![write])],
            ..Plan::default()
        };
        assert_eq!(planned(&plan).rejected_last, 2);
        plan.writes.clear();
        assert_eq!(planned(&plan).rejected_last, 4);

        let mut counts = Counts {
            upserted: 1,
            rejected_last: 3,
            ..Counts::default()
        };
        counts.add(planned(&plan));
        assert_eq!(counts.rejected_last, 7);
        counts.add(Counts {
            unchanged: 1,
            ..Counts::default()
        });
        assert_eq!(counts.rejected_last, 0);
    }
}
