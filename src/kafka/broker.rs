//! What is asked of a broker beside the records. Every call blocks, for at most `TIMEOUT` a
//! question.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bson::Uuid;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::log_ends::{LogEnds, LogEndsAsked, log_ends};
use super::logged::forward_log;
use super::readable;
use super::topic_id::{Answer, TopicAsked, describe, topic_id};
use super::validation;
use tokio::runtime::Handle;

use crate::checkpoint::PartitionLog;
use crate::config::Kafka;
use crate::record::{Partition, Position};

/// How long one question may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the question for a topic's id may take: a claim goes on without it.
const ID_TIMEOUT: Duration = Duration::from_secs(3);

/// Asked for where only the brokers are of interest: no topic can have this name.
const NO_TOPIC: &str = "/";

/// A broker, as the others say that it can be reached.
#[derive(Debug)]
pub(crate) struct BrokerFacts {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// A topic.
#[derive(Debug)]
pub(crate) struct TopicFacts {
    pub(crate) partitions: usize,
    /// How many partitions have no leader.
    pub(crate) leaderless: usize,
    /// Of the partition that has the fewest.
    pub(crate) replicas: usize,
    /// Every setting, the brokers' defaults included; or why they are not known.
    pub(crate) settings: anyhow::Result<BTreeMap<String, String>>,
}

/// For the commands: a client of the group's brokers that never joins the group.
pub(crate) struct Broker {
    pub(super) consumer: Arc<BaseConsumer<Bystander>>,
    properties: ClientConfig,
    pub(super) group: String,
    pub(super) topics: Vec<String>,
}

/// What a client is made of that is no member: it commits nothing, and jumps nowhere.
pub(super) fn bystander(kafka: &Kafka) -> ClientConfig {
    let mut config = kafka.properties.client_config();
    for (name, value) in [
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        ("fetch.wait.max.ms", "50"),
    ] {
        config.set(name, value);
    }
    config
}

/// The callbacks of a client that is no member: they log, and note what the brokers refuse.
#[derive(Default)]
pub(super) struct Bystander {
    /// Whether the brokers do not let this user use the group.
    pub(super) group_refused: AtomicBool,
}

impl ClientContext for Bystander {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "Kafka: {reason}");
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
            self.group_refused.store(true, Ordering::Relaxed);
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        forward_log(level, facility, message);
    }
}

impl ConsumerContext for Bystander {}

/// The group's committed offsets of `partitions`. To be asked before [`partition_logs`]: what is
/// committed after the end of a log was read may be past that end, as if the log were truncated.
///
/// # Errors
/// [`KafkaError`], also where the group's coordinator is not found yet.
pub(crate) fn committed_offsets<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[Partition],
) -> anyhow::Result<TopicPartitionList> {
    let asked = list(partitions, Offset::Invalid)?;
    let committed = consumer.committed_offsets(asked, TIMEOUT);
    all_answered(committed.context("the committed offsets were not answered")?)
}

/// The committed offsets, where the coordinator has answered for each partition. Of one that it
/// refuses librdkafka has no offset, as of one for which none is committed.
///
/// # Errors
/// [`KafkaError`], such as for a topic that this user may not describe.
pub(super) fn all_answered(committed: TopicPartitionList) -> anyhow::Result<TopicPartitionList> {
    for element in committed.elements() {
        element.error().with_context(|| {
            let (topic, number) = (element.topic(), element.partition());
            format!("the committed offset of {topic}[{number}] was not answered")
        })?;
    }
    Ok(committed)
}

/// The log of each of `partitions`, which are in the order of their topics, in that order: the
/// topic's id, first and last offset, and what is `committed`. `known` says of a topic whether the
/// group has a checkpoint in it; `expected` is what a claim expects of its one log.
///
/// # Errors
/// [`KafkaError`], with the partition that it is about.
pub(crate) fn partition_logs<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[Partition],
    committed: &TopicPartitionList,
    known: impl Fn(&str) -> bool,
    expected: Option<Expected>,
) -> anyhow::Result<Vec<PartitionLog>> {
    let mut logs = Vec::with_capacity(partitions.len());
    for of_topic in partitions.chunk_by(|one, next| one.topic == next.topic) {
        let topic = &*of_topic[0].topic;
        let (topic_id, ends) = id_and_ends(consumer, of_topic, expected)?;
        for (partition, ends) in of_topic.iter().zip(ends) {
            let ends = ends?;
            logs.push(PartitionLog {
                topic_id,
                offsets: ends.start..ends.high_watermark,
                stable_end: ends.stable_end,
                leader_epoch: ends.leader_epoch,
                diverged: false,
                committed: offset_in(committed, partition),
                known: known(topic),
            });
        }
    }
    Ok(logs)
}

/// What a claim expects of a log: to be the one that its checkpoint was written for, and to hold
/// it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// The id of the checkpoint's topic.
    pub(crate) topic_id: Uuid,
    /// The checkpoint's offset.
    pub(crate) offset: i64,
}

/// The id of a topic, if a broker tells it, and the ends of its logs. Both are asked for at the
/// same time where something is `expected`, and the ends once more unless that is what is found.
fn id_and_ends<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    of_topic: &[Partition],
    expected: Option<Expected>,
) -> anyhow::Result<(Option<Uuid>, Vec<anyhow::Result<LogEnds>>)> {
    let (client, topic) = (consumer.client(), &*of_topic[0].topic);
    let asked = TopicAsked::send(client, topic, ID_TIMEOUT);
    let ask_early = |_| LogEndsAsked::send(client, of_topic, ID_TIMEOUT);
    let early = expected.map(ask_early).transpose()?;
    let id = id_of(consumer, topic, asked);
    if let (Some(expected), Some(early)) = (expected, early)
        && id == Some(expected.topic_id)
        && let Ok(ends) = early.answer()
        && (ends.iter()).all(|ends| ends.as_ref().is_ok_and(|ends| ends.hold(expected.offset)))
    {
        return Ok((id, ends));
    }
    // The id before the ends: a topic recreated after this is found by the watch over ids, but a
    // new id beside the old log's start would begin in the middle of the new log.
    Ok((id, log_ends(client, of_topic, TIMEOUT)?))
}

