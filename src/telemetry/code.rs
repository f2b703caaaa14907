//! The stable names of what a person may have to act on. `docs/runbook.md` has an entry for each,
//! and a test holds that it does.

use std::fmt;

/// What happened, as a log line, an exit and an alert name it: `WS-101`. A number is never given
/// to something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    // The process: what it was given, and how it ends.
    /// The configuration is invalid, or does not fit the servers: exit code 78.
    Configuration = 1,
    /// A part of the process ended: exit code 1.
    Ended = 2,
    /// A second signal: exit code 130.
    EndedAtOnce = 3,
    /// A defect of this program.
    Panicked = 4,
    /// `/readyz` answers 503.
    NotReady = 5,
    /// The memory budget does not hold the largest records of all partitions.
    BudgetTooSmall = 6,
    // MongoDB.
    /// It does not answer, or takes no write.
    MongodbAway = 101,
    /// One collection refuses what others take.
    CollectionRefuses = 102,
    /// Its password or URI cannot be read, or is not accepted.
    MongodbCredentials = 103,
    /// The indexes of the dead letters were not made.
    IndexesNotMade = 104,
    // Kafka and the group.
    /// It does not answer.
    KafkaAway = 201,
    /// The worker is not in its consumer group.
    OutsideGroup = 202,
    /// A log goes on, and nothing of it arrives.
    NothingDelivered = 203,
    /// A producer's transaction holds what stands behind it.
    OpenTransaction = 204,
    /// The group is joined again with a new client.
    NewClient = 205,
    /// Its password or certificates are not accepted.
    KafkaCredentials = 206,
    /// The process was frozen for longer than Kafka waits.
    Frozen = 207,
    /// Kafka's client did not do what it was asked.
    ClientFailed = 208,
    /// Another group writes the same database.
    OtherGroups = 209,
    /// A topic, or partitions of it, no longer exist.
    TopicGone = 210,
    /// The group has gone on without this worker.
    AssignmentLost = 211,
    /// A topic does not exist yet, and the start waits for it.
    TopicAwaited = 212,
    /// Its user may not read a topic.
    TopicRefused = 213,
    // One partition.
    /// Records were deleted before they were applied: stopped.
    LogExpired = 301,
    /// Applied records are gone from the log: stopped.
    LogTruncated = 302,
    /// A batch of records cannot be read: stopped.
    BatchUnreadable = 303,
    /// Too many records in a row were rejected: stopped.
    BreakerOpen = 304,
    /// The checkpoint cannot be read: stopped.
    CheckpointUnreadable = 305,
    /// The log does not seem to fit the checkpoint.
    LogDoubted = 306,
    /// Only a broker that is behind answers.
    BrokerBehind = 307,
    /// Another claim holds the checkpoint.
    Fenced = 308,
    /// Somebody changed or restored the checkpoint.
    CheckpointMoved = 309,
    /// The group's committed offset is ahead of the checkpoint.
    CommittedAhead = 310,
    /// The topic was deleted and recreated.
    TopicRecreated = 311,
    /// A batch unpacks to more than there is room for.
    NoRoom = 312,
    /// It could not be fetched, and is claimed again.
    ClaimedAgain = 313,
    /// A batch was given up at a deadline.
    BatchDropped = 314,
    /// Its next record waits for memory.
    WaitsForMemory = 315,
    /// Documents lack what the checkpoint covers.
    DocumentsBehind = 316,
    /// Tombstones may have gone from the log before they were applied.
    TombstonesExpired = 317,
    // One record.
    /// It is a dead letter.
    Rejected = 401,
    /// Its headers cannot be read.
    HeadersUnreadable = 402,
    // Users and Secrets.
    /// A user or its Secret is not as the table says.
    UserNotAsTable = 501,
    /// A user or its Secret was changed, and was put right.
    DriftRepaired = 502,
    /// A user may more than the table says.
    ExtraRoles = 503,
    // What no line of a worker says, and `status` and alerts do.
    /// Records wait, and none is applied.
    NothingSettles = 602,
    /// Records wait, and the group has no worker.
    NoWorker = 604,
}

impl fmt::Display for Code {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "WS-{:03}", *self as u16)
    }
}
