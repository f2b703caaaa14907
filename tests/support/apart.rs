//! Scenes with servers of their own, and what tests read from a worker's log and from the group.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use local_stack::{Mongo, MongoOptions};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::support::worker::{DEADLINE, Scene, Worker, until, world};

/// For tests that wait for it: workers that are gone are noticed after two seconds.
pub const SHORT_SESSION: [(&str, &str); 2] = [
    ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "2000"),
    ("DYFF_KAFKA__CONFIG__HEARTBEAT_INTERVAL_MS", "300"),
];

/// [`SHORT_SESSION`] as a duration.
pub const SHORT_SESSION_TIMEOUT: Duration = Duration::from_secs(2);

/// The setting that names what to connect to.
pub const CONNECTION_STRING: &str = "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING";

/// A scene on the shared broker, with a replica set of the test's own.
pub async fn apart(name: &str, partitions: i32, options: MongoOptions) -> (Scene, Mongo) {
    let config = [("cleanup.policy", "compact"), ("compression.type", "zstd")];
    apart_with(name, partitions, options, &config).await
}

/// [`apart`], with any configuration of the topic.
pub async fn apart_with(
    name: &str,
    partitions: i32,
    options: MongoOptions,
    config: &[(&str, &str)],
) -> (Scene, Mongo) {
    let mongo = Mongo::start(options).await.expect("a replica set");
    let scene = Scene::on(name, &world().await.kafka.bootstrap(), &mongo.uri()).await;
    let topics = world().await.kafka.topics().expect("an admin client");
    topics
        .create(&scene.topic, partitions, config)
        .await
        .expect("a topic");
    (scene, mongo)
}

/// A scene on the shared servers whose topic, unlike a compacted one, takes records without a key.
pub async fn uncompacted(name: &str, partitions: i32) -> Scene {
    let world = world().await;
    let scene = Scene::on(name, &world.kafka.bootstrap(), &world.mongo.uri()).await;
    let config = [
        ("compression.type", "zstd"),
        ("max.message.bytes", "20000000"),
    ];
    let topics = world.kafka.topics().expect("an admin client");
    topics
        .create(&scene.topic, partitions, &config)
        .await
        .expect("a topic");
    scene
}

impl Scene {
    /// The topic's id, as the broker tells it.
    pub async fn topic_id(&self) -> bson::Uuid {
        let (bootstrap, topic) = (self.bootstrap.clone(), self.topic.clone());
        let id = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = rdkafka::ClientConfig::new()
                .set("bootstrap.servers", bootstrap)
                .create()
                .expect("a consumer");
            workflows_sink::kafka::topic_id::topic_id(consumer.client(), &topic, DEADLINE)
        });
        id.await.expect("an answer").expect("an id")
    }

    /// The URI by which a worker is known to the server as `app_name`.
    pub fn uri_of(&self, app_name: &str) -> String {
        format!("{}&appName={app_name}", self.uri)
    }

    /// The offsets that the group has committed, by partition.
    pub async fn committed(&self) -> BTreeMap<i32, i64> {
        let (bootstrap, topic, group) = (
            self.bootstrap.clone(),
            self.topic.clone(),
            self.group.clone(),
        );
        let partitions: Vec<i32> = self.log_ends().await.into_keys().collect();
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = rdkafka::ClientConfig::new()
                .set("bootstrap.servers", bootstrap)
                .set("group.id", group)
                .create()
                .expect("a consumer");
            let mut list = TopicPartitionList::new();
            for partition in partitions {
                list.add_partition(&topic, partition);
            }
            let committed = consumer.committed_offsets(list, DEADLINE).expect("offsets");
            let offset =
                |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element
                    .offset()
                {
                    Offset::Offset(offset) => Some((element.partition(), offset)),
                    _ => None,
                };
            committed.elements().iter().filter_map(offset).collect()
        })
        .await
        .expect("the committed offsets")
    }
}

impl Worker {
    /// The lines of its log that are JSON.
    pub fn lines(&self) -> Vec<Value> {
        let log = self.log();
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// When it logged `message`, each time.
    pub fn times(&self, message: &str) -> Vec<Timestamp> {
        let lines = self.lines();
        let matching = lines.iter().filter(|line| line["message"] == message);
        matching
            .map(|line| {
                line["timestamp"]
                    .as_str()
                    .expect("a time")
                    .parse()
                    .expect("a time")
            })
            .collect()
    }

    /// How many of its lines of `level` begin with `message`.
    pub fn count(&self, level: &str, message: &str) -> usize {
        let begins = |line: &&Value| {
            line["level"] == level
                && line["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(message))
        };
        self.lines().iter().filter(begins).count()
    }

    /// How many partitions it says to have.
    pub fn assigned(&self) -> i64 {
        self.metric("workflows_sink_assigned_partitions", "")
            .map_or(0, |count| count as i64)
    }

    /// Whether `/readyz` says yes.
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|(status, _)| status == 200)
    }
}

/// Waits until `partitions` are shared among `workers`, none with two more than another.
pub async fn share(workers: &[&Worker], partitions: i64) {
    until("each worker has its share", || async {
        let shares: Vec<i64> = workers.iter().map(|worker| worker.assigned()).collect();
        let (min, max) = (shares.iter().min(), shares.iter().max());
        shares.iter().sum::<i64>() == partitions
            && max.zip(min).is_some_and(|(max, min)| max - min <= 1)
    })
    .await;
}
