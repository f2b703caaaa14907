//! One transaction of a lane: guard, deletes, writes, dead letters, commit.

use std::sync::Arc;

use bson::{Bson, Document, RawDocumentBuf, doc};

use super::command::{self, STATEMENT_MS_MAX};
use super::dead_letter;
use super::moved::Created;
use super::progress::{BatchProgress, Commit};
use super::reply::Reply;
use super::{Counts, Failure, RejectedAt, Writer};
use crate::checkpoint::{self, Halt, HaltReason};
use crate::database::errors::{self, Cause, Verdict};
use crate::record::batch::Batch;
use crate::record::entity::Refusal;
use crate::record::fold::Plan;
use crate::record::{Position, Rejections};

/// The most bytes of dead letters in one command.
const DEAD_LETTER_COMMAND_BYTES_MAX: usize = 12 * 1024 * 1024;

impl Writer {
    /// Writes `plan` in a transaction of its own. A commit that failed, or was not waited for,
    /// stays among the unanswered ones, since it may have landed or may still land.
    pub(super) async fn commit_alone(
        &mut self,
        plan: &Plan<'_>,
        progress: &mut BatchProgress<'_>,
    ) -> Result<Commit, Failure> {
        self.session.begin().await?;
        self.session.guard(&[&self.guard(plan)]).await?;
        let mut counts = planned(plan);
        self.delete(&plan.deletes).await?;
        let count = plan.count();
        let mut created = Created::new(self.target.kind_changes);
        for (collection, writes) in &plan.writes {
            let name = self.target.mapping.collection(*collection).to_owned();
            self.writing_to = Some(*collection);
            for run in command::runs(writes) {
                let update = command::update(&name, run, self.target.mode, STATEMENT_MS_MAX);
                let reply = self.session.update(update, count).await?;
                check(&reply, |index| {
                    run.get(index).map(|write| (write.record, write.states))
                })?;
                let changed = reply.changed();
                counts.upserted += changed;
                counts.unchanged += (run.len() as u64).saturating_sub(changed);
                created.note(*collection, reply);
            }
        }
        self.writing_to = None;
        let mapping = Arc::clone(&self.target.mapping);
        let removing_from = &mut self.writing_to;
        let removed = (self.session).remove_moved(&mapping, &created, removing_from);
        counts.moved = removed.await?;
        self.put_dead_letters(progress.batch, plan).await?;
        progress.unanswered.remember(Commit::of(plan, counts));
        self.session.commit().await?;
        Ok(progress.unanswered.answered())
    }

    /// The statement that moves the checkpoint over what `plan` covers, if it is ours and stands at
    /// the start of that.
    pub(super) fn guard(&self, plan: &Plan<'_>) -> Document {
        doc! {
            "q": {
                "_id": self.checkpoints.key().id(),
                "owner": self.claim.owner,
                "next_offset": plan.offsets.start,
            },
            "u": {
                "$set": self.moved(plan),
                "$currentDate": { "updated_at": true },
            },
        }
    }

    fn moved(&self, plan: &Plan<'_>) -> Document {
        let end = plan.offsets.end;
        let position = Position {
            offset: end,
            leader_epoch: plan.leader_epoch,
        };
        let mut set = doc! {
            "next_offset": end,
            "leader_epoch": checkpoint::leader_epoch(position),
        };
        if self.reject_next {
            set.insert("reject_next", Bson::Null);
        }
        if [plan.rejections, self.rejections] != [Rejections::default(); 2] {
            set.insert("rejections", checkpoint::rejections(plan.rejections, end));
        }
        if plan.halts {
            let halt = Halt {
                reason: HaltReason::Rejections,
                from: plan.rejections.from,
            };
            set.insert("halt", halt.document(end));
        }
        set
    }

    async fn delete(&mut self, ids: &[&str]) -> Result<(), Failure> {
        let mapping = Arc::clone(&self.target.mapping);
        for (collection, name) in mapping.collections() {
            self.writing_to = Some(collection);
            self.session.delete(name, ids).await?;
        }
        self.writing_to = None;
        Ok(())
    }

    /// Keeps the rejected records, in the same transaction.
    async fn put_dead_letters(&mut self, batch: &Batch, plan: &Plan<'_>) -> Result<(), Failure> {
        let mut letters = Vec::new();
        let mut bytes = 0;
        for rejected in &plan.rejected {
            let letter = dead_letter::document(
                &self.target.mapping,
                self.checkpoints.key(),
                self.claim.topic_id,
                batch,
                &batch.entries()[rejected.record],
                rejected.reason,
                rejected.refusal,
            );
            let letter = command::raw(&letter);
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
        let put = command::put(dead_letter::COLLECTION, letters, STATEMENT_MS_MAX);
        check(&self.session.run(put).await?, |_| None)
    }
}

/// The failure that a reply reports although its command succeeded. `record_of` gives the record,
/// and the number of states, that the write at an index stands for; `None` where the write is ours
/// and no record's.
pub(super) fn check(
    reply: &Reply,
    record_of: impl Fn(usize) -> Option<(usize, usize)>,
) -> Result<(), Failure> {
    if let Some(error) = &reply.write_error {
        return Err(
            match (
                errors::of_write(error.code, error.on_id),
                record_of(error.index),
            ) {
                (Verdict::Transient(cause), _) => Failure::Transient(cause, error.code),
                (Verdict::Permanent(_), Some((record, states))) => Failure::Refused {
                    record,
                    states,
                    refusal: Refusal {
                        code: error.code,
                        message: error.message.clone(),
                        info: error.info.clone().map(Box::new),
                    },
                },
                (Verdict::Permanent(_), None) => Failure::Transient(Cause::Other, error.code),
            },
        );
    }
    match reply.write_concern_error {
        Some(code) => Err(Failure::WriteConcern(code)),
        None => Ok(()),
    }
}

/// The counts of a plan, as far as they are known before the server has said which writes changed
/// something.
pub(super) fn planned(plan: &Plan<'_>) -> Counts {
    Counts {
        folded: plan.folded as u64,
        deleted: plan.deletes.len() as u64,
        skipped: plan.skipped as u64,
        rejected: plan
            .rejected
            .iter()
            .map(|rejected| RejectedAt {
                offset: rejected.offset,
                reason: rejected.reason,
                error_code: rejected.refusal.map(|refusal| refusal.code),
            })
            .collect(),
        transactions: 1,
        ..Counts::default()
    }
}
