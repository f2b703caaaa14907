//! Topics: made, grown, cut and deleted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::time::sleep;

/// The topic of the service, as production has it.
pub const STATE_TOPIC: &str = "dyff.workflows.state";
/// Its number of partitions.
pub const STATE_PARTITIONS: i32 = 12;
/// Its configuration.
pub const STATE_CONFIG: [(&str, &str); 2] =
    [("cleanup.policy", "compact"), ("compression.type", "zstd")];

const OPERATION_DEADLINE: Duration = Duration::from_secs(15);
/// The broker's `default.replication.factor` (KIP-464).
const REPLICAS_OF_THE_CLUSTER: i32 = -1;
const POLL: Duration = Duration::from_millis(20);

/// An administrator of topics.
pub struct Topics {
    admin: AdminClient<DefaultClientContext>,
}

impl Topics {
    /// Of the cluster behind `bootstrap`.
    pub fn new(bootstrap: &str) -> Result<Topics> {
        Topics::with(ClientConfig::new().set("bootstrap.servers", bootstrap))
    }

    /// With any client configuration.
    pub fn with(config: &ClientConfig) -> Result<Topics> {
        Ok(Topics {
            admin: config.create()?,
        })
    }

    /// Creates a topic, and returns when every partition has a leader.
    pub async fn create(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
        self.create_replicated(name, partitions, REPLICAS_OF_THE_CLUSTER, config)
            .await
    }

    /// As [`Topics::create`], with so many replicas of each partition.
    pub async fn create_replicated(
        &self,
        name: &str,
        partitions: i32,
        replicas: i32,
        config: &[(&str, &str)],
    ) -> Result<()> {
        let topic = new_topic(name, partitions, replicas, config);
        one(self.admin.create_topics([&topic], &options()).await?)?;
        self.wait_for_partitions(name, partitions as usize).await
    }

    /// Creates [`STATE_TOPIC`].
    pub async fn create_state_topic(&self) -> Result<()> {
        self.create(STATE_TOPIC, STATE_PARTITIONS, &STATE_CONFIG)
            .await
    }

    /// Deletes a topic, and returns when it is gone, so that one of the same name can be created.
    pub async fn delete(&self, name: &str) -> Result<()> {
        one(self.admin.delete_topics(&[name], &options()).await?)?;
        self.wait_for_partitions(name, 0).await
    }

    /// Grows a topic to `total` partitions.
    pub async fn add_partitions(&self, name: &str, total: i32) -> Result<()> {
        let partitions = NewPartitions::new(name, total as usize);
        one(self
            .admin
            .create_partitions([&partitions], &options())
            .await?)?;
        self.wait_for_partitions(name, total as usize).await
    }

    /// Deletes the records before an offset: the log then starts there. Compacted topics refuse it.
    pub async fn delete_records(&self, name: &str, partition: i32, before: i64) -> Result<()> {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(name, partition, Offset::Offset(before))?;
        let result = self.admin.delete_records(&offsets, &options()).await?;
        Ok(result
            .elements()
            .iter()
            .try_for_each(|element| element.error())?)
    }

    /// Start and end of a partition's log.
    pub async fn watermarks(&self, name: &str, partition: i32) -> Result<(i64, i64)> {
        Ok(self
            .admin
            .inner()
            .fetch_watermarks(name, partition, OPERATION_DEADLINE)?)
    }

    /// Fails while the cluster could not create a topic.
    pub(crate) async fn can_create(&self) -> Result<()> {
        let topic = new_topic("local-stack-readiness", 1, REPLICAS_OF_THE_CLUSTER, &[]);
        one(self
            .admin
            .create_topics([&topic], &options().validate_only(true))
            .await?)
    }

    async fn wait_for_partitions(&self, name: &str, count: usize) -> Result<()> {
        let end = Instant::now() + OPERATION_DEADLINE;
        loop {
            let metadata = self
                .admin
                .inner()
                .fetch_metadata(Some(name), OPERATION_DEADLINE)?;
            let topic = metadata
                .topics()
                .first()
                .context("no answer for the topic")?;
            if topic
                .partitions()
                .iter()
                .filter(|partition| partition.leader() >= 0)
                .count()
                == count
            {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "{name} does not have {count} partitions after {OPERATION_DEADLINE:?}"
            );
            sleep(POLL).await;
        }
    }
}

fn new_topic<'a>(
    name: &'a str,
    partitions: i32,
    replicas: i32,
    config: &[(&'a str, &'a str)],
) -> NewTopic<'a> {
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
    config
        .iter()
        .fold(topic, |topic, (key, value)| topic.set(key, value))
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(OPERATION_DEADLINE))
        .request_timeout(Some(OPERATION_DEADLINE))
}

fn one(results: Vec<TopicResult>) -> Result<()> {
    let result = results
        .into_iter()
        .next()
        .context("no answer for the topic")?;
    result
        .map(drop)
        .map_err(|(name, code)| anyhow!("{name}: {code}"))
}
