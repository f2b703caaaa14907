//! The librdkafka properties that the service owns, and those whose default it changes.

use super::reference;

/// A property that the service sets itself.
#[derive(Debug)]
pub struct Owned {
    /// librdkafka's name.
    pub property: &'static str,
    /// Why it must not be set.
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
        "metrics of the service come from the statistics",
        None,
    ),
    owned("group.protocol.type", "it is a consumer", None),
    owned(
        "log.queue",
        "the service forwards librdkafka's log to its own",
        Some(reference::LOG_FILTER.name),
    ),
];

/// Our defaults: property, value, and why.
pub const DEFAULTS: [(&str, &str, &str); 9] = [
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
        "100",
        "a worker learns at once that the partitions are shared anew; less than `session.timeout.ms`",
    ),
    (
        "fetch.queue.backoff.ms",
        "10",
        "a full queue is refilled after 10 ms, not a second",
    ),
    (
        "fetch.wait.max.ms",
        "100",
        "a broker answers other questions only after an idle fetch, and a claim asks three",
    ),
    (
        "socket.timeout.ms",
        "30000",
        "a broker that is silent on an open connection is given up after 30 s, not 60",
    ),
    (
        "ssl.ca.location",
        "probe",
        "the system's authorities are used; OpenSSL alone looks for them where it was built",
    ),
    (
        "check.crcs",
        "true",
        "a batch that has changed on the broker's disk stops its partition rather than be applied",
    ),
    (
        "topic.metadata.refresh.interval.ms",
        "60000",
        "a new partition of the topic is noticed within a minute, not five",
    ),
];

/// Our default of a property.
pub(crate) fn default_of(property: &str) -> Option<&'static str> {
    let found = DEFAULTS.iter().find(|(name, ..)| *name == property);
    found.map(|(_, value, _)| *value)
}

/// What the broker decides under KIP-848; librdkafka refuses a value then.
pub(super) const OF_THE_BROKER: [&str; 3] = [
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
];

/// The one strategy that moves partitions one by one.
pub const COOPERATIVE: &str = "cooperative-sticky";
