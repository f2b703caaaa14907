//! What is seen of a run from outside while it goes on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use bson::{Bson, Uuid, doc};
use local_stack::Topics;
use mongodb::Database;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use test_support::scene::Scene;
use workflows_sink::checkpoint::{COLLECTION, Checkpoint};
use workflows_sink::kafka::topic_id::topic_id;

use crate::checker::{Sample, evidence};

const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
const SAMPLE_EVERY: Duration = Duration::from_millis(700);

/// Makes the topic as it is in production, but not compacted: the log is the judge's.
pub async fn create_topic(topics: &Topics, name: &str, partitions: i32) {
    let config = [
        ("max.message.bytes", "20000000"),
        ("cleanup.policy", "delete"),
    ];
    topics
        .create(name, partitions, &config)
        .await
        .expect("a topic");
}

fn client(bootstrap: &str) -> Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()?)
}

/// The end of each partition's log.
pub async fn log_ends(bootstrap: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || watermarks(&client(&bootstrap)?, &topic))
        .await?
        .map(|found| {
            found
                .into_iter()
                .map(|(partition, (_, end))| (partition, end))
                .collect()
        })
}

fn watermarks(client: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_DEADLINE)?;
    let found = metadata
        .topics()
        .first()
        .context("no answer for the topic")?;
    let partitions = found.partitions().iter().map(|partition| partition.id());
    partitions
        .map(|partition| {
            Ok((
                partition,
                client.fetch_watermarks(topic, partition, ANSWER_DEADLINE)?,
            ))
        })
        .collect()
}

/// The topic's id now.
pub async fn id_of_topic(bootstrap: &str, topic: &str) -> Result<Uuid> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let found = topic_id(client(&bootstrap)?.client(), &topic, ANSWER_DEADLINE);
        found.context("the broker gives no topic id")
    })
    .await?
}

/// The group's checkpoints of a topic as a majority has them.
pub async fn checkpoints(
    database: &Database,
    group: &str,
    topic: &str,
) -> Result<BTreeMap<i32, Checkpoint>> {
    let find = doc! {
        "find": COLLECTION, "filter": { "_id.group": group, "_id.topic": topic }, "singleBatch": true, "batchSize": 1000,
        "readConcern": { "level": "majority" },
    };
    let reply = tokio::time::timeout(ANSWER_DEADLINE, database.run_command(find)).await??;
    let batch = reply.get_document("cursor")?.get_array("firstBatch")?;
    let read = |found: &Bson| {
        let found = found.as_document().context("a document")?;
        let partition = found.get_document("_id")?.get_i32("partition")?;
        Ok((
            partition,
            Checkpoint::read(found).map_err(anyhow::Error::msg)?,
        ))
    };
    batch.iter().map(read).collect()
}

/// Looks repeatedly at what the group has committed, and then at the checkpoints.
pub struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Sampler {
    /// From now on.
    pub fn start(scene: &Scene, bootstrap: &str) -> Sampler {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&samples);
        let (database, bootstrap) = (scene.database.clone(), bootstrap.to_owned());
        let (group, topic) = (scene.group.clone(), scene.topic.clone());
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SAMPLE_EVERY).await;
                // While servers are unavailable there is nothing to see.
                if let Ok(found) = sample(&database, &bootstrap, &group, &topic).await {
                    seen.lock().expect("no panic").extend(found);
                }
            }
        });
        Sampler { samples, task }
    }

    /// What was seen.
    pub fn finish(self) -> Vec<Sample> {
        self.task.abort();
        std::mem::take(&mut *self.samples.lock().expect("no panic"))
    }
}

async fn sample(
    database: &Database,
    bootstrap: &str,
    group: &str,
    topic: &str,
) -> Result<Vec<Sample>> {
    let asked = (bootstrap.to_owned(), group.to_owned(), topic.to_owned());
    let committed = tokio::task::spawn_blocking(move || {
        evidence::committed(&asked.0, &asked.1, &asked.2, ANSWER_DEADLINE)
    });
    let committed = committed.await??;
    let sample = evidence::sample(database, group, topic, &committed, ANSWER_DEADLINE);
    tokio::time::timeout(ANSWER_DEADLINE, sample).await?
}
