//! The way of one partition: claim, receive, decode, batch, write, settle; and from the claim again
//! when the checkpoint says so.
//!
//! A lane is one task and works in sequence, so nothing has to keep track of the order: one batch
//! is written while the next one is filled. When it stops reading, librdkafka stops fetching: there
//! is no other back-pressure.

mod attempts;
pub mod budget;
pub mod claim;
mod consuming;
mod counting;
mod doubt;
mod event;
mod filling;
mod fit;
mod hand;
mod slots;
mod spare;
mod starving;
mod stopped;
mod writing;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::budget::Budget;
use self::claim::{Claimant, Claimed};
use self::consuming::consume;
use self::doubt::{Doubt, Evidence};
pub use self::slots::Slots;
use self::stopped::Stop;
use crate::backoff::Backoff;
use crate::checkpoint::Fence;
use crate::config::Limits;
use crate::kafka::topics::TopicIds;
use crate::kafka::{Handle, NewLane, Order, Progress, unpacking};
use crate::record::entity::Tombstones;
use crate::record::{Partition, Position};
use crate::telemetry::code::Code;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{Metrics, PartitionState};
use crate::telemetry::rejected::RejectedLog;
use crate::telemetry::reminder::Reminder;
use crate::writer::Target;

/// How long a claim must have held before what is logged of the next ones begins anew.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// How long a lane waits at most for room before it claims its partition again all the same: what
/// its batch needs is only known roughly.
const ROOM_DEADLINE: Duration = Duration::from_secs(10);

/// How long a lane waits before it asks again for what this user may not read: each try is a claim.
const REFUSED_WAIT: Duration = Duration::from_secs(10);

/// How often it looks meanwhile whether there is room.
const ROOM_LOOK_EVERY: Duration = Duration::from_millis(100);

/// What all lanes share.
pub struct Lanes {
    /// The way to the poll thread.
    pub handle: Handle,
    /// Makes claims.
    pub claimant: Claimant,
    /// What the writers need.
    pub target: Arc<Target>,
    /// What a tombstone does.
    pub tombstones: Tombstones,
    /// Limits of a batch.
    pub limits: Limits,
    /// The batches' share of the memory budget.
    pub budget: Budget,
    /// How many batches may be large at the same time.
    pub slots: Slots,
    /// The topics' ids, as they were seen last.
    pub topic_ids: TopicIds,
    /// How long a heartbeat takes to bring a revocation.
    pub heartbeat: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether MongoDB answers.
    pub health: Arc<Health>,
    /// What is logged of rejected records.
    pub rejected: Arc<RejectedLog>,
    /// Takes what ends the process.
    pub fatal: tokio::sync::mpsc::UnboundedSender<String>,
}

