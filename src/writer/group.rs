//! Group commit: the small batches of several lanes in one transaction.
//!
//! A transaction costs the server as much for one record as for many. While one is under way, the
//! batches that arrive wait, and together are the next one. It has the guard of every lane, as a
//! transaction of the lane's own has. If it does not commit, nothing is retried here: each lane
//! finds out by its own guard what became of its batch, and writes it alone.

use std::mem;
use std::sync::{Arc, Weak};

use bson::{Document, Uuid, doc};
use mongodb::ClientSession;
use mongodb::error::Error;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Failure;
use super::command::{self, STATEMENT_MS_MAX, Statements};
use super::moved::Created;
use super::session::{Session, session_id};
use super::transaction::check;
use crate::backoff::Backoff;
use crate::checkpoint::{self, Sessions};
use crate::database::Current;
use crate::database::errors::{self, Cause, Verdict};
use crate::record::fold::{KindChanges, Plan, WriteMode};
use crate::record::mapping::{CollectionId, Mapping};

/// The largest batch that joins others, in bytes of documents. A larger one is worth a transaction
/// of its own.
pub const SHARE_BYTES_MAX: usize = 128 * 1024;

/// What a transaction may hold, in bytes of documents, for one more batch to join it.
const GROUP_BYTES_MAX: usize = 1024 * 1024;

/// What a transaction may hold, in writes, for one more batch to join it.
const GROUP_WRITES_MAX: u64 = 2_000;

/// The most batches in one transaction. As many more can wait for the next one.
const GROUP_SHARES_MAX: usize = 256;

/// The groups of one process: one for each client.
#[derive(Debug)]
pub struct Groups {
    mapping: Arc<Mapping>,
    kind_changes: KindChanges,
    alone: Arc<Semaphore>,
    latest: Mutex<Weak<Group>>,
}

impl Groups {
    /// Groups that write into the collections of `mapping`. Of the small batches that cannot go
    /// together, `lanes_max` at a time are written alone.
    pub fn new(mapping: Arc<Mapping>, kind_changes: KindChanges, lanes_max: usize) -> Self {
        Groups {
            mapping,
            kind_changes,
            alone: Arc::new(Semaphore::new(lanes_max)),
            latest: Mutex::default(),
        }
    }

    /// The group that writes on the client `current`. It lasts as long as somebody holds it.
    ///
    /// # Errors
    /// The driver's, where it can start no session.
    pub async fn of(&self, current: &Current) -> Result<Arc<Group>, Error> {
        let mut latest = self.latest.lock().await;
        if let Some(group) = latest.upgrade()
            && group.generation == current.generation
        {
            return Ok(group);
        }
        let session = current.database.client().start_session().await?;
        let (shares, waiting) = mpsc::channel(GROUP_SHARES_MAX);
        let group = Arc::new(Group {
            generation: current.generation,
            session: session_id(&session),
            alone: Arc::clone(&self.alone),
            shares,
        });
        if latest
            .upgrade()
            .is_none_or(|held| held.generation < group.generation)
        {
            *latest = Arc::downgrade(&group);
        }
        let session = Session::new(current.database.clone(), session);
        let mapping = Arc::clone(&self.mapping);
        tokio::spawn(write_groups(session, mapping, self.kind_changes, waiting));
        Ok(group)
    }
}

/// The way into the next transaction of several lanes on one client.
#[derive(Debug)]
pub struct Group {
    generation: u64,
    /// The session that it writes in, which a claim must be able to kill.
    session: Uuid,
    alone: Arc<Semaphore>,
    shares: mpsc::Sender<Share>,
}

/// The sessions that a claim names: the lane's `own`, and that of the group that the lane joins, if
/// it does.
pub fn sessions_of(own: &ClientSession, group: Option<&Group>) -> Sessions {
    Sessions {
        own: session_id(own),
        group: group.map(|group| group.session),
    }
}

