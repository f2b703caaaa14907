//! The service as a process, in a scene of its own: a topic, a group and a database on shared servers.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};
use local_stack::{Kafka, KafkaOptions, Mongo, MongoOptions, Server};
use mongodb::{Client, Database};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use tokio::sync::OnceCell;

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The servers that the tests of one binary share; they end with the process.
pub struct World {
    pub kafka: Kafka,
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

/// What one test has to itself.
pub struct Scene {
    pub bootstrap: String,
    pub uri: String,
    pub topic: String,
    pub group: String,
    pub database: Database,
}

impl Scene {
    /// A scene on the shared servers, with a topic of `partitions`.
    pub async fn new(name: &str, partitions: i32) -> Scene {
        let world = world().await;
        let scene = Scene::on(name, &world.kafka.bootstrap(), &world.mongo.uri()).await;
        let topics = world.kafka.topics().expect("an admin client");
        let config = [
            ("cleanup.policy", "compact"),
            ("compression.type", "zstd"),
            ("max.message.bytes", "20000000"),
        ];
        topics
            .create(&scene.topic, partitions, &config)
            .await
            .expect("a topic");
        scene
    }

    /// A scene on servers of the test's own; it makes no topic.
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

    /// The environment that a worker of this scene runs with, by the contract's names.
    pub fn environment(&self) -> BTreeMap<String, String> {
        [
            (
                "DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS",
                self.bootstrap.as_str(),
            ),
            ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "6000"),
            ("DYFF_KAFKA__CONFIG__HEARTBEAT_INTERVAL_MS", "500"),
            ("DYFF_KAFKA__TOPICS__WORKFLOWS_STATE", &self.topic),
            ("DYFF_WORKFLOWS_SINK__GROUP", &self.group),
            ("DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING", &self.uri),
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
        let mut environment = self.environment();
        for (name, value) in changes {
            match value.is_empty() {
                true => environment.remove(*name),
                false => environment.insert((*name).to_owned(), (*value).to_owned()),
            };
        }
        Worker::start(environment)
    }

    /// A producer; `idempotent`, and with the partitioner that Java clients use.
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
    pub fn produce(&self, records: &[Produced]) {
        let producer = self.producer(&[]);
        for record in records {
            send(&producer, &self.topic, record);
        }
        producer.flush(DEADLINE).expect("all acknowledged");
    }

    /// Every entity of every routed collection, by collection and id.
    pub async fn entities(&self) -> BTreeMap<(String, String), Document> {
        let mut entities = BTreeMap::new();
        for name in self
            .database
            .list_collection_names()
            .await
            .expect("collections")
        {
            if name.starts_with("workflows_sink_") {
                continue;
            }
            for document in self.all(&name).await {
                let id = document.get_str("_id").expect("a string _id").to_owned();
                entities.insert((name.clone(), id), document);
            }
        }
        entities
    }

    /// Every document of a collection.
    pub async fn all(&self, collection: &str) -> Vec<Document> {
        let mut found = Vec::new();
        let collection = self.database.collection::<Document>(collection);
        let mut cursor = collection.find(doc! {}).await.expect("a cursor");
        while cursor.advance().await.expect("the next document") {
            // By way of serde `{"$oid": …}` would be interpreted.
            found.push(Document::try_from(cursor.current()).expect("a document"));
        }
        found
    }

    /// The dead letters.
    pub async fn dead_letters(&self) -> Vec<Document> {
        self.all("workflows_sink_dead_letters").await
    }

    /// The next offsets of the group's checkpoints, by partition.
    pub async fn checkpoints(&self) -> BTreeMap<i32, i64> {
        let mut checkpoints = self.all("workflows_sink_checkpoints").await;
        checkpoints.retain(|checkpoint| {
            let id = checkpoint.get_document("_id").expect("an _id");
            id.get_str("group").is_ok_and(|group| group == self.group)
        });
        let read = |checkpoint: &Document| {
            let partition = checkpoint
                .get_document("_id")
                .and_then(|id| id.get_i32("partition"));
            (
                partition.expect("a partition"),
                checkpoint.get_i64("next_offset").expect("a next_offset"),
            )
        };
        checkpoints.iter().map(read).collect()
    }

    /// The end of each partition's log.
    pub async fn log_ends(&self) -> BTreeMap<i32, i64> {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        let topic = self.topic.clone();
        tokio::task::spawn_blocking(move || {
            use rdkafka::consumer::{BaseConsumer, Consumer as _};
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let metadata = consumer
                .fetch_metadata(Some(&topic), DEADLINE)
                .expect("metadata");
            let partitions = metadata.topics()[0]
                .partitions()
                .iter()
                .map(|partition| partition.id());
            let end = |partition| {
                (
                    partition,
                    consumer
                        .fetch_watermarks(&topic, partition, DEADLINE)
                        .expect("an end")
                        .1,
                )
            };
            partitions.map(end).collect()
        })
        .await
        .expect("the ends of the log")
    }

