//! One batch, one transaction: the checkpoint moves on and the entities change together, or not at
//! all.
//!
//! The guard comes first: the checkpoint must still be ours and stand at the batch's first offset.
//! Whatever happens to an attempt, the next one finds out by the guard what became of it. So a
//! batch can be retried without limit and is applied once.

mod attempt;
pub mod command;
pub mod dead_letter;
mod failure;
mod group;
mod moved;
mod pace;
mod progress;
pub mod replay;
pub mod reply;
mod session;
mod settled;
mod takeover;
mod transaction;
mod trouble;
mod unfoldable;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mongodb::ClientSession;
use mongodb::error::Error;

use self::attempt::Attempted;
use self::failure::{Failure, Refusals};
pub use self::group::{Group, Groups, SHARE_BYTES_MAX, sessions_of};
use self::pace::Pace;
use self::progress::BatchProgress;
use self::session::Session;
pub use self::session::session_id;
pub use self::settled::{Counts, RejectedAt, Settled, Unwritten};
use self::takeover::Takeover;
pub use self::trouble::{Attempts, Trouble};
pub use self::unfoldable::Unfoldable;
use crate::checkpoint::{self, Checkpoint, Checkpoints, Claim, ClaimError, Fence, fence};
use crate::database::errors::{self, Cause, Verdict};
use crate::database::outage::Outage;
use crate::database::{Connection, Current};
use crate::record::Rejections;
use crate::record::batch::Batch;
use crate::record::entity::Refusal;
use crate::record::fold::{Folding, KindChanges, Plan, WriteMode};
use crate::record::mapping::{CollectionId, Mapping};

/// How long the check of an idle lane's checkpoint may keep the lane from its orders.
const CHECK_DEADLINE: Duration = Duration::from_secs(2);

/// Every collection that a transaction may write: those of the entities, the checkpoints and the
/// dead letters.
pub fn collections(mapping: &Mapping) -> Vec<&str> {
    let entities = mapping.collections().map(|(_, name)| name);
    let own = [checkpoint::COLLECTION, dead_letter::COLLECTION];
    entities.chain(own).collect()
}

/// What all writers share, and none changes.
#[derive(Debug)]
pub struct Target {
    /// Kinds and collections.
    pub mapping: Arc<Mapping>,
    /// Whether a state adds to its document or replaces it.
    pub mode: WriteMode,
    /// What becomes of documents in other collections, where an entity's kind has changed.
    pub kind_changes: KindChanges,
    /// Collections whose states are not folded.
    pub unfoldable: Unfoldable,
    /// How many rejections in a row stop a partition; 0: none.
    pub rejections_in_a_row_max: usize,
    /// Through which small batches of several lanes share a transaction; without, each lane writes
    /// alone.
    pub groups: Option<Groups>,
}