/// One lane's part of a transaction.
struct Share {
    guard: Document,
    writes: Vec<(CollectionId, Statements)>,
    answer: oneshot::Sender<Result<Changed, NotTogether>>,
}

/// What a transaction has done. With several lanes, only the sums over all of them are exact.
#[derive(Default)]
pub(super) struct Changed {
    /// Documents that were changed or created.
    pub(super) written: u64,
    /// Documents that were removed because their entities' kind has changed.
    pub(super) moved: u64,
}

/// A batch was not written together with others, as far as is known, and must be written alone. It
/// has the cause why the transaction did not commit, if there was one.
pub(super) struct NotTogether(pub(super) Option<Cause>);

impl Group {
    /// Waits for a place among the small batches that are written alone.
    pub(super) async fn place_alone(&self) -> OwnedSemaphorePermit {
        let place = Arc::clone(&self.alone).acquire_owned().await;
        place.expect("nobody closes the semaphore")
    }

    /// Writes the states of `plan` under `guard`, together with what other lanes have. Gives what
    /// that changed.
    ///
    /// # Errors
    /// [`NotTogether`], where the transaction did not commit as far as is known. It may have.
    pub(super) async fn write(
        &self,
        guard: Document,
        plan: &Plan<'_>,
        mode: WriteMode,
    ) -> Result<Changed, NotTogether> {
        let statements = |writes: &Vec<_>| Statements::new(writes, mode);
        let (answer, answered) = oneshot::channel();
        let share = Share {
            guard,
            writes: (plan.writes.iter())
                .map(|(collection, writes)| (*collection, statements(writes)))
                .collect(),
            answer,
        };
        // The group's task ends before its lanes only when the process does.
        let sent = self.shares.send(share).await;
        sent.map_err(|_| NotTogether(None))?;
        answered.await.unwrap_or(Err(NotTogether(None)))
    }
}

impl Share {
    fn bytes(&self) -> usize {
        self.writes.iter().map(|(_, writes)| writes.bytes()).sum()
    }

    fn count(&self) -> u64 {
        let counts = self.writes.iter().map(|(_, writes)| writes.count());
        counts.sum::<usize>() as u64
    }

    /// Answers the lane, if it still waits.
    fn answer_with(self, answer: Result<Changed, NotTogether>) {
        let _ = self.answer.send(answer);
    }
}

/// Writes one transaction after the other, until no lane is left that could join.
async fn write_groups(
    mut session: Session,
    mapping: Arc<Mapping>,
    kind_changes: KindChanges,
    mut waiting: mpsc::Receiver<Share>,
) {
    while let Some(first) = waiting.recv().await {
        wait_for_lanes(&waiting).await;
        let shares = take_shares(first, &mut waiting);
        if shares.is_empty() {
            continue;
        }
        match commit(&mut session, &mapping, kind_changes, &shares).await {
            Ok(mut changed) => {
                for share in shares {
                    let written = changed.written.min(share.count());
                    changed.written -= written;
                    let moved = mem::take(&mut changed.moved);
                    share.answer_with(Ok(Changed { written, moved }));
                }
            }
            Err(failure) => {
                let cause = cause_of(&failure);
                tracing::debug!(
                    batches = shares.len(),
                    cause = cause.as_str(),
                    "a transaction of several batches failed: each is written alone"
                );
                // Before the lanes are answered, or each would find its checkpoint held.
                session.abort().await;
                for share in shares {
                    share.answer_with(Err(NotTogether(Some(cause))));
                }
                supersede(&mut session, &mut waiting).await;
            }
        }
    }
}

/// The next transaction: `first` and what is waiting, as far as it fits.
fn take_shares(first: Share, waiting: &mut mpsc::Receiver<Share>) -> Vec<Share> {
    let (mut bytes, mut count) = (first.bytes(), first.count());
    let mut shares = vec![first];
    while bytes < GROUP_BYTES_MAX
        && count < GROUP_WRITES_MAX
        && shares.len() < GROUP_SHARES_MAX
        && let Ok(share) = waiting.try_recv()
    {
        bytes += share.bytes();
        count += share.count();
        shares.push(share);
    }
    // The claim of a lane that no longer waits may have ended, which would fail the transaction for
    // all.
    shares.retain(|share| !share.answer.is_closed());
    shares
}