    /// Waits until every record is settled: each checkpoint stands at its log's end.
    pub async fn settled(&self) {
        self.settled_within(DEADLINE).await;
    }

    /// [`Scene::settled`], for what takes longer than most.
    pub async fn settled_within(&self, deadline: Duration) {
        until_within(
            deadline,
            "every checkpoint stands at its log's end",
            || async {
                let ends = self.log_ends().await;
                let checkpoints = self.checkpoints().await;
                ends.iter()
                    .all(|(partition, end)| *end == 0 || checkpoints.get(partition) == Some(end))
            },
        )
        .await;
    }
}

/// A record to produce.
#[derive(Clone, Debug, Default)]
pub struct Produced {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub partition: Option<i32>,
}

impl Produced {
    /// A record with a key and a value, and nothing else.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Produced {
        Produced {
            key: Some(key.into()),
            value: Some(value.into()),
            ..Produced::default()
        }
    }
}

/// Enqueues one record, waiting while the queue is full.
pub fn send(producer: &BaseProducer, topic: &str, record: &Produced) {
    loop {
        let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        message.partition = record.partition;
        if !record.headers.is_empty() {
            let headers =
                record
                    .headers
                    .iter()
                    .fold(OwnedHeaders::new(), |headers, (key, value)| {
                        headers.insert(Header {
                            key,
                            value: value.as_deref(),
                        })
                    });
            message.headers = Some(headers);
        }
        match producer.send(message) {
            Ok(()) => return,
            Err((error, _))
                if error.rdkafka_error_code()
                    == Some(rdkafka::types::RDKafkaErrorCode::QueueFull) =>
            {
                producer.poll(Duration::from_millis(20));
            }
            Err((error, _)) => panic!("not produced: {error}"),
        }
    }
}

/// One worker process.
pub struct Worker {
    server: Server,
}

impl Worker {
    /// Starts `workflows-sink run` with this environment and no other setting.
    pub fn start(environment: BTreeMap<String, String>) -> Worker {
        let mut server = Server::new("workflows-sink").expect("a directory");
        server.command([binary().into_os_string(), "run".into()]);
        for (name, value) in environment {
            server.env(&name, &value);
        }
        server.start().expect("a worker");
        Worker { server }
    }

    /// One that was started some other way.
    pub fn of(server: Server) -> Worker {
        Worker { server }
    }

    /// The process, to kill, freeze, stop or wait for.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.server.log()).unwrap_or_default()
    }

    /// Waits until its log holds `text`.
    pub async fn logs(&self, text: &str) {
        until(&format!("the worker logs {text:?}"), || async {
            self.log().contains(text)
        })
        .await;
    }

    /// Where its health server listens, once it does.
    pub fn address(&self) -> Option<String> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("\"listening\""))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line["address"].as_str()?.to_owned())
    }

    /// Status and body of a GET, or `None` while nothing listens.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address()?).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// The sum of a metric over the series whose line contains `labels`; `None` if there is none.
    pub fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics")?;
        let series = body.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && line.contains(labels)
        });
        let values: Vec<f64> = series
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self) {
        until("the worker is ready", || async {
            self.get("/readyz").is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// SIGTERM, and its exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        self.server
            .signal(rustix::process::Signal::TERM)
            .expect("a running worker");
        self.exit().await
    }

    /// Waits until it has ended by itself.
    pub async fn exit(&mut self) -> Option<i32> {
        self.server
            .wait(DEADLINE)
            .await
            .expect("the worker ends")
            .code()
    }
}

impl Drop for Worker {
    /// What a failed test needs most.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the worker's log ends:\n{}", self.server.log_tail());
        }
    }
}

/// The binary under test; `WORKFLOWS_SINK` names another one, such as a mutant.
pub fn binary() -> PathBuf {
    let named = std::env::var_os("WORKFLOWS_SINK").filter(|path| !path.is_empty());
    named.map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_workflows-sink")),
        PathBuf::from,
    )
}

/// Runs a command of the binary to its end: exit code, standard output, standard error.
pub async fn run(
    environment: &BTreeMap<String, String>,
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let command = tokio::process::Command::new(binary())
        .args(arguments)
        .env_clear()
        .envs(environment)
        .output();
    let output = tokio::time::timeout(DEADLINE, command)
        .await
        .expect("the command ends")
        .expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Waits until `condition` holds; panics with `what` after [`DEADLINE`].
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    until_within(DEADLINE, what, condition).await;
}

async fn until_within<F: Future<Output = bool>>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let end = Instant::now() + deadline;
    while !condition().await {
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The number in a document, whatever its width.
pub fn number(value: Option<&Bson>) -> i64 {
    match value {
        Some(Bson::Int32(n)) => i64::from(*n),
        Some(Bson::Int64(n)) => *n,
        other => panic!("not a number: {other:?}"),
    }
}

/// Names the type of producer that tests use.
pub type Producer = BaseProducer<DefaultProducerContext>;