impl Target {
    /// The group of the client that a claim is made on; the checkpoint must name its session.
    ///
    /// # Errors
    /// The driver's, where it can start no session.
    pub async fn group(&self, current: &Current) -> Result<Option<Arc<Group>>, Error> {
        match &self.groups {
            Some(groups) => groups.of(current).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Writes the batches of one claim, one after the other, in one session as long as the client is in
/// use.
pub struct Writer {
    target: Arc<Target>,
    connection: Connection,
    /// That of the client that `session`, `group` and `checkpoints` belong to.
    generation: u64,
    session: Session,
    group: Option<Arc<Group>>,
    checkpoints: Checkpoints,
    claim: Claim,
    outage: Arc<Outage>,
    takeover: Option<Takeover>,
    /// The collection of entities that the attempt under way writes to, once it does.
    writing_to: Option<CollectionId>,
    pace: Pace,
    /// The records before the checkpoint that were rejected in a row.
    rejections: Rejections,
    /// Whether the next record is to be a dead letter, by a person's word.
    reject_next: bool,
    /// Whether the server refused a record of the last batch.
    refused_before: bool,
}

impl Writer {
    /// A writer for `claim`, which was made with `session`'s id on the client `current`. It
    /// switches to each client that `connection` has later.
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
            rejections: claim.rejections,
            reject_next: claim.reject_next,
            generation: current.generation,
            session: Session::new(current.database, session),
            group: None,
            checkpoints,
            claim,
            outage,
            takeover: None,
            writing_to: None,
            pace: Pace::new(),
            refused_before: false,
        }
    }

    /// Lets small batches join those of other lanes, through the group that the claim names.
    pub fn joining(self, group: Option<Arc<Group>>) -> Self {
        Writer { group, ..self }
    }

    /// The claim that this writer writes under.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// What was settled before the claim: a majority has it.
    pub fn resumed(&self) -> Settled {
        Settled {
            next_offset: self.claim.position.offset,
            counts: Counts::default(),
            halted: false,
        }
    }

    /// Checks for a lane with nothing to write that the checkpoint is still ours at `next_offset`.
    /// Where another client is in use, switches to it, or the connections of the earlier one would
    /// stay open for as long as there is nothing to write.
    ///
    /// `None` where all is well, and where MongoDB does not answer within two seconds.
    pub async fn check_or_switch_client(&mut self, next_offset: i64) -> Option<Fence> {
        let check = async {
            if !self.connection.is_past(self.generation) {
                return self.checkpoints.read().await;
            }
            let taken_over = self.try_take_over(0).await?;
            // Somebody else has it: a checkpoint without our owner says so.
            Ok(taken_over.or_else(|| Some(Checkpoint::default())))
        };
        match tokio::time::timeout(CHECK_DEADLINE, check).await {
            Ok(Ok(found)) => Some(fence(found.as_ref(), self.claim.owner, next_offset, &[]))
                .filter(|fence| *fence != Fence::Open),
            Ok(Err(ClaimError::Unreadable(_))) => Some(Fence::Moved),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Writes `batch`, up to where too many records in a row are rejected; retries without limit
    /// what is transient. `attempts` is told of every failed one.
    ///
    /// Dropping the future leaves at most an open transaction behind, which the session's end
    /// aborts and the next claim would kill. A group that the batch has joined may still commit it,
    /// until the next claim.
    ///
    /// # Errors
    /// [`Unwritten`], where no retry can help.
    pub async fn write(
        &mut self,
        batch: &Batch,
        mut attempts: impl Attempts,
    ) -> Result<Settled, Unwritten> {
        let target = Arc::clone(&self.target);
        // A batch behind one with a refused record goes alone: a partition with such records would
        // fail the transaction for all others.
        let joins = !mem::take(&mut self.refused_before);
        let mut progress = BatchProgress::new(batch, joins);
        let mut refusals = Refusals::new();
        if self.reject_next && !batch.entries().is_empty() {
            refusals.insert(0, Refusal::of_a_person());
            progress.stop_at = 1;
        }
        self.pace.next_batch();
        loop {
            let unfoldable = target.unfoldable.now();
            let folding = Folding {
                mode: target.mode,
                kind_changes: target.kind_changes,
                unfoldable: &unfoldable,
                enabled: progress.fold,
                rejections: self.rejections,
                rejections_in_a_row_max: target.rejections_in_a_row_max,
            };
            let records = progress.next_records(self.pace.records_max());
            let plan = Plan::new(batch, records, &folding, &refusals);
            match self.attempt(&plan, &mut progress, &mut attempts).await? {
                Attempted::Committed(commit) => {
                    self.outage.passed(&self.checkpoints.key().partition);
                    attempts.passed();
                    self.pace.double();
                    self.rejections = commit.rejections;
                    self.reject_next = false;
                    progress.settle(commit);
                    if progress.is_settled() {
                        break;
                    }
                }
                Attempted::Failed(failure) => {
                    let sent = Sent::of(&plan);
                    self.recover(failure, sent, &mut progress, &mut refusals, &mut attempts)
                        .await?;
                }
                Attempted::ClientChanged => {}
            }
        }
        self.refused_before = !refusals.is_empty();
        Ok(progress.into_settled())
    }

    /// Reports a failed attempt that will be repeated, and waits so long. What the batch holds of
    /// what is scarce goes to others meanwhile.
    async fn back_off(
        &self,
        cause: Cause,
        error: &str,
        sent: Sent,
        wait: Duration,
        progress: &mut BatchProgress<'_>,
        attempts: &mut impl Attempts,
    ) {
        let collection = self.collection_at_fault(cause);
        let trouble = Trouble {
            cause,
            error,
            collection,
            offset: sent.offset,
            records: sent.records,
            bytes: sent.bytes,
            alone: true,
        };
        let partition = &self.checkpoints.key().partition;
        self.outage.failed(partition, cause, error, collection);
        attempts.failed(&trouble);
        progress.give_place_back();
        attempts.pause();
        tokio::time::sleep(wait).await;
        attempts.resume().await;
    }

    /// The collection that the last attempt failed in, where it is not MongoDB that is down: that
    /// of entities behind a guard that MongoDB accepted, or that of the checkpoints, where another
    /// transaction holds this one.
    fn collection_at_fault(&self, cause: Cause) -> Option<&str> {
        match (self.writing_to, cause) {
            (Some(collection), cause) => {
                (cause.is_answer()).then(|| self.target.mapping.collection(collection))
            }
            (None, Cause::Conflict) => Some(checkpoint::COLLECTION),
            (None, _) => None,
        }
    }
}

/// What an attempt was to write.
#[derive(Clone, Copy)]
struct Sent {
    offset: i64,
    records: usize,
    bytes: usize,
}

impl Sent {
    fn of(plan: &Plan<'_>) -> Sent {
        let writes = plan.writes.iter().flat_map(|(_, writes)| writes);
        Sent {
            offset: plan.offsets.start,
            records: plan.records.len(),
            bytes: writes.map(|write| write.document.len()).sum(),
        }
    }
}

/// Why a claim that did not count is retried.
pub fn cause_of(error: &ClaimError) -> Cause {
    match error {
        ClaimError::Driver(error) => match errors::of_error(error) {
            Verdict::Transient(cause) => cause,
            Verdict::Permanent(_) => Cause::Other,
        },
        ClaimError::WriteConcern(_) => Cause::WriteConcern,
        ClaimError::TimedOut(_) => Cause::Timeout,
        ClaimError::Outrun => Cause::Conflict,
        ClaimError::Unreadable(_) => Cause::Other,
    }
}
