//! The Kafka edge: one thread that polls, one queue per partition, and the offsets that are stored.
//!
//! Everything that changes the assignment happens on the poll thread, between or inside its polls,
//! so a claim that returns late can never assign a partition that was revoked meanwhile. The answer
//! to an assignment assigns nothing; a partition is fetched only once its lane has claimed it and
//! says from which offset.

mod admin_request;
pub mod broker;
mod consumer;
mod context;
mod errors;
pub mod group;
mod handle;
mod headers;
mod leader_epoch;
pub mod log_ends;
pub mod log_watch;
mod logged;
mod member_id;
pub mod membership;
mod missing;
mod poller;
pub mod preflight;
mod progress;
mod readable;
pub mod refused;
pub mod rejoin;
pub mod scan;
pub mod statistics;
pub mod topic_id;
pub mod topics;
pub mod unpacking;
mod validation;

use std::sync::{Arc, mpsc};

use rdkafka::consumer::BaseConsumer;
use tokio::sync::watch;

use crate::record::Partition;

pub use self::context::Context;
pub use self::handle::{Arrival, Handle, LaneQueue, NotStarted, record};
pub use self::poller::{Poller, STOP_BESIDES_MAX, Unstarted, channel};
pub use self::progress::Progress;

/// The consumer, shared by the poll thread and the lanes.
pub type Consumer = BaseConsumer<Context>;

/// What the poll thread orders a lane to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The partition is ours.
    Run,
    /// It is about to be handed over: write what is under way, take nothing new, end.
    Finish,
    /// It is no longer ours, or the deadline has passed: end at once.
    Abandon,
}

/// A lane that the service is to run for a partition until `order` says otherwise.
pub struct NewLane {
    /// The partition assigned.
    pub partition: Partition,
    /// Where the poll thread's orders to this lane arrive.
    pub order: watch::Receiver<Order>,
    /// What is counted of this partition, and how far it is settled.
    pub progress: Arc<Progress>,
    /// Dropped when the lane has ended, which the poll thread waits for.
    pub alive: mpsc::Sender<()>,
}
