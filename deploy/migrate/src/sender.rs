//! Entities as records onto a topic, each acknowledged by all replicas in sync.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use datastore_export::Place;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use workflows_sink::config::Kafka;

use crate::brokers::{TIMEOUT, client, may_not};
use crate::id::NewId;
use crate::present::HEADER;

/// How long a record may wait for its acknowledgement, over elections and restarts of brokers.
const DELIVERY_DEADLINE_MS: &str = "300000";
const FLUSH_DEADLINE: Duration = Duration::from_secs(330);
/// Records that wait for their acknowledgement, in KiB and in number.
const QUEUE_KIB_MAX: &str = "65536";
const QUEUE_RECORDS_MAX: &str = "20000";
/// Above any entity, which Datastore bounds by 1 MiB: the broker decides.
const RECORD_BYTES_MAX: &str = "20000000";
/// librdkafka's own default.
const BATCH_BYTES_MAX: u64 = 1_000_000;
const NOTHING_ACKNOWLEDGED: &str =
    "the brokers acknowledge nothing: see to their replicas in sync, and run this again";
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// How many bytes of records a batch may have: as many as the topic takes.
///
/// A broker refuses a batch that is too large as a whole (`MESSAGE_TOO_LARGE`), and librdkafka does
/// not split it. Where this user may not see the setting, a batch is one record.
fn batch_bytes_max(kafka: &Kafka, topic: &str) -> Result<Option<u64>> {
    let admin: AdminClient<DefaultClientContext> = client(kafka)
        .create()
        .context("the Kafka client could not be created")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let asked = [ResourceSpecifier::Topic(topic)];
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let answered = runtime.block_on(admin.describe_configs(&asked, &options));
    let of_topic = answered.ok().and_then(|mut found| found.pop()?.ok());
    let set = of_topic.and_then(|found| found.get("max.message.bytes")?.value.clone());
    let set = set.and_then(|bytes| bytes.parse().ok());
    if set.is_none() {
        eprintln!(
            "this user may not see how large a batch the topic {topic} takes, so that each is one \
             record, which is slower: grant DescribeConfigs on it"
        );
    }
    Ok(set)
}

/// What a record is about.
pub struct About {
    /// The entity.
    pub id: NewId,
    /// Its old kind.
    pub kind: String,
    /// Where it is.
    pub place: Place,
    /// Its old path.
    pub path: String,
    /// What was counted of it.
    pub counted: &'static str,
}

/// A record that the broker did not take.
pub struct NotTaken {
    /// What it is about.
    pub about: About,
    /// Why.
    pub why: String,
}

/// A producer whose records are in the topic once each, in the order of the calls.
pub struct Sender {
    producer: ThreadedProducer<Delivery>,
    topic: String,
    sent: AtomicU64,
}

impl Sender {
    /// A producer for a topic.
    ///
    /// # Errors
    /// librdkafka's, where it does not take the configuration.
    pub fn new(kafka: &Kafka, topic: &str) -> Result<Sender> {
        let mut config = client(kafka);
        match batch_bytes_max(kafka, topic)? {
            Some(bytes) => config.set("batch.size", bytes.min(BATCH_BYTES_MAX).to_string()),
            None => config.set("batch.num.messages", "1"),
        };
        let producer = config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // As Kafka's own clients in Java, of which the aggregator is one.
            .set("partitioner", "murmur2_random")
            .set("compression.type", "zstd")
            .set("linger.ms", "20")
            .set("message.timeout.ms", DELIVERY_DEADLINE_MS)
            .set("message.max.bytes", RECORD_BYTES_MAX)
            .set("queue.buffering.max.kbytes", QUEUE_KIB_MAX)
            .set("queue.buffering.max.messages", QUEUE_RECORDS_MAX)
            .create_with_context(Delivery::of(topic));
        Ok(Sender {
            producer: producer.context("the Kafka client could not be created")?,
            topic: topic.to_owned(),
            sent: AtomicU64::new(0),
        })
    }