/// The topic's id, if a broker tells it. The client `asked` the broker that it takes for the
/// controller; where that one does not answer, perhaps another one is named by now.
fn id_of<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    asked: TopicAsked<'_>,
) -> Option<Uuid> {
    asked.id().or_else(|| {
        refresh_metadata(consumer, topic).ok()?;
        topic_id(consumer.client(), topic, ID_TIMEOUT)
    })
}

/// Lets the client learn anew which brokers lead the partitions of `topic`.
///
/// # Errors
/// [`KafkaError`], where no broker answers.
pub(crate) fn refresh_metadata<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
) -> anyhow::Result<()> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT);
    metadata.context("the leaders are not known")?;
    Ok(())
}

/// Whether the brokers do not let this user see the topic; one that does not answer says nothing.
pub(crate) fn is_refused<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> bool {
    describe(consumer.client(), topic, TIMEOUT) == Some(Answer::Refused)
}

impl Broker {
    pub(crate) fn new(kafka: &Kafka) -> anyhow::Result<Broker> {
        let mut config = bystander(kafka);
        config.set("isolation.level", "read_uncommitted");
        let consumer = config.create_with_context(Bystander::default());
        Ok(Broker {
            properties: kafka.properties.client_config(),
            consumer: Arc::new(consumer.context("the Kafka client could not be created")?),
            group: kafka.group.clone(),
            topics: kafka.topics.clone(),
        })
    }

    /// The log of each partition: see [`partition_logs`].
    pub(crate) fn logs(
        &self,
        partitions: &[Partition],
        known: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Vec<PartitionLog>> {
        let committed = self.committed(list(partitions, Offset::Invalid)?)?;
        partition_logs(&self.consumer, partitions, &committed, known, None)
            .context("the log could not be looked up")
    }

    /// Of each position, which is one of its partition's log: whether the log has other records
    /// before it.
    ///
    /// # Errors
    /// [`KafkaError`], also where a leader does not answer.
    pub(crate) fn diverged(
        &self,
        positions: &[(Partition, Position)],
    ) -> anyhow::Result<Vec<bool>> {
        let diverged = validation::diverged(&self.consumer, positions, TIMEOUT);
        diverged.context("the logs could not be held against the checkpoints")
    }

    /// The first offset from `from` on, or the log's `end`, at which the partition can be read: a
    /// batch is stored whole, so nothing of one that cannot be read is.
    ///
    /// # Errors
    /// [`KafkaError`], also where the leader does not answer.
    pub(crate) fn readable_from(
        &self,
        partition: &Partition,
        from: i64,
        end: i64,
    ) -> anyhow::Result<i64> {
        let found = readable::readable_from(&self.consumer, partition, from..end, TIMEOUT);
        found.with_context(|| format!("{partition} could not be read"))
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

    /// Every broker, as it advertises itself.
    ///
    /// # Errors
    /// [`KafkaError`], where none answers.
    pub(crate) fn brokers(&self) -> anyhow::Result<Vec<BrokerFacts>> {
        let metadata = self.consumer.fetch_metadata(Some(NO_TOPIC), TIMEOUT);
        let metadata = metadata.context("no broker answers")?;
        let brokers = metadata.brokers().iter().map(|broker| BrokerFacts {
            id: broker.id(),
            host: broker.host().to_owned(),
            port: u16::try_from(broker.port()).unwrap_or_default(),
        });
        Ok(brokers.collect())
    }

    /// A topic and its settings.
    ///
    /// # Errors
    /// [`KafkaError`], also where it does not exist or may not be read.
    pub(crate) fn topic(&self, name: &str) -> anyhow::Result<TopicFacts> {
        let metadata = self.consumer.fetch_metadata(Some(name), TIMEOUT);
        let metadata = metadata.context("no broker answers")?;
        let mut topics = metadata.topics().iter();
        let found = topics.find(|found| found.name() == name);
        let found = found.context("the brokers do not know it")?;
        if let Some(error) = found.error() {
            return Err(KafkaError::MetadataFetch(error.into()).into());
        }
        let partitions = found.partitions();
        let replicas = partitions
            .iter()
            .map(|partition| partition.replicas().len());
        Ok(TopicFacts {
            partitions: partitions.len(),
            leaderless: partitions
                .iter()
                .filter(|partition| partition.leader() < 0)
                .count(),
            replicas: replicas.min().unwrap_or_default(),
            settings: self.settings(name),
        })
    }

    fn settings(&self, topic: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let admin: AdminClient<DefaultClientContext> = self.properties.create()?;
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let asked = [ResourceSpecifier::Topic(topic)];
        let described = Handle::current().block_on(admin.describe_configs(&asked, &options))?;
        let described = described.into_iter().next().context("no answer")?;
        let described = described.map_err(KafkaError::AdminOp)?;
        // rdkafka drops the error of one resource, which then has no entries.
        anyhow::ensure!(
            !described.entries.is_empty(),
            "its settings are not shown to this user"
        );
        let entries = described.entries.into_iter();
        Ok(entries
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect())
    }
}

pub(super) fn list(partitions: &[Partition], offset: Offset) -> KafkaResult<TopicPartitionList> {
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
