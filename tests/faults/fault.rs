//! What can happen on the worst day.

use std::fmt;

/// Whose connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Those to the brokers.
    Kafka,
    /// Those to the replica set, its own included.
    Mongodb,
}

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// Ended with RST.
    Reset,
    /// Answers come seconds late.
    Slow,
    /// Ended in the middle of an answer.
    Cut,
    /// What goes one way vanishes.
    OneWay,
}

/// One thing that the nemesis can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// SIGKILL to a worker.
    WorkerKilled,
    /// SIGTERM to a worker.
    WorkerStopped,
    /// SIGSTOP to a worker for longer than its session, then SIGCONT.
    WorkerFrozen,
    /// SIGSTOP and SIGCONT in turns: a tenth of the CPU for a while, as a quota gives it.
    WorkerThrottled,
    /// One more worker.
    WorkerAdded,
    /// One worker less.
    WorkerRemoved,
    /// A worker whose clock is far off.
    ClockFarOff,
    /// Somebody claims every partition and never shows up again: who held them may not write any
    /// more.
    ClaimsStolen,
    /// SIGKILL to a broker, and its restart.
    BrokerKilled,
    /// SIGSTOP to a broker for longer than its session, then SIGCONT: it is behind, and does not
    /// know.
    BrokerFrozen,
    /// A broker is cut off from its controllers and from the other brokers for longer than its
    /// session; clients still reach it, and it answers them with what it knew.
    BrokerCutOff,
    /// Every broker is restarted, one after the other.
    BrokersRestarted,
    /// Other replicas lead the partitions.
    LeadershipMoved,
    /// And others again, several times in a row.
    LeadershipFlips,
    /// The broker that coordinates the group is frozen past its session.
    CoordinatorLost,
    /// SIGKILL to the primary, and its restart.
    PrimaryKilled,
    /// SIGSTOP to the primary, and SIGCONT when another has been elected.
    PrimaryFrozen,
    /// The primary is asked to step down.
    PrimarySteppedDown,
    /// Every member of the replica set is restarted, one after the other.
    MembersRestarted,
    /// A primary without a majority accepts writes that are then rolled back.
    PrimaryRolledBack,
    /// All of MongoDB is unavailable for longer than `max.poll.interval.ms`.
    MongodbDown,
    /// Connections misbehave.
    Network(Side, Trouble),
    /// Updates answer with errors of every kind that speaks of no document.
    UpdateErrors,
    /// Commits answer with errors of every kind.
    CommitErrors,
    /// Commits and claims are done, and say that no majority has them.
    WriteConcernErrors,
    /// Commits are done, or not, and their answers are lost.
    CommitAnswersLost,
    /// The disk is full for a while.
    DiskFull,
    /// The primary says that it is none for a while.
    NotWritablePrimary,
    /// The server refuses documents by a code of the whole command.
    DocumentRefused,
    /// The user's password changes while the workers run: they can read it before, or only after a
    /// login was refused.
    PasswordRotated,
    /// Records of each kind that can never be applied.
    Poison,
    /// Records of 16 MB.
    LargeRecords,
    /// A hundred times the usual rate.
    Burst,
    /// Records without a value.
    Tombstones,
    /// Transactions that are committed and aborted, and one that hangs: control records, and holes
    /// in the offsets.
    Transactions,
    /// A person lets stopped partitions continue, while there are none.
    OffsetsResolved,
    /// A person moves checkpoints, while the workers run.
    OffsetsReset,
    /// The topic gets more partitions.
    PartitionsAdded,
    /// The topic is deleted and recreated.
    TopicRecreated,
    /// The same while a broker is cut off: it says for a while that the old topic is still there.
    TopicRecreatedUnseen,
}

use Fault::*;

/// Every fault, each once.
pub const FAULTS: [Fault; 47] = [
    WorkerKilled,
    WorkerStopped,
    WorkerFrozen,
    WorkerThrottled,
    WorkerAdded,
    WorkerRemoved,
    ClockFarOff,
    ClaimsStolen,
    BrokerKilled,
    BrokerFrozen,
    BrokerCutOff,
    BrokersRestarted,
    LeadershipMoved,
    LeadershipFlips,
    CoordinatorLost,
    PrimaryKilled,
    PrimaryFrozen,
    PrimarySteppedDown,
    MembersRestarted,
    PrimaryRolledBack,
    MongodbDown,
    Network(Side::Kafka, Trouble::Reset),
    Network(Side::Kafka, Trouble::Slow),
    Network(Side::Kafka, Trouble::Cut),
    Network(Side::Kafka, Trouble::OneWay),
    Network(Side::Mongodb, Trouble::Reset),
    Network(Side::Mongodb, Trouble::Slow),
    Network(Side::Mongodb, Trouble::Cut),
    Network(Side::Mongodb, Trouble::OneWay),
    UpdateErrors,
    CommitErrors,
    WriteConcernErrors,
    CommitAnswersLost,
    DiskFull,
    NotWritablePrimary,
    DocumentRefused,
    PasswordRotated,
    Poison,
    LargeRecords,
    Burst,
    Tombstones,
    Transactions,
    OffsetsResolved,
    OffsetsReset,
    PartitionsAdded,
    TopicRecreated,
    TopicRecreatedUnseen,
];

/// What a fault strikes; two at the same time strike different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The workers.
    Workers,
    /// The brokers, and the way to them.
    Kafka,
    /// The replica set, and the way to it.
    Mongodb,
    /// What is produced.
    Records,
}

impl Fault {
    /// What it strikes.
    pub fn part(self) -> Part {
        match self {
            WorkerKilled | WorkerStopped | WorkerFrozen | WorkerThrottled | WorkerAdded
            | WorkerRemoved | ClockFarOff | ClaimsStolen | OffsetsResolved | OffsetsReset => {
                Part::Workers
            }
            BrokerKilled
            | BrokerFrozen
            | BrokerCutOff
            | BrokersRestarted
            | LeadershipMoved
            | LeadershipFlips
            | CoordinatorLost
            | Network(Side::Kafka, _)
            | PartitionsAdded
            | TopicRecreated
            | TopicRecreatedUnseen => Part::Kafka,
            Poison | LargeRecords | Burst | Tombstones | Transactions => Part::Records,
            _ => Part::Mongodb,
        }
    }

    /// Whether it may come together with another one. These restart workers, or remake what the
    /// other would strike; or are allowed to a person while the group has no member.
    pub fn stands_alone(self) -> bool {
        matches!(
            self,
            PasswordRotated | TopicRecreated | TopicRecreatedUnseen | OffsetsReset
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Network(side, trouble) => write!(f, "Network{side:?}{trouble:?}"),
            fault => write!(f, "{fault:?}"),
        }
    }
}
