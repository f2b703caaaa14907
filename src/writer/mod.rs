//! One batch, one transaction: the checkpoint moves on and the entities change together, or not at all.
//!
//! The guard comes first: the checkpoint must still be ours and stand at the batch's first offset.
//! Whatever happens to an attempt, the next one finds out by the guard what became of it, so a batch
//! can be tried again without limit and is applied once.

pub mod command;
pub mod dead_letter;
mod group;
mod pace;
pub mod reply;
mod session;
mod settled;
mod takeover;
mod transaction;

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mongodb::ClientSession;
use mongodb::error::Error;

pub use self::group::{Group, Groups, SHARE_BYTES_MAX, sessions_of};
use self::pace::Pace;
pub use self::session::session_id;
use self::session::{ANSWER_DEADLINE, Session};
pub use self::settled::{Counts, Settled, Unwritten};
use self::takeover::Takeover;
use self::transaction::{Failure, Sent};
use crate::backoff::Backoff;
use crate::checkpoint::{self, Checkpoint, Checkpoints, Claim, ClaimError, Fence, fence};
use crate::database::errors::{self, Cause, Verdict};
use crate::database::outage::Outage;
use crate::database::{Connection, Current};
use crate::record::batch::Batch;
use crate::record::entity::Refusal;
use crate::record::fold::WriteMode;
use crate::record::fold::{Folding, Plan};
use crate::record::mapping::{CollectionId, Mapping};

/// How long a look at the checkpoint of an idle lane may keep the lane from its orders.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);

/// Every collection that a transaction may write: the entities', the checkpoints', the dead letters'.
pub fn collections(mapping: &Mapping) -> Vec<&str> {
    let entities = mapping.collections().map(|(_, name)| name);
    let own = [checkpoint::COLLECTION, dead_letter::COLLECTION];
    entities.chain(own).collect()
}

/// What every lane's writer needs and none changes.
#[derive(Debug)]
pub struct Target {
    /// Kinds and collections.
    pub mapping: Arc<Mapping>,
    /// Whether a state adds to its document or replaces it.
    pub mode: WriteMode,
    /// Collections whose states are written one by one.
    pub unfoldable: HashSet<CollectionId>,
    /// Where the small batches of several lanes come together; without, each lane writes by itself.
    pub groups: Option<Groups>,
}

