//! Group commit: the small batches of several lanes in one transaction.
//!
//! A transaction costs the server as much for one record as for many. While one is under way the batches that come in wait,
//! and are the next one. Every lane's guard is in it, as in a transaction of the lane's own. If it does not commit nothing is tried again here:
//! each lane finds out by its own guard what became of its batch, and writes it by itself.

use std::sync::{Arc, Weak};

use bson::{Document, Uuid, doc};
use mongodb::ClientSession;
use mongodb::error::Error;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::command::{self, STATEMENT_MS_MAX, Statements};
use super::session::{Session, session_id};
use super::transaction::{Failure, check};
use crate::backoff::Backoff;
use crate::checkpoint::{self, Sessions};
use crate::database::Current;
use crate::database::errors::{self, Cause, Verdict};
use crate::record::fold::Plan;
use crate::record::fold::WriteMode;
use crate::record::mapping::{CollectionId, Mapping};

/// The largest batch that joins others, in bytes of documents. A larger one is worth a transaction of its own.
pub const SHARE_BYTES_MAX: usize = 128 * 1024;

/// What a transaction of several batches may hold, in bytes of documents, before the last one that joins it.
const GROUP_BYTES_MAX: usize = 1024 * 1024;

/// What it may hold in writes, likewise.
const GROUP_WRITES_MAX: u64 = 2_000;

/// The most batches in one transaction; so many more wait for the next one before a lane has to wait for its place.
const GROUP_SHARES_MAX: usize = 256;

/// The groups of one service: one for each client.
#[derive(Debug)]
pub struct Groups {
    mapping: Arc<Mapping>,
    alone: Arc<Semaphore>,
    latest: Mutex<Weak<Group>>,
}

impl Groups {
    /// Writes into the collections of `mapping`. Where small batches cannot go together, `lanes_max` of
    /// them at a time are written by themselves.
    pub fn new(mapping: Arc<Mapping>, lanes_max: usize) -> Self {
        Groups {
            mapping,
            alone: Arc::new(Semaphore::new(lanes_max)),
            latest: Mutex::default(),
        }
    }

    /// The group that writes by way of `current`. It lasts for as long as somebody holds it.
    ///
    /// # Errors
    /// The driver's, where it knows no server.
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
        tokio::spawn(go(session, Arc::clone(&self.mapping), waiting));
        Ok(group)
    }
}

/// The way into the next transaction of several lanes.
#[derive(Debug)]
pub struct Group {
    generation: u64,
    /// That it writes in, which a claim must be able to kill.
    session: Uuid,
    alone: Arc<Semaphore>,
    shares: mpsc::Sender<Share>,
}

/// What a claim names: the session of a lane's own, and that of the group that the lane joins, if it does.
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
    answer: oneshot::Sender<Result<u64, Failure>>,
}

impl Group {
    /// Waits for one of the places of small batches that are written by themselves.
    pub(super) async fn alone(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.alone).acquire_owned().await.ok()
    }

    /// Writes the states of `plan` under `guard`, together with what other lanes have; how many documents changed or came to be.
    /// Where several lanes' were written it is some lane's share of the whole.
    ///
    /// # Errors
    /// [`Failure::Alone`] and no other.
    pub(super) async fn write(
        &self,
        guard: Document,
        plan: &Plan<'_>,
        mode: WriteMode,
    ) -> Result<u64, Failure> {
        let statements = |writes: &Vec<_>| Statements::new(writes, mode);
        let (answer, answered) = oneshot::channel();
        let share = Share {
            guard,
            writes: (plan.writes.iter())
                .map(|(collection, writes)| (*collection, statements(writes)))
                .collect(),
            answer,
        };
        let sent = self.shares.send(share).await;
        sent.map_err(|_| Failure::Alone(None))?;
        answered.await.unwrap_or(Err(Failure::Alone(None)))
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
}