/// Waits until the lanes that the last answers or one fetch have woken have sent what they have:
/// each does so in the one turn that it gets meanwhile. A lane that comes too late waits for two
/// transactions rather than one.
async fn wait_for_lanes<T>(waiting: &mpsc::Receiver<T>) {
    let mut arrived = None;
    while arrived != Some(waiting.len()) {
        arrived = Some(waiting.len());
        tokio::task::yield_now().await;
    }
}

/// Writes `shares` in one transaction.
async fn commit(
    session: &mut Session,
    mapping: &Mapping,
    kind_changes: KindChanges,
    shares: &[Share],
) -> Result<Changed, Failure> {
    session.begin().await?;
    let guards: Vec<&Document> = shares.iter().map(|share| &share.guard).collect();
    session.guard(&guards).await?;
    let count: u64 = shares.iter().map(Share::count).sum();
    let mut changed = Changed::default();
    let mut created = Created::new(kind_changes);
    for (collection, name) in mapping.collections() {
        let writes = shares.iter().flat_map(|share| &share.writes);
        let of_it = writes.filter(|(written, _)| *written == collection);
        let statements: Vec<&[u8]> = of_it.flat_map(|(_, of_lane)| of_lane.iter()).collect();
        for run in command::statement_runs(&statements) {
            let update = command::update_all(name, run, STATEMENT_MS_MAX);
            let reply = session.update(update, count as usize).await?;
            check(&reply, |_| None)?;
            changed.written += reply.changed();
            created.note(collection, reply);
        }
    }
    changed.moved = session.remove_moved(mapping, &created, &mut None).await?;
    session.commit().await?;
    Ok(changed)
}

/// Runs another transaction in the session, so that no statement of an earlier one can have an
/// effect any more: a statement that is still on its way could hold the checkpoints of lanes that
/// now write alone, for a minute. What has a lower number than the server has seen can do nothing.
/// Meanwhile, no batches go together.
async fn supersede(session: &mut Session, waiting: &mut mpsc::Receiver<Share>) {
    let find = command::raw(&doc! {
        "find": checkpoint::COLLECTION,
        "limit": 1,
        "singleBatch": true,
        "maxTimeMS": STATEMENT_MS_MAX,
    });
    let superseded = async {
        let mut backoff = Backoff::new();
        while session.begin().await.is_err() || session.run(find.clone()).await.is_err() {
            backoff.wait().await;
        }
        session.abort().await;
    };
    tokio::pin!(superseded);
    loop {
        tokio::select! {
            () = &mut superseded => return,
            share = waiting.recv() => match share {
                Some(share) => share.answer_with(Err(NotTogether(None))),
                None => return,
            }
        }
    }
}

fn cause_of(failure: &Failure) -> Cause {
    match failure {
        Failure::Deadline | Failure::Slow => Cause::Timeout,
        Failure::WriteConcern(_) => Cause::WriteConcern,
        Failure::Transient(cause, _) => *cause,
        Failure::Driver(error) => match errors::of_error(error) {
            Verdict::Transient(cause) => cause,
            Verdict::Permanent(_) => Cause::Conflict,
        },
        // The lanes find out whose fault it is, and whether it is a record's.
        Failure::Guard | Failure::Refused { .. } | Failure::Together => Cause::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lanes_that_are_woken_together_go_together() {
        let (shares, waiting) = mpsc::channel(GROUP_SHARES_MAX);
        for _ in 0..12 {
            let shares = shares.clone();
            tokio::spawn(async move { shares.send(()).await });
        }
        wait_for_lanes(&waiting).await;
        assert_eq!(waiting.len(), 12);
    }
}
