//! Why an attempt did not commit, and what the next one does about it.

use std::collections::HashMap;

use mongodb::error::{Error, ErrorKind};

use super::progress::BatchProgress;
use super::session::ANSWER_DEADLINE;
use super::{Attempts, Sent, Trouble, Unwritten, Writer};
use crate::database::errors::{self, Cause, Subject, Verdict};
use crate::record::entity::Refusal;
use crate::record::fold::KindChanges;

/// Why an attempt did not commit, as far as is known.
pub(super) enum Failure {
    /// The guard did not match.
    Guard,
    /// The server refused the write of a record.
    Refused {
        /// The index of the (last) record in its batch.
        record: usize,
        /// How many records the write stands for.
        states: usize,
        /// What the server answered.
        refusal: Refusal,
    },
    /// The driver's error, or the server's about a whole command.
    Driver(Error),
    /// No answer came within [`ANSWER_DEADLINE`].
    Deadline,
    /// An update took long, and the rest was not sent: its records go in smaller transactions.
    Slow,
    /// Written, but perhaps not by a majority: the server's code.
    WriteConcern(i32),
    /// A write failed with this code, which is about no record.
    Transient(Cause, i32),
    /// The transaction with other lanes did not commit, as far as is known: the batch must be
    /// written alone.
    Together,
}

/// What the server has refused of a batch, by the record's index.
pub(super) type Refusals = HashMap<usize, Refusal>;

/// When the next attempt follows.
enum Next {
    /// At once: it is another one.
    AtOnce,
    /// After a wait: it is the same one. With the reason, and the text of the error.
    AfterWait(Cause, String),
}

impl Writer {
    /// Does what a failed attempt at what was `sent` calls for: changes what the next one takes, or
    /// waits.
    ///
    /// # Errors
    /// [`Unwritten::Permanent`], where no further attempt can succeed.
    pub(super) async fn recover(
        &mut self,
        failure: Failure,
        sent: Sent,
        progress: &mut BatchProgress<'_>,
        refusals: &mut Refusals,
        attempts: &mut impl Attempts,
    ) -> Result<(), Unwritten> {
        let records = sent.records;
        if matches!(failure, Failure::Slow) {
            attempts.failed(&Trouble {
                cause: Cause::Timeout,
                error: "an update took several seconds",
                collection: self.collection_at_fault(Cause::Timeout),
                offset: sent.offset,
                records,
                bytes: sent.bytes,
                alone: true,
            });
        }
        match self.react(failure, records, progress, refusals)? {
            Next::AtOnce => {}
            Next::AfterWait(cause, error) => {
                if self.calls_for_less(cause) && progress.backoff.tries() > 0 {
                    if progress.next > 0 {
                        self.pace.halve_batch(records);
                    } else {
                        self.pace.halve(records);
                    }
                }
                let wait = progress.backoff.next_wait();
                self.back_off(cause, &error, sent, wait, progress, attempts)
                    .await;
            }
        }
        Ok(())
    }

    /// Whether a smaller transaction may succeed, or at least end before the record for which this
    /// one fails.
    fn calls_for_less(&self, cause: Cause) -> bool {
        match (self.writing_to, cause) {
            (Some(_), cause) => cause.is_answer(),
            // Somebody holds the checkpoint, whatever is to be written.
            (None, Cause::Conflict) => false,
            (None, cause) => cause.calls_for_less(),
        }
    }

    fn react(
        &mut self,
        failure: Failure,
        records: usize,
        progress: &mut BatchProgress<'_>,
        refusals: &mut Refusals,
    ) -> Result<Next, Unwritten> {
        Ok(match failure {
            Failure::Guard => {
                let error = "the guard did not match, though the checkpoint is where it should be";
                Next::AfterWait(Cause::Conflict, error.to_owned())
            }
            Failure::Together => Next::AtOnce,
            Failure::Refused { states, .. } if states > 1 => {
                progress.fold = false;
                Next::AtOnce
            }
            // It may be refused for a document that a state before it takes elsewhere.
            Failure::Refused { record, .. }
                if self.target.kind_changes == KindChanges::Delete && record > progress.next =>
            {
                progress.stop_at = record;
                Next::AtOnce
            }
            Failure::Refused {
                record, refusal, ..
            } => {
                refusals.insert(record, refusal);
                progress.stop_at = record + 1;
                Next::AtOnce
            }
            Failure::Driver(error) => {
                return self.react_to_error(&error, records, progress.next, refusals);
            }
            Failure::Slow => {
                self.pace.halve_batch(records);
                tracing::info!(
                    partition = %self.checkpoints.key().partition,
                    records = self.pace.records_max(),
                    "an update took several seconds; continuing with fewer records at a time"
                );
                Next::AtOnce
            }
            Failure::Deadline => {
                self.pace.halve(records);
                let error = format!("no answer within {ANSWER_DEADLINE:?}");
                Next::AfterWait(Cause::Timeout, error)
            }
            Failure::WriteConcern(code) => {
                let error = format!("write concern error {code}");
                Next::AfterWait(Cause::WriteConcern, error)
            }
            Failure::Transient(cause, code) => {
                Next::AfterWait(cause, format!("write error {code}"))
            }
        })
    }

    /// As [`Writer::react`], to an error about a whole command: one about a document is about any
    /// of the `records`, of which `next` is the first.
    fn react_to_error(
        &mut self,
        error: &Error,
        records: usize,
        next: usize,
        refusals: &mut Refusals,
    ) -> Result<Next, Unwritten> {
        match errors::of_error(error) {
            Verdict::Transient(cause) => Ok(Next::AfterWait(cause, errors::shown(error))),
            Verdict::Permanent(Subject::Deployment) => {
                Err(Unwritten::Permanent(errors::shown(error)))
            }
            Verdict::Permanent(Subject::Record) if records > 1 => {
                self.pace.halve(records);
                Ok(Next::AtOnce)
            }
            // Without that record, the server still refuses the command.
            Verdict::Permanent(Subject::Record) if refusals.contains_key(&next) => {
                Ok(Next::AfterWait(Cause::Other, errors::shown(error)))
            }
            Verdict::Permanent(Subject::Record) => {
                refusals.insert(next, refusal_of(error));
                Ok(Next::AtOnce)
            }
        }
    }
}

pub(super) fn refusal_of(error: &Error) -> Refusal {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Refusal {
            code: command.code,
            message: command.message.clone(),
            info: None,
        },
        kind => Refusal {
            code: 0,
            message: kind.to_string(),
            info: None,
        },
    }
}
