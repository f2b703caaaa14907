//! Entities as records: what a topic has already, and what it lacks.
//!
//! A record of this tool has the header [`HEADER`]. So a later run knows whether the newest state
//! of an entity is still the one that was migrated: only then may it be replaced.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use datastore_export::Place;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use workflows_sink::config::Kafka;
use workflows_sink::kafka::scan::Scanner;
use workflows_sink::record::{Partition, Record};

use crate::id::{Fingerprint, NewId};
use crate::progress::Progress;

/// The header of each record of this tool; its value is the old path.
pub const HEADER: &str = "migrated-from";

const TIMEOUT: Duration = Duration::from_secs(30);
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
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// The newest state of an entity in a topic.
#[derive(Clone, Copy)]
struct Newest {
    value: Fingerprint,
    is_ours: bool,
}

/// What a topic has of each entity.
#[derive(Default)]
pub struct Present {
    // 48 bytes and a little an entity.
    newest: HashMap<NewId, Newest>,
}

/// What is to be done with an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// The topic lacks it.
    New,
    /// It has this very state.
    Nothing,
    /// Its newest state is one that was migrated before, and another one.
    Update,
    /// Its newest state is not of this tool.
    Newer,
}

impl Present {
    /// What is to be done to have this state of an entity in the topic.
    pub fn needed(&self, id: NewId, value: &[u8]) -> Needed {
        match self.newest.get(&id) {
            None => Needed::New,
            Some(newest) if newest.value == Fingerprint::of(value) => Needed::Nothing,
            Some(newest) if newest.is_ours => Needed::Update,
            Some(_) => Needed::Newer,
        }
    }

    /// Notes that a state of an entity was sent.
    pub fn sent(&mut self, id: NewId, value: &[u8]) {
        let newest = Newest {
            value: Fingerprint::of(value),
            is_ours: true,
        };
        self.newest.insert(id, newest);
    }

    fn note(&mut self, record: &Record<'_>) {
        let id = record.key.and_then(|key| str::from_utf8(key).ok());
        let Some(id) = id.and_then(|key| key.parse().ok()) else {
            return;
        };
        let is_ours = |(name, _): &(Vec<u8>, _)| name == HEADER.as_bytes();
        let newest = Newest {
            value: Fingerprint::of(record.value.unwrap_or_default()),
            is_ours: record.headers.iter().any(is_ours),
        };
        self.newest.insert(id, newest);
    }
}

/// Reads all of a topic that is committed by now. Blocks.
///
/// # Errors
/// Where the topic does not exist, or cannot be read.
pub fn read_back(kafka: &Kafka, topic: &str) -> Result<Present> {
    let producer: ThreadedProducer<Delivery> = client(kafka).create_with_context(Delivery::new())?;
    let metadata = producer.client().fetch_metadata(Some(topic), TIMEOUT);
    let metadata = metadata.with_context(|| format!("the topic {topic} cannot be looked up"))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions = found.map_or(0, |found| found.partitions().len());
    ensure!(
        partitions > 0,
        "there is no topic {topic}: make it first, or name it with --topic"
    );
    let scanner = Scanner::new(kafka)?;
    let mut logs = Vec::new();
    for number in 0..partitions as i32 {
        let partition = Partition::new(topic, number);
        let (ends, _) = scanner.log(&partition)?;
        logs.push((partition, ends.start..ends.stable_end));
    }
    let all = logs
        .iter()
        .map(|(_, log)| (log.end - log.start).unsigned_abs());
    let progress = Progress::new(Some(all.sum()), "records read back");
    let (mut present, mut before) = (Present::default(), 0);
    for (partition, log) in logs {
        let start = log.start;
        scanner.scan(&partition, log.clone(), None, |record| {
            present.note(&record);
            progress.item(before + (record.offset + 1 - start).unsigned_abs());
            ControlFlow::Continue(())
        })?;
        before += (log.end - start).unsigned_abs();
    }
    progress.end();
    Ok(present)
}

/// How many bytes of records a batch may have: as many as the topic takes.
///
/// A broker refuses a batch that is too large as a whole (`MESSAGE_TOO_LARGE`), and librdkafka does not
/// split it. Where this user may not see the setting, a batch is one record.
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
    Ok(set.and_then(|bytes| bytes.parse().ok()))
}

/// A record that the broker did not take.
pub struct NotTaken {
    /// Where its entity is.
    pub place: Place,
    /// Its old path.
    pub path: String,
    /// Why.
    pub why: String,
}