    /// Sends an entity, and waits while too many wait for their acknowledgement.
    ///
    /// # Errors
    /// Where the broker takes no records: what it took is there, and a later run goes on behind it.
    pub fn send(&self, about: About, value: &[u8]) -> Result<()> {
        let key = about.id.to_string();
        let header = Header {
            key: HEADER,
            value: Some(&about.path),
        };
        let headers = OwnedHeaders::new().insert(header);
        let mut record = BaseRecord::with_opaque_to(&self.topic, Box::new(about))
            .key(&key)
            .payload(value)
            .headers(headers);
        let end = Instant::now() + FLUSH_DEADLINE;
        self.sent.fetch_add(1, Relaxed);
        loop {
            self.check()?;
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) if is(&error, RDKafkaErrorCode::QueueFull) => {
                    ensure!(Instant::now() < end, "{NOTHING_ACKNOWLEDGED}");
                    record = back;
                    std::thread::sleep(FULL_PAUSE);
                }
                Err((error, back)) if is(&error, RDKafkaErrorCode::MessageSizeTooLarge) => {
                    self.delivery().too_large(*back.delivery_opaque);
                    return Ok(());
                }
                Err((error, _)) => return Err(error).context("a record was not sent"),
            }
        }
    }

    /// Waits until all that was sent is acknowledged. Gives those that are too large for the topic.
    ///
    /// # Errors
    /// Where one was not taken for another reason.
    pub fn finish(self) -> Result<Vec<NotTaken>> {
        self.producer
            .flush(FLUSH_DEADLINE)
            .context(NOTHING_ACKNOWLEDGED)?;
        self.check()?;
        let delivery = self.delivery();
        let refused = std::mem::take(&mut *lock(&delivery.refused));
        let (sent, acknowledged) = (self.sent.load(Relaxed), delivery.acknowledged.load(Relaxed));
        ensure!(
            acknowledged + refused.len() as u64 == sent,
            "{sent} records were sent and {acknowledged} acknowledged: run this again"
        );
        Ok(refused)
    }

    fn check(&self) -> Result<()> {
        if let Some((code, why)) = self.producer.client().fatal_error() {
            // Without a right to write to any topic there is no idempotent producer.
            ensure!(!is_forbidden(code), may_not("write", &self.topic));
            bail!(
                "{}: {why}. Run this again: it goes on behind what is there",
                self.topic
            );
        }
        match lock(&self.delivery().failed).as_ref() {
            None => Ok(()),
            Some(why) => bail!(
                "{}: {why}. Run this again: it goes on behind what is there",
                self.topic
            ),
        }
    }

    fn delivery(&self) -> &Delivery {
        self.producer.context()
    }
}

/// Whether this user lacks a right.
fn is_forbidden(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{ClusterAuthorizationFailed, TopicAuthorizationFailed};
    matches!(code, ClusterAuthorizationFailed | TopicAuthorizationFailed)
}

fn is(error: &KafkaError, code: RDKafkaErrorCode) -> bool {
    error.rdkafka_error_code() == Some(code)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of the records that were sent.
#[derive(Clone)]
struct Delivery {
    topic: String,
    acknowledged: Arc<AtomicU64>,
    refused: Arc<Mutex<Vec<NotTaken>>>,
    failed: Arc<Mutex<Option<String>>>,
}

impl Delivery {
    fn of(topic: &str) -> Delivery {
        Delivery {
            topic: topic.to_owned(),
            acknowledged: Arc::default(),
            refused: Arc::default(),
            failed: Arc::default(),
        }
    }

    fn too_large(&self, about: About) {
        let why = "larger than the topic takes, or than 20,000,000 bytes: raise its max.message.bytes, and run this again";
        lock(&self.refused).push(NotTaken {
            about,
            why: why.to_owned(),
        });
    }
}

impl ClientContext for Delivery {
    /// librdkafka's warnings come back as errors of what was asked.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = Box<About>;

    fn delivery(&self, result: &DeliveryResult<'_>, about: Self::DeliveryOpaque) {
        match result {
            Ok(_) => drop(self.acknowledged.fetch_add(1, Relaxed)),
            Err((error, _)) if is(error, RDKafkaErrorCode::MessageSizeTooLarge) => {
                self.too_large(*about);
            }
            Err((error, _)) if error.rdkafka_error_code().is_some_and(is_forbidden) => {
                let why = may_not("write", &self.topic);
                lock(&self.failed).get_or_insert(why);
            }
            Err((error, _)) => {
                let why = format!("{} ({}) was not taken: {error}", about.path, about.place);
                lock(&self.failed).get_or_insert(why);
            }
        }
    }
}