impl Target {
    /// The group of a client that a claim is made with, which the checkpoint must name.
    ///
    /// # Errors
    /// The driver's, where it knows no server.
    pub async fn group(&self, current: &Current) -> Result<Option<Arc<Group>>, Error> {
        match &self.groups {
            Some(groups) => groups.of(current).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Writes the batches of one claim, one after the other, in one session for as long as the client is in use.
pub struct Writer {
    target: Arc<Target>,
    connection: Connection,
    /// Of the client that `session`, `group` and `checkpoints` belong to.
    generation: u64,
    session: Session,
    group: Option<Arc<Group>>,
    checkpoints: Checkpoints,
    claim: Claim,
    outage: Arc<Outage>,
    takeover: Option<Takeover>,
    pace: Pace,
    /// Whether the server refused a record of the last batch.
    refused_before: bool,
}

/// How far a batch has got.
struct Progress {
    /// The first record that is not settled.
    next: usize,
    /// Behind the last record that the next transaction may take: one that was refused.
    stop_at: usize,
    /// Whether states of one entity may be folded.
    fold: bool,
    /// What the server has refused, by record.
    refused: HashMap<usize, Refusal>,
    /// Commits from `next` on whose outcome is not known; after a smaller one they lead further.
    sent: Vec<Sent>,
    settled: Counts,
}

impl Writer {
    /// A writer for `claim`, which was made with `session`'s id on the client `current`; it goes over to each client that
    /// `connection` has later.
    pub fn new(
        target: Arc<Target>,
        connection: Connection,
        current: Current,
        session: ClientSession,
        checkpoints: Checkpoints,
        claim: Claim,
        outage: Arc<Outage>,
    ) -> Self {
        Writer {
            target,
            connection,
            generation: current.generation,
            session: Session::new(current.database, session),
            group: None,
            checkpoints,
            claim,
            outage,
            takeover: None,
            pace: Pace::new(),
            refused_before: false,
        }
    }

    /// Lets small batches be written together with those of other lanes, by the group that the claim named.
    pub fn joining(self, group: Option<Arc<Group>>) -> Self {
        Writer { group, ..self }
    }

    /// The claim that this writer writes under.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// What the claim found settled: a majority has it.
    pub fn resumed(&self) -> Settled {
        Settled {
            next_offset: self.claim.next_offset,
            counts: Counts::default(),
        }
    }

    /// What became of the checkpoint, if with nothing to write it is no longer ours at `next_offset`.
    /// `None` too where MongoDB does not say within two seconds. Goes over to the client in use, or the connections
    /// of an earlier one would stay open for as long as there is nothing to write.
    pub async fn moved(&mut self, next_offset: i64) -> Option<Fence> {
        let look = async {
            if !self.connection.is_past(self.generation) {
                return self.checkpoints.read().await;
            }
            let found = self.try_take_over(0).await?;
            // Whoever has it now: this is what a checkpoint of somebody else's looks like.
            Ok(found.or_else(|| Some(Checkpoint::default())))
        };
        match tokio::time::timeout(LOOK_DEADLINE, look).await {
            Ok(Ok(found)) => Some(fence(found.as_ref(), self.claim.owner, next_offset, &[]))
                .filter(|fence| *fence != Fence::Open),
            Ok(Err(ClaimError::Unreadable(_))) => Some(Fence::Moved),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Writes `batch`, trying without limit what passes. `retried` is told of every failed attempt.
    ///
    /// # Errors
    /// [`Unwritten`], when trying again cannot help. Dropping the future leaves at most an open
    /// transaction behind, which the session's end aborts and the next claim would kill; what other lanes
    /// commit together with it they still may, until the next claim.
    pub async fn write(
        &mut self,
        batch: &Batch,
        mut retried: impl FnMut(Cause),
    ) -> Result<Settled, Unwritten> {
        let count = batch.entries().len();
        let target = Arc::clone(&self.target);
        let mut backoff = Backoff::new();
        // A larger one has the lane's slot.
        let is_small = !batch.is_larger_than(SHARE_BYTES_MAX);
        // Once: what is wrong with a batch is found out with nothing else in the transaction. Not behind a batch with a refused
        // record: one partition's faults would keep all others from going together.
        let mut joins = !mem::take(&mut self.refused_before);
        let mut place = None;
        self.pace.next_batch();
        let mut progress = Progress {
            next: 0,
            stop_at: count,
            fold: true,
            refused: HashMap::new(),
            sent: Vec::new(),
            settled: Counts::default(),
        };
        loop {
            let next = progress.next;
            let until = progress
                .stop_at
                .max(next + 1)
                .min(count)
                .min(next.saturating_add(self.pace.records_max()));
            let folding = Folding {
                mode: target.mode,
                unfoldable: &target.unfoldable,
                enabled: progress.fold,
            };
            let plan = Plan::new(batch, next..until, &folding, &progress.refused);
            let (from, to) = batch.offsets(plan.records.clone());
            let covered = plan.records.end;
            let mut landed = None;
            if self.connection.is_past(self.generation) {
                landed = self
                    .take_over(from, &mut progress.sent, &mut retried)
                    .await?;
            }
            let committed = match landed {
                Some(landed) => Ok(landed),
                None => {
                    let (connection, generation) = (self.connection.clone(), self.generation);
                    let (outage, partition) = (
                        Arc::clone(&self.outage),
                        self.checkpoints.key().partition.clone(),
                    );
                    let joining = match self.group.clone().filter(|_| is_small) {
                        Some(group) if mem::take(&mut joins) && plan.is_plain(count) => Some(group),
                        Some(group) if place.is_none() => {
                            place = group.alone().await;
                            None
                        }
                        _ => None,
                    };
                    let attempted = async {
                        let sent = &mut progress.sent;
                        if let Some(group) = joining {
                            let joined = self.join(&group, &plan, from, to, sent).await;
                            if let Err(Failure::Alone(Some(cause))) = &joined {
                                retried(*cause);
                            }
                            return Ok(joined);
                        }
                        match self.attempt(batch, &plan, from, to, sent).await {
                            Err(Failure::Guard) => {
                                self.resolve(from, sent, &mut backoff, &mut retried).await
                            }
                            committed => Ok(committed),
                        }
                    };
                    tokio::select! {
                        attempted = outage.watch(&partition, attempted) => attempted?,
                        // Whatever became of it, the takeover finds out.
                        () = connection.expired(generation) => continue,
                    }
                }
            };
            let failure = match committed {
                Ok(committed) => {
                    self.outage.passed(&self.checkpoints.key().partition);
                    self.pace.double();
                    backoff = Backoff::new();
                    progress.settled.add(committed.counts);
                    progress.sent.clear();
                    progress.next = committed.covered;
                    (progress.fold, progress.stop_at) = (true, count);
                    if progress.next == count {
                        break;
                    }
                    continue;
                }
                Err(failure) => failure,
            };
            if matches!(failure, Failure::Slow) {
                retried(Cause::Timeout);
            }
            if let Some((cause, error)) = self.react(failure, &mut progress, covered)? {
                retried(cause);
                self.outage
                    .failed(&self.checkpoints.key().partition, cause, &error);
                if cause.calls_for_less() && backoff.tries() > 0 {
                    if next > 0 {
                        self.pace.halve_batch(covered - next);
                    } else {
                        self.pace.halve(covered - next);
                    }
                }
                backoff.wait().await;
            }
        }
        self.refused_before = !progress.refused.is_empty();
        Ok(Settled {
            next_offset: batch.end(),
            counts: progress.settled,
        })
    }

    /// What follows from a failed attempt at the records up to `covered`: the reason to wait and try
    /// again, or `None` where the next attempt is another one.
    fn react(
        &mut self,
        failure: Failure,
        progress: &mut Progress,
        covered: usize,
    ) -> Result<Option<(Cause, String)>, Unwritten> {
        let next = progress.next;
        Ok(Some(match failure {
            Failure::Guard => (Cause::Conflict, "the guard failed in passing".to_owned()),
            Failure::Alone(_) => return Ok(None),
            Failure::Refused { states, .. } if states > 1 => {
                progress.fold = false;
                return Ok(None);
            }
            Failure::Refused {
                record, refusal, ..
            } => {
                progress.refused.insert(record, refusal);
                progress.stop_at = record + 1;
                return Ok(None);
            }
            Failure::Driver(error) => match errors::of_error(&error) {
                Verdict::Retry(cause) => (cause, errors::shown(&error)),
                Verdict::Fatal => return Err(Unwritten::Fatal(errors::shown(&error))),
                Verdict::Reject if covered - next > 1 => {
                    self.pace.halve(covered - next);
                    return Ok(None);
                }
                Verdict::Reject if progress.refused.contains_key(&next) => {
                    (Cause::Other, errors::shown(&error))
                }
                Verdict::Reject => {
                    progress.refused.insert(next, refusal_of(&error));
                    return Ok(None);
                }
            },
            Failure::Slow => {
                self.pace.halve_batch(covered - next);
                tracing::info!(
                    partition = %self.checkpoints.key().partition,
                    records = self.pace.records_max(),
                    "an update took MongoDB seconds: going on with fewer records at a time"
                );
                return Ok(None);
            }
            Failure::Deadline => {
                self.pace.halve(covered - next);
                (
                    Cause::Timeout,
                    format!("no answer within {ANSWER_DEADLINE:?}"),
                )
            }
            Failure::WriteConcern(code) => {
                (Cause::WriteConcern, format!("write concern error {code}"))
            }
            Failure::Passing(cause, code) => (cause, format!("write error {code}")),
        }))
    }

    /// Finds out what a guard that did not match means: a commit that landed, or, where there is
    /// none, that the guard may match the next time.
    async fn resolve(
        &self,
        from: i64,
        sent: &mut Vec<Sent>,
        backoff: &mut Backoff,
        retried: &mut impl FnMut(Cause),
    ) -> Result<Result<Sent, Failure>, Unwritten> {
        let ends: Vec<i64> = sent.iter().map(|commit| commit.to).collect();
        loop {
            let error = match self.checkpoints.read().await {
                Ok(found) => match fence(found.as_ref(), self.claim.owner, from, &ends) {
                    Fence::Landed(to) => {
                        let landed = sent.iter().position(|commit| commit.to == to);
                        return Ok(landed
                            .map(|landed| sent.swap_remove(landed))
                            .ok_or(Failure::Guard));
                    }
                    Fence::Open => return Ok(Err(Failure::Guard)),
                    fence => return Err(Unwritten::Fenced(fence)),
                },
                // Claiming again stops the partition, and names the command that mends it.
                Err(ClaimError::Unreadable(_)) => return Err(Unwritten::Fenced(Fence::Moved)),
                Err(error) => error,
            };
            let cause = cause_of(&error);
            retried(cause);
            self.outage
                .failed(&self.checkpoints.key().partition, cause, &error.to_string());
            backoff.wait().await;
        }
    }
}

/// The metric label of a claim that did not count.
pub fn cause_of(error: &ClaimError) -> Cause {
    match error {
        ClaimError::Driver(error) => match errors::of_error(error) {
            Verdict::Retry(cause) => cause,
            Verdict::Reject | Verdict::Fatal => Cause::Other,
        },
        ClaimError::WriteConcern(_) => Cause::WriteConcern,
        ClaimError::TimedOut(_) => Cause::Timeout,
        ClaimError::Outrun => Cause::Conflict,
        ClaimError::Unreadable(_) => Cause::Other,
    }
}

fn refusal_of(error: &Error) -> Refusal {
    match error.kind.as_ref() {
        mongodb::error::ErrorKind::Command(command) => Refusal {
            code: command.code,
            message: command.message.clone(),
        },
        _ => Refusal {
            code: 0,
            message: error.kind.to_string(),
        },
    }
}
