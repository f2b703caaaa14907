//! Where a group that is new to a topic begins with `latest`: decided once, for all partitions
//! together. Decided claim by claim, a worker that dies after its first claims would leave the
//! other partitions to a later start, which takes them for added ones.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use mongodb::Database;

use crate::backoff::Backoff;
use crate::checkpoint::{FirstCheckpoint, Key, PartitionLog, first_offset, open_all};
use crate::config::{Config, Start};
use crate::database::errors;
use crate::kafka::broker::Broker;
use crate::kafka::topics::KnownTopics;
use crate::record::Partition;
use crate::telemetry::causes::told;
use crate::telemetry::code::Code;
use crate::telemetry::reminder::Reminder;

/// The try from which on it is logged that a server does not answer.
const LOGGED_AT_TRY: u32 = 3;

/// Makes the checkpoints of every topic that the group does not know yet, all of a topic or none.
/// Waits for what is transient. Where a partition's committed offset is outside its log, it gets
/// none: its claim stops it, and says why. The `awaited` topics came after this worker: they begin
/// at their start.
///
/// # Errors
/// Those of a client that cannot be created.
pub(super) async fn decide(
    database: &Database,
    config: &Config,
    known: &KnownTopics,
    awaited: &BTreeSet<String>,
) -> anyhow::Result<()> {
    if config.kafka.start != Start::Latest {
        return Ok(());
    }
    for (topic, count) in &known.partitions {
        if !known.topics.contains(topic) {
            let partitions = (0..*count).map(|number| Partition::new(topic.as_str(), number));
            let start = match awaited.contains(topic) {
                true => Start::Earliest,
                false => Start::Latest,
            };
            decide_topic(database, config, start, partitions.collect()).await?;
        }
    }
    Ok(())
}

async fn decide_topic(
    database: &Database,
    config: &Config,
    start: Start,
    partitions: Vec<Partition>,
) -> anyhow::Result<()> {
    let (mut backoff, mut reminder) = (Backoff::new(), Reminder::default());
    loop {
        let logs = logs(config, partitions.clone()).await?;
        let first = match logs {
            Ok(logs) => first_checkpoints(config, start, &partitions, &logs),
            Err(error) => {
                let error = told(&error);
                if backoff.tries() >= LOGGED_AT_TRY && reminder.is_due(&error) {
                    tracing::warn!(
                        code = %Code::KafkaAway,
                        error,
                        "Kafka does not answer where the logs begin and end; retrying until it does"
                    );
                }
                backoff.wait().await;
                continue;
            }
        };
        match open_all(database, &first).await {
            Ok(true) => {
                let starts: BTreeMap<i32, i64> = (first.iter())
                    .map(|first| (first.key.partition.number, first.start.offset))
                    .collect();
                let topic = &*partitions[0].topic;
                tracing::info!(
                    topic,
                    ?starts,
                    "the group is new to this topic: it begins here"
                );
                return Ok(());
            }
            // Another worker was faster.
            Ok(false) => return Ok(()),
            Err(error) => {
                let error = errors::shown(&error);
                if backoff.tries() >= LOGGED_AT_TRY && reminder.is_due(&error) {
                    tracing::warn!(
                        code = %Code::MongodbAway,
                        error,
                        "the first checkpoints were not made; retrying until they are"
                    );
                }
                backoff.wait().await;
            }
        }
    }
}

/// The logs, unless Kafka does not answer.
async fn logs(
    config: &Config,
    partitions: Vec<Partition>,
) -> anyhow::Result<anyhow::Result<Vec<PartitionLog>>> {
    let broker = Broker::new(&config.kafka)?;
    let asked = tokio::task::spawn_blocking(move || broker.logs(&partitions, |_| false));
    asked.await.context("the lookup of the logs did not finish")
}

fn first_checkpoints(
    config: &Config,
    start: Start,
    partitions: &[Partition],
    logs: &[PartitionLog],
) -> Vec<FirstCheckpoint> {
    let first = |(partition, log): (&Partition, &PartitionLog)| {
        Some(FirstCheckpoint {
            key: Key {
                group: config.kafka.group.clone(),
                partition: partition.clone(),
            },
            start: log.position(first_offset(log, start).ok()?),
            topic_id: log.topic_id,
        })
    };
    partitions.iter().zip(logs).filter_map(first).collect()
}