/// One transaction after the other, until nobody can join any more.
async fn go(mut session: Session, mapping: Arc<Mapping>, mut waiting: mpsc::Receiver<Share>) {
    while let Some(first) = waiting.recv().await {
        gather(&waiting).await;
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
        // Of lanes that wait no longer: their claims may be past, and would fail it for all.
        shares.retain(|share| !share.answer.is_closed());
        if shares.is_empty() {
            continue;
        }
        match commit(&mut session, &mapping, &shares).await {
            Ok(mut changed) => {
                for share in shares {
                    let own = changed.min(share.count());
                    changed -= own;
                    let _ = share.answer.send(Ok(own));
                }
            }
            Err(failure) => {
                let cause = cause_of(&failure);
                tracing::debug!(
                    batches = shares.len(),
                    cause = cause.as_str(),
                    "each by itself"
                );
                // First, or each would find its checkpoint held.
                session.abort().await;
                for share in shares {
                    let _ = share.answer.send(Err(Failure::Alone(Some(cause))));
                }
                overtake(&mut session, &mut waiting).await;
            }
        }
    }
}

/// Until the lanes that the last answers or the same fetch woke have sent what they have: each does so in the one turn that it
/// gets meanwhile. Whoever comes too late waits for two transactions rather than one.
async fn gather<T>(waiting: &mpsc::Receiver<T>) {
    let mut came = None;
    while came != Some(waiting.len()) {
        came = Some(waiting.len());
        tokio::task::yield_now().await;
    }
}

async fn commit(
    session: &mut Session,
    mapping: &Mapping,
    shares: &[Share],
) -> Result<u64, Failure> {
    session.begin().await?;
    let guards: Vec<&Document> = shares.iter().map(|share| &share.guard).collect();
    session.guard(&guards).await?;
    let count: u64 = shares.iter().map(Share::count).sum();
    let mut changed = 0;
    for (collection, name) in mapping.collections() {
        let writes = shares.iter().flat_map(|share| &share.writes);
        let of_it = writes.filter(|(written, _)| *written == collection);
        let statements: Vec<&[u8]> = of_it.flat_map(|(_, of_lane)| of_lane.iter()).collect();
        for run in command::statement_runs(&statements) {
            let update = command::update_all(name, run, STATEMENT_MS_MAX);
            let reply = session.update(update, count as usize).await?;
            check(&reply, |_| None)?;
            changed += reply.modified + reply.upserted;
        }
    }
    session.commit().await?;
    Ok(changed)
}

/// Until no statement of an earlier transaction can have an effect any more: one that is long on its way could hold the
/// checkpoints of lanes that write by themselves now, for a minute. A transaction with a higher number sees to that.
async fn overtake(session: &mut Session, waiting: &mut mpsc::Receiver<Share>) {
    let look = doc! { "find": checkpoint::COLLECTION, "limit": 1, "singleBatch": true, "maxTimeMS": STATEMENT_MS_MAX };
    let overtaken = async {
        let mut backoff = Backoff::new();
        while session.begin().await.is_err() || session.run(look.clone()).await.is_err() {
            backoff.wait().await;
        }
        session.abort().await;
    };
    tokio::pin!(overtaken);
    loop {
        tokio::select! {
            () = &mut overtaken => return,
            share = waiting.recv() => match share {
                Some(share) => drop(share.answer.send(Err(Failure::Alone(None)))),
                None => return,
            }
        }
    }
}

fn cause_of(failure: &Failure) -> Cause {
    match failure {
        Failure::Deadline | Failure::Slow => Cause::Timeout,
        Failure::WriteConcern(_) => Cause::WriteConcern,
        Failure::Passing(cause, _) => *cause,
        Failure::Driver(error) => match errors::of_error(error) {
            Verdict::Retry(cause) => cause,
            Verdict::Reject | Verdict::Fatal => Cause::Conflict,
        },
        // Whose it is, and whether it is a record's fault, the lanes find out.
        _ => Cause::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_woken_together_goes_together() {
        let (shares, waiting) = mpsc::channel(GROUP_SHARES_MAX);
        for _ in 0..12 {
            let shares = shares.clone();
            tokio::spawn(async move { shares.send(()).await });
        }
        gather(&waiting).await;
        assert_eq!(waiting.len(), 12);
    }
}
