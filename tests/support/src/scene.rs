//! A scene of one test: a topic, a group and a database, on servers that tests share or on its own.

use std::collections::BTreeMap;

use local_stack::produce::send;
use local_stack::{Kafka, KafkaOptions, Message, Mongo, MongoOptions, Topics};
use mongodb::{Client, Database};
use rdkafka::producer::{BaseProducer, Producer as _};
use tokio::sync::OnceCell;

use crate::wait::DEADLINE;
use crate::worker::Worker;

/// The setting that names the brokers.
pub const BOOTSTRAP_SERVERS: &str = "DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS";
/// The setting that names the replica set.
pub const CONNECTION_STRING: &str = "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING";

/// For tests that wait for it: the group misses a dead worker after two seconds.
pub const SHORT_SESSION: [(&str, &str); 2] = [
    ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "2000"),
    ("DYFF_KAFKA__CONFIG__HEARTBEAT_INTERVAL_MS", "300"),
];
/// For tests that count what moves: no worker loses its session because the machine is busy.
pub const LONG_SESSION: (&str, &str) = ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "60000");

/// The configuration of a state topic, as the contract has it.
const COMPACTED: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("compression.type", "zstd"),
    ("max.message.bytes", "20000000"),
];

/// The servers that the tests of one binary share; they end with the process.
pub struct World {
    /// The broker.
    pub kafka: Kafka,
    /// The replica set.
    pub mongo: Mongo,
}

static WORLD: OnceCell<World> = OnceCell::const_new();

/// The shared servers, started by the first test that asks.
pub async fn world() -> &'static World {
    WORLD
        .get_or_init(|| async {
            let (kafka, mongo) = tokio::join!(
                Kafka::start(KafkaOptions::default()),
                Mongo::start(MongoOptions::default())
            );
            World {
                kafka: kafka.expect("a broker"),
                mongo: mongo.expect("a replica set"),
            }
        })
        .await
}

/// The topics of the shared broker.
pub async fn topics() -> Topics {
    world().await.kafka.topics().expect("an admin client")
}

/// What one test has to itself.
pub struct Scene {
    /// `host:port` of the broker.
    pub bootstrap: String,
    /// The connection string of the replica set.
    pub uri: String,
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The database.
    pub database: Database,
}

impl Scene {
    /// A scene on the shared servers, with a compacted topic of `partitions`.
    pub async fn new(name: &str, partitions: i32) -> Scene {
        Scene::with_topic(name, partitions, &COMPACTED).await
    }

    /// [`Scene::new`], with a topic that is not compacted: it takes records without a key, and
    /// records can be deleted from its start.
    pub async fn uncompacted(name: &str, partitions: i32) -> Scene {
        Scene::with_topic(name, partitions, &COMPACTED[1..]).await
    }

    /// [`Scene::uncompacted`], with a topic that keeps batches as they were produced: a broker that
    /// compresses anew also decodes and encodes every record. Nothing expires, whatever its time.
    pub async fn as_produced(name: &str, partitions: i32) -> Scene {
        let config = [
            ("compression.type", "producer"),
            ("retention.ms", "-1"),
            COMPACTED[2],
        ];
        Scene::with_topic(name, partitions, &config).await
    }

    /// A scene on the shared servers, with any configuration of the topic.
    pub async fn with_topic(name: &str, partitions: i32, config: &[(&str, &str)]) -> Scene {
        let world = world().await;
        let scene = Scene::on(name, &world.kafka.bootstrap(), &world.mongo.uri()).await;
        scene.create_topic(partitions, config).await;
        scene
    }

    /// A scene on the shared broker, with a compacted topic of `partitions` and a replica set of
    /// the test's own.
    pub async fn apart(name: &str, partitions: i32, options: MongoOptions) -> (Scene, Mongo) {
        Scene::apart_with(name, partitions, options, &COMPACTED[..2]).await
    }

    /// [`Scene::apart`], with any configuration of the topic.
    pub async fn apart_with(
        name: &str,
        partitions: i32,
        options: MongoOptions,
        config: &[(&str, &str)],
    ) -> (Scene, Mongo) {
        let mongo = Mongo::start(options).await.expect("a replica set");
        let scene = Scene::on(name, &world().await.kafka.bootstrap(), &mongo.uri()).await;
        scene.create_topic(partitions, config).await;
        (scene, mongo)
    }

    /// A scene on servers of the test's own; it creates no topic.
    pub async fn on(name: &str, bootstrap: &str, uri: &str) -> Scene {
        let client = Client::with_uri_str(uri).await.expect("a client");
        Scene {
            bootstrap: bootstrap.to_owned(),
            uri: uri.to_owned(),
            topic: format!("{name}.state"),
            group: format!("{name}.group"),
            database: client.database(&format!("test_{name}")),
        }
    }

    async fn create_topic(&self, partitions: i32, config: &[(&str, &str)]) {
        let created = topics().await.create(&self.topic, partitions, config).await;
        created.expect("a topic");
    }

    /// The environment that a worker of this scene runs with, by the contract's names.
    pub fn environment(&self) -> BTreeMap<String, String> {
        [
            (BOOTSTRAP_SERVERS, self.bootstrap.as_str()),
            ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "6000"),
            ("DYFF_KAFKA__CONFIG__HEARTBEAT_INTERVAL_MS", "500"),
            ("DYFF_KAFKA__TOPICS__WORKFLOWS_STATE", &self.topic),
            ("DYFF_WORKFLOWS_SINK__GROUP", &self.group),
            (CONNECTION_STRING, &self.uri),
            (
                "DYFF_WORKFLOWS_SINK__MONGODB__DATABASE",
                self.database.name(),
            ),
            ("DYFF_WORKFLOWS_SINK__LISTEN_ADDRESS", "127.0.0.1:0"),
            ("DYFF_WORKFLOWS_SINK__LOG_FORMAT", "json"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// A worker with this scene's environment and `changes` to it; an empty value removes a name.
    pub fn worker(&self, changes: &[(&str, &str)]) -> Worker {
        Worker::start(self.environment_with(changes))
    }

    /// The environment of its workers with these changes; an empty value leaves a variable out.
    pub fn environment_with(&self, changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut environment = self.environment();
        for (name, value) in changes {
            match value.is_empty() {
                true => environment.remove(*name),
                false => environment.insert((*name).to_owned(), (*value).to_owned()),
            };
        }
        environment
    }

    /// The URI by which a worker is known to the server as `app_name`.
    pub fn uri_of(&self, app_name: &str) -> String {
        format!("{}&appName={app_name}", self.uri)
    }

    /// An idempotent producer with the partitioner that Java clients use.
    pub fn producer(&self, changes: &[(&str, &str)]) -> BaseProducer {
        let mut config = rdkafka::ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("enable.idempotence", "true")
            .set("compression.type", "zstd")
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", "20000000")
            .set("linger.ms", "5");
        for (name, value) in changes {
            config.set(*name, *value);
        }
        config.create().expect("a producer")
    }

    /// Produces `records` and waits until all are acknowledged.
    pub fn produce(&self, records: &[Message]) {
        let producer = self.producer(&[]);
        for record in records {
            self.send(&producer, record);
        }
        producer.flush(DEADLINE).expect("all acknowledged");
    }

    /// Enqueues one record.
    pub fn send(&self, producer: &BaseProducer, record: &Message) {
        send(producer, &self.topic, record).expect("enqueued");
    }
}