/// A producer whose records are in the topic once each, in the order of the calls.
pub struct Sender {
    producer: ThreadedProducer<Delivery>,
    topic: String,
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
            .create_with_context(Delivery::new());
        Ok(Sender {
            producer: producer.context("the Kafka client could not be created")?,
            topic: topic.to_owned(),
        })
    }

    /// Sends an entity, and waits while too many wait for their acknowledgement.
    ///
    /// # Errors
    /// Where the broker takes no records: what it took is there, and a later run goes on behind it.
    pub fn send(&self, id: NewId, value: &[u8], place: &Place, path: &str) -> Result<()> {
        let key = id.to_string();
        let about = Box::new((place.clone(), path.to_owned()));
        let header = Header {
            key: HEADER,
            value: Some(path),
        };
        let mut record = BaseRecord::with_opaque_to(&self.topic, about)
            .key(&key)
            .payload(value)
            .headers(OwnedHeaders::new().insert(header));
        let end = Instant::now() + FLUSH_DEADLINE;
        loop {
            self.check()?;
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) if is(&error, RDKafkaErrorCode::QueueFull) => {
                    ensure!(Instant::now() < end, "the brokers acknowledge nothing");
                    record = back;
                    std::thread::sleep(FULL_PAUSE);
                }
                Err((error, back)) if is(&error, RDKafkaErrorCode::MessageSizeTooLarge) => {
                    let (place, path) = *back.delivery_opaque;
                    self.delivery().too_large(place, path);
                    return Ok(());
                }
                Err((error, _)) => return Err(error).context("a record was not sent"),
            }
        }
    }

    /// Waits until all that was sent is acknowledged. Gives how many are, and those that are too
    /// large for the topic.
    ///
    /// # Errors
    /// Where one was not taken for another reason.
    pub fn finish(self) -> Result<(u64, Vec<NotTaken>)> {
        self.producer
            .flush(FLUSH_DEADLINE)
            .context("the brokers acknowledge nothing")?;
        self.check()?;
        let delivery = self.delivery();
        let refused = std::mem::take(&mut *lock(&delivery.refused));
        Ok((delivery.acknowledged.load(Relaxed), refused))
    }

    fn check(&self) -> Result<()> {
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

fn is(error: &KafkaError, code: RDKafkaErrorCode) -> bool {
    error.rdkafka_error_code() == Some(code)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of the records that were sent.
#[derive(Clone)]
struct Delivery {
    acknowledged: Arc<AtomicU64>,
    refused: Arc<Mutex<Vec<NotTaken>>>,
    failed: Arc<Mutex<Option<String>>>,
}

impl Delivery {
    fn new() -> Delivery {
        Delivery {
            acknowledged: Arc::default(),
            refused: Arc::default(),
            failed: Arc::default(),
        }
    }

    fn too_large(&self, place: Place, path: String) {
        let why = "larger than the topic takes: raise its max.message.bytes, and run this again";
        lock(&self.refused).push(NotTaken {
            place,
            path,
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
    type DeliveryOpaque = Box<(Place, String)>;

    fn delivery(&self, result: &DeliveryResult<'_>, about: Self::DeliveryOpaque) {
        match result {
            Ok(_) => drop(self.acknowledged.fetch_add(1, Relaxed)),
            Err((error, _)) if is(error, RDKafkaErrorCode::MessageSizeTooLarge) => {
                let (place, path) = *about;
                self.too_large(place, path);
            }
            Err((error, _)) => {
                let why = format!("{} ({}) was not taken: {error}", about.1, about.0);
                lock(&self.failed).get_or_insert(why);
            }
        }
    }
}

/// How the service reaches its brokers, without what makes it a consumer.
fn client(kafka: &Kafka) -> ClientConfig {
    let of_a_connection = [
        "bootstrap.servers",
        "security.protocol",
        "client.id",
        "enable.ssl.",
    ];
    let of_a_connection = |name: &str| {
        let begins = |head: &str| name.starts_with(head);
        of_a_connection.into_iter().any(begins)
            || ["sasl.", "ssl.", "socket.", "broker.address."]
                .into_iter()
                .any(begins)
    };
    let mut config = ClientConfig::new();
    for (name, value) in kafka.properties.iter() {
        if of_a_connection(name) {
            config.set(name, value);
        }
    }
    config
}

/// The topic of new states, as the platform's own services name it.
pub fn events_topic() -> String {
    std::env::var("DYFF_KAFKA__TOPICS__WORKFLOWS_EVENTS")
        .ok()
        .filter(|topic| !topic.is_empty())
        .unwrap_or_else(|| "dyff.workflows.events".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_migrated_is_ever_replaced() {
        let mut present = Present::default();
        let id = NewId(7);
        let key = id.to_string();
        assert_eq!(present.needed(id, b"a"), Needed::New);
        let mut record = Record {
            key: Some(key.as_bytes()),
            value: Some(b"a"),
            headers: vec![(HEADER.as_bytes().to_vec(), None)],
            ..Record::default()
        };
        present.note(&record);
        assert_eq!(present.needed(id, b"a"), Needed::Nothing);
        assert_eq!(present.needed(id, b"b"), Needed::Update);
        record.headers.clear();
        record.value = Some(b"c");
        present.note(&record);
        assert_eq!(present.needed(id, b"b"), Needed::Newer);
        assert_eq!(present.needed(id, b"c"), Needed::Nothing);
        present.sent(id, b"d");
        assert_eq!(present.needed(id, b"e"), Needed::Update);
        for key in [None, Some(&b"x"[..])] {
            record.key = key;
            present.note(&record);
        }
        assert_eq!(present.newest.len(), 1);
    }
}
