//! The librdkafka properties that the service owns, and those of which it changes the default.

use super::reference;

/// A property that the service sets itself.
#[derive(Debug)]
pub struct Owned {
    /// librdkafka's name.
    pub property: &'static str,
    /// Why it is not to be set.
    pub why: &'static str,
    /// The setting to use instead.
    pub instead: Option<&'static str>,
}

const OFFSETS: &str =
    "an offset is stored and committed only once MongoDB has the records before it";
const MEMORY: &str = "fetch and queue sizes follow from the byte budget";

const fn owned(property: &'static str, why: &'static str, instead: Option<&'static str>) -> Owned {
    Owned {
        property,
        why,
        instead,
    }
}

/// The properties that the service owns, and why.
pub const OWNED: [Owned; 21] = [
    owned(
        "group.id",
        "the checkpoints carry the group's name",
        Some(reference::GROUP.name),
    ),
    owned(
        "group.instance.id",
        "it has a setting of its own",
        Some(reference::GROUP_INSTANCE_ID.name),
    ),
    owned(
        "auto.offset.reset",
        "a jump to another offset would lose or repeat records in silence",
        Some(reference::START.name),
    ),
    owned("enable.auto.commit", OFFSETS, None),
    owned("auto.commit.enable", OFFSETS, None),
    owned("auto.commit.interval.ms", OFFSETS, None),
    owned("enable.auto.offset.store", OFFSETS, None),
    owned("offset.store.method", OFFSETS, None),
    owned("offset.store.path", OFFSETS, None),
    owned("offset.store.sync.interval.ms", OFFSETS, None),
    owned(
        "enable.partition.eof",
        "the end of a partition is what settles the control records behind its last one",
        None,
    ),
    owned(
        "isolation.level",
        "records of an aborted transaction must not reach the database",
        None,
    ),
    owned(
        "queued.max.messages.kbytes",
        MEMORY,
        Some(reference::BUDGET_BYTES_MAX.name),
    ),
    owned(
        "fetch.message.max.bytes",
        MEMORY,
        Some(reference::BUDGET_BYTES_MAX.name),
    ),
    owned(
        "max.partition.fetch.bytes",
        MEMORY,
        Some(reference::BUDGET_BYTES_MAX.name),
    ),
    owned(
        "fetch.max.bytes",
        MEMORY,
        Some(reference::BUDGET_BYTES_MAX.name),
    ),
    owned(
        "receive.message.max.bytes",
        MEMORY,
        Some(reference::BUDGET_BYTES_MAX.name),
    ),
    owned(
        "allow.auto.create.topics",
        "a missing topic is an error, not a topic to create",
        None,
    ),
    owned(
        "statistics.interval.ms",
        "the service's metrics are drawn from the statistics",
        None,
    ),
    owned("group.protocol.type", "it is a consumer", None),
    owned(
        "log.queue",
        "the service forwards librdkafka's log to its own",
        Some(reference::LOG_FILTER.name),
    ),
];

/// Values of ours where nothing else is set.
pub const DEFAULTS: [(&str, &str, &str); 7] = [
    (
        "client.id",
        "workflows-sink",
        "what the broker's log and metrics call the service",
    ),
    (
        "partition.assignment.strategy",
        COOPERATIVE,
        "a rebalance stops only the partitions that move",
    ),
    (
        "heartbeat.interval.ms",
        "500",
        "a worker hears within half a second that another is gone; less than `session.timeout.ms`",
    ),
    (
        "fetch.queue.backoff.ms",
        "10",
        "a queue that was full is filled again after 10 ms, not a second",
    ),
    (
        "fetch.wait.max.ms",
        "100",
        "a broker answers a worker's other questions only after its idle fetch: a claim asks three",
    ),
    (
        "socket.timeout.ms",
        "30000",
        "a broker that no longer answers on a connection that seems open is given up after half a minute, not a whole one",
    ),
    (
        "topic.metadata.refresh.interval.ms",
        "60000",
        "a partition that is added to the topic is noticed within a minute, not five",
    ),
];

/// Our value of a property where nothing else is set.
pub(super) fn default_of(property: &str) -> Option<&'static str> {
    let of_it = DEFAULTS.iter().find(|(name, ..)| *name == property);
    of_it.map(|(_, value, _)| *value)
}

/// What the broker decides under KIP-848; librdkafka refuses to be told.
pub(super) const OF_THE_BROKER: [&str; 3] = [
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
];

/// The one strategy that moves partitions one by one.
pub(super) const COOPERATIVE: &str = "cooperative-sticky";