/// Why a lane stopped consuming under its claim.
enum End {
    /// The partition is handed over.
    Revoked,
    /// The checkpoint is not where the lane left it.
    Fenced(Fence),
    /// Claim anew and fetch from the checkpoint.
    Reclaim(&'static str),
    /// The brokers do not let this user read the topic.
    Refused,
    /// The log does not have the offset, or has other records before it. With the claim's position
    /// where nothing else has arrived since the claim.
    OffsetLost(Option<Position>),
    /// The batch of records at this offset cannot be read; all before it is applied.
    Unreadable(i64),
    /// There was no room to unpack the batch of records at this offset; all before it is applied.
    NoRoom {
        /// Where the batch begins, or before it.
        offset: i64,
        /// What it unpacks to.
        bytes: usize,
    },
    /// A person is needed: the process ends.
    Permanent(String),
}

/// Runs the lane of one partition until it is revoked.
pub async fn run(lanes: Arc<Lanes>, lane: NewLane) {
    let NewLane {
        partition,
        order,
        progress,
        alive,
    } = lane;
    let mut abandoned = order.clone();
    tokio::select! {
        _ = abandoned.wait_for(|order| *order == Order::Abandon) => {}
        () = claim_and_consume(&lanes, &partition, order, &progress) => {}
    }
    lanes.claimant.outage.forget(&partition);
    lanes.health.note(&partition.to_string(), None);
    lanes
        .health
        .leave_refused(&partition.topic, partition.number);
    drop(alive);
}

/// One claim after the other, until the partition is revoked.
async fn claim_and_consume(
    lanes: &Lanes,
    partition: &Partition,
    mut order: watch::Receiver<Order>,
    progress: &Arc<Progress>,
) {
    let mut backoff = Backoff::new();
    let (mut logged, mut stopped) = (Logged::default(), None::<Reminder>);
    let mut doubt = Doubt::default();
    loop {
        let claimed = tokio::select! {
            _ = order.wait_for(|order| *order != Order::Run) => return,
            claimed = lanes.claimant.claim(partition, &mut doubt) => claimed,
        };
        let writer = match claimed {
            Claimed::Writer(writer) => writer,
            Claimed::Stopped(stop, owner) => {
                let reminder = stopped.get_or_insert_default();
                let mut tell = || tell_stop(lanes, partition, progress, &stop, reminder);
                tell();
                let is_open = stop.state() == PartitionState::Breaker;
                let _open = is_open.then(|| lanes.metrics.open_breaker());
                tokio::select! {
                    _ = order.wait_for(|order| *order != Order::Run) => return,
                    () = lanes.claimant.resolved(partition, (owner, stop.code), tell) => continue,
                }
            }
        };
        stopped = None;
        show(lanes, partition, progress, PartitionState::Running, None);
        let began = tokio::time::Instant::now();
        let end = consume(lanes, partition, &mut order, progress, &mut doubt, writer).await;
        if began.elapsed() > SETTLED_AFTER {
            backoff = Backoff::new();
            logged = Logged::default();
        }
        match end {
            End::OffsetLost(Some(position)) => doubt.add(Evidence::Diverged(position)),
            End::Unreadable(offset) => doubt.add(Evidence::Unreadable(offset)),
            End::Refused => lanes.claimant.note_refused(partition, true),
            _ => {}
        }
        show(lanes, partition, progress, PartitionState::Claiming, None);
        logged.end(partition, &end);
        // The poll thread may be waiting for this lane to end, so every wait here ends with its
        // order.
        tokio::select! {
            _ = order.wait_for(|order| *order != Order::Run) => return,
            recovered = recover(lanes, partition, end, &mut backoff) => if !recovered { return },
        }
    }
}

/// Shows everywhere that the partition has stopped, and why.
fn tell_stop(
    lanes: &Lanes,
    partition: &Partition,
    progress: &Progress,
    stop: &Stop,
    reminder: &mut Reminder,
) {
    // The log was looked at, and nothing is read until somebody resolves it.
    lanes.claimant.note_refused(partition, false);
    if reminder.is_due(&stop.why) {
        tracing::error!(
            code = %stop.code, %partition,
            "this partition has stopped: {}", stop.why
        );
        lanes.metrics.errors("lane", "stopped");
    }
    // Its lag and age go on, also where this worker has never read it.
    if let Some(next_offset) = stop.next_offset {
        progress.settled_to(next_offset, None);
    }
    let why = format!("{}: {}", stop.code, stop.why);
    show(lanes, partition, progress, stop.state(), Some(&why));
}

/// What is logged of the ends of claims that follow each other at short notice: each kind once.
#[derive(Default)]
struct Logged {
    reclaim: bool,
    no_room: bool,
}

impl Logged {
    fn end(&mut self, partition: &Partition, end: &End) {
        const NO_ROOM: &str = "the next batch of records unpacks to more than the memory budget \
                               has room for beside what waits: reading it again once there is";
        match end {
            End::NoRoom { offset, bytes } => match mem::replace(&mut self.no_room, true) {
                false => tracing::warn!(
                    code = %Code::NoRoom, %partition, offset, bytes, "{NO_ROOM}"
                ),
                true => tracing::debug!(%partition, offset, bytes, "{NO_ROOM}"),
            },
            End::Reclaim(why) => match mem::replace(&mut self.reclaim, true) {
                false => tracing::warn!(
                    code = %Code::ClaimedAgain, %partition, "claiming again: {why}"
                ),
                true => tracing::debug!(%partition, "claiming again: {why}"),
            },
            _ => {}
        }
    }
}

/// Shows in the metrics what the lane does, and on `/readyz` why it waits for somebody.
fn show(
    lanes: &Lanes,
    partition: &Partition,
    progress: &Progress,
    state: PartitionState,
    why: Option<&str>,
) {
    progress.metrics.set_state(state);
    lanes.health.note(&partition.to_string(), why);
}

/// Does what the end of a claim calls for; `false` if the lane must end with it.
async fn recover(lanes: &Lanes, partition: &Partition, end: End, backoff: &mut Backoff) -> bool {
    let needed_bytes = match end {
        End::NoRoom { bytes, .. } => bytes,
        _ => 0,
    };
    match end {
        End::Revoked => return false,
        End::Permanent(error) => {
            // Nobody receives it once the process ends.
            let _ = lanes.fatal.send(format!("lane {partition}: {error}"));
            return false;
        }
        End::Fenced(Fence::NotMine) => {
            lanes.metrics.fenced();
            tracing::warn!(
                code = %Code::Fenced, %partition,
                "another claim holds the checkpoint; the batch under way is dropped"
            );
            lanes.handle.stop(partition).await;
            lanes.handle.await_polls(lanes.heartbeat).await;
        }
        End::Fenced(_) => {
            lanes.metrics.fenced();
            tracing::warn!(
                code = %Code::CheckpointMoved, %partition,
                "the checkpoint was moved or restored; continuing from where it stands"
            );
            lanes.handle.stop(partition).await;
        }
        End::Refused => {
            lanes.handle.stop(partition).await;
            tokio::time::sleep(REFUSED_WAIT).await;
        }
        End::Reclaim(_) | End::OffsetLost(_) | End::Unreadable(_) | End::NoRoom { .. } => {
            lanes.handle.stop(partition).await
        }
    }
    backoff.wait().await;
    // Where it runs out, another claim finds out.
    let _ = tokio::time::timeout(ROOM_DEADLINE, room(needed_bytes)).await;
    true
}

/// Waits until there is room for a batch that unpacks to `bytes`. Another lane may be faster.
async fn room(bytes: usize) {
    while bytes > 0 && !unpacking::has_room(bytes) {
        tokio::time::sleep(ROOM_LOOK_EVERY).await;
    }
}
