//! What is asked of a broker beside the records. Every call blocks, for at most [`TIMEOUT`] a
//! question.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::context::forward_log;
use super::topic_id::topic_id;
use crate::checkpoint::PartitionLog;
use crate::config::Kafka;
use crate::record::Partition;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait before a question for the group's coordinator is repeated.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// For the commands: a client of the group's brokers that never joins the group.
pub(crate) struct Broker {
    consumer: BaseConsumer<Bystander>,
    group: String,
}

/// The callbacks of a client that is no member: it only logs.
struct Bystander;

impl ClientContext for Bystander {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        forward_log(level, facility, message);
    }
}

impl ConsumerContext for Bystander {}

/// The log of each of `partitions`, which are in the order of their topics, in that order: the
/// topic's id, first and last offset, committed offset. `known` says of a topic whether the group
/// has a checkpoint in it.
///
/// # Errors
/// Which question was not answered, over the [`KafkaError`].
pub(crate) fn partition_logs<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[Partition],
    known: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<PartitionLog>> {
    let mut logs = Vec::with_capacity(partitions.len());
    for of_topic in partitions.chunk_by(|one, next| one.topic == next.topic) {
        let topic = &*of_topic[0].topic;
        // First: a topic recreated after this is found by the watch over ids, but a new id beside
        // the old log's start would begin in the middle of the new log.
        let topic_id = topic_id(consumer.client(), topic, TIMEOUT);
        for partition in of_topic {
            let ends = consumer.fetch_watermarks(topic, partition.number, TIMEOUT);
            let (start, end) =
                ends.with_context(|| format!("the ends of the log of {partition}"))?;
            logs.push(PartitionLog {
                topic_id,
                offsets: start..end,
                committed: None,
                known: known(topic),
            });
        }
    }
    let asked = list(partitions, Offset::Invalid)?;
    let committed = consumer.committed_offsets(asked, TIMEOUT);
    let committed = committed.context("the committed offsets")?;
    for (log, partition) in logs.iter_mut().zip(partitions) {
        log.committed = offset_in(&committed, partition);
    }
    Ok(logs)
}

impl Broker {
    pub(crate) fn new(kafka: &Kafka) -> anyhow::Result<Broker> {
        let mut config = kafka.properties.client_config();
        config.set("enable.auto.commit", "false");
        let consumer = config.create_with_context(Bystander);
        Ok(Broker {
            consumer: consumer.context("the Kafka client could not be created")?,
            group: kafka.group.clone(),
        })
    }

    /// The log of each partition: see [`partition_logs`].
    pub(crate) fn logs(
        &self,
        partitions: &[Partition],
        known: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Vec<PartitionLog>> {
        let logs = retry_coordinator(|| partition_logs(&self.consumer, partitions, &known));
        logs.context("the log could not be looked up")
    }

    /// The offset of each partition's first record that is not older than `time_ms` (since 1970);
    /// `None` where all are.
    pub(crate) fn offsets_at(
        &self,
        partitions: &[Partition],
        time_ms: i64,
    ) -> anyhow::Result<Vec<Option<i64>>> {
        let times = list(partitions, Offset::Offset(time_ms))?;
        let found = self.consumer.offsets_for_times(times, TIMEOUT);
        let found = found.context("the offsets of that time could not be looked up")?;
        Ok(partitions
            .iter()
            .map(|partition| offset_in(&found, partition))
            .collect())
    }

    /// How many members the group has.
    pub(crate) fn members(&self) -> anyhow::Result<usize> {
        let groups = retry_coordinator(|| {
            let groups = self.consumer.fetch_group_list(Some(&self.group), TIMEOUT);
            Ok(groups?)
        });
        let groups = groups.context("the group's members could not be listed")?;
        Ok(groups
            .groups()
            .iter()
            .map(|group| group.members().len())
            .sum())
    }

    /// Moves the group's committed offsets, which works only while it has no members.
    pub(crate) fn commit(&self, offsets: &[(Partition, i64)]) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*offset))?;
        }
        retry_coordinator(|| Ok(self.consumer.commit(&list, CommitMode::Sync)?))
    }
}

/// Repeats a question while the group's coordinator is being found or is loading, as it is after a
/// broker's start.
fn retry_coordinator<T>(ask: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let end = Instant::now() + TIMEOUT;
    loop {
        let answer = ask();
        let error = answer.as_ref().err();
        let error = error.and_then(|error| error.downcast_ref::<KafkaError>());
        match error.and_then(KafkaError::rdkafka_error_code) {
            Some(CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
                if Instant::now() < end =>
            {
                thread::sleep(RETRY_AFTER);
            }
            _ => return answer,
        }
    }
}

fn list(partitions: &[Partition], offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(&partition.topic, partition.number, offset)?;
    }
    Ok(list)
}

fn offset_in(list: &TopicPartitionList, partition: &Partition) -> Option<i64> {
    match list
        .find_partition(&partition.topic, partition.number)?
        .offset()
    {
        Offset::Offset(offset) if offset >= 0 => Some(offset),
        _ => None,
    }
}
