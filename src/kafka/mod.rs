//! The Kafka edge: one thread that polls, one queue per partition, and the offsets that are stored.
//!
//! Everything that changes the assignment happens on the poll thread, between or inside its polls,
//! so a claim that returns late can never assign a partition that was revoked meanwhile. An
//! assignment is answered with nothing; a partition is fetched only once its lane has claimed it
//! and says from where.

pub mod broker;
mod context;
mod errors;
mod handle;
mod headers;
mod poller;
pub mod preflight;
mod progress;
pub mod statistics;
pub mod topic_id;
pub mod topics;

use std::sync::{Arc, mpsc};

use rdkafka::consumer::BaseConsumer;
use tokio::sync::watch;

use crate::record::Partition;

pub use self::context::Context;
pub use self::errors::{code_name, is_for_good};
pub use self::handle::{Handle, LaneQueue, record};
pub use self::poller::{Poller, Unstarted, channel};
pub use self::progress::Progress;

/// The consumer, shared by the poll thread and the lanes.
pub type Consumer = BaseConsumer<Context>;

/// What a lane is told by the poll thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The partition is ours.
    Run,
    /// It is about to be handed over: write what is under way, take nothing new, end.
    Finish,
    /// It is no longer ours, or the time is up: end at once.
    Abandon,
}

/// What the poll thread asks of the service: to run a lane for a partition until `order` says else.
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
