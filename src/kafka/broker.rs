//! What the commands ask of Kafka. Every call blocks, for at most [`TIMEOUT`] a question.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

use super::topic_id::topic_id;
use crate::checkpoint::PartitionLog;
use crate::config::Kafka;
use crate::record::Partition;

const TIMEOUT: Duration = Duration::from_secs(10);

const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// A client of the group's broker that never joins the group.
pub(crate) struct Broker {
    consumer: BaseConsumer<Quiet>,
    group: String,
}

/// Sends librdkafka's log to ours.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }
}

impl ConsumerContext for Quiet {}

impl Broker {
    pub(crate) fn new(kafka: &Kafka) -> anyhow::Result<Broker> {
        let mut config = kafka.properties.client_config();
        config.set("enable.auto.commit", "false");
        let consumer = config.create_with_context(Quiet);
        Ok(Broker {
            consumer: consumer.context("the Kafka client could not be made")?,
            group: kafka.group.clone(),
        })
    }

    /// The log of each partition. `known` says of a topic whether the group has a checkpoint in it.
    pub(crate) fn logs(
        &self,
        partitions: &[Partition],
        known: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Vec<PartitionLog>> {
        let committed = again(|| {
            let asked = list(partitions, Offset::Invalid)?;
            self.consumer.committed_offsets(asked, TIMEOUT)
        });
        let committed = committed.context("the committed offsets could not be read")?;
        let mut logs = Vec::with_capacity(partitions.len());
        let mut id = None;
        for (i, partition) in partitions.iter().enumerate() {
            let topic = &*partition.topic;
            if i == 0 || partitions[i - 1].topic != partition.topic {
                id = topic_id(self.consumer.client(), topic, TIMEOUT);
            }
            let (start, end) = (self
                .consumer
                .fetch_watermarks(topic, partition.number, TIMEOUT))
            .with_context(|| format!("the log of {partition} could not be looked at"))?;
            logs.push(PartitionLog {
                topic_id: id,
                offsets: start..end,
                committed: offset_in(&committed, partition),
                known: known(topic),
            });
        }
        Ok(logs)
    }

    /// Of each partition the first record that is not older than `time_ms` (since 1970); none where all are.
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
        let groups = again(|| self.consumer.fetch_group_list(Some(&self.group), TIMEOUT));
        let groups = groups.context("the group's members could not be listed")?;
        Ok(groups
            .groups()
            .iter()
            .map(|group| group.members().len())
            .sum())
    }

    /// Moves the group's committed offsets, which works only while it has no members.
    pub(crate) fn commit(&self, offsets: &[(Partition, i64)]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*offset))?;
        }
        again(|| self.consumer.commit(&list, CommitMode::Sync))
    }
}

/// Asks again while the group's coordinator is being found or is loading, as it is after a broker's start.
fn again<T>(ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let end = Instant::now() + TIMEOUT;
    loop {
        let answer = ask();
        let code = answer
            .as_ref()
            .err()
            .and_then(KafkaError::rdkafka_error_code);
        match code {
            Some(CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
                if Instant::now() < end =>
            {
                thread::sleep(AGAIN_AFTER);
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
