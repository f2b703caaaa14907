//! Records into a topic, the way the real producer does it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use crate::entities::State;

const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
const USUAL: [(&str, &str); 6] = [
    ("enable.idempotence", "true"),
    ("compression.type", "zstd"),
    ("partitioner", "murmur2_random"),
    ("linger.ms", "20"),
    ("batch.size", "262144"),
    ("message.max.bytes", "33554432"),
];
const QUEUE_POLL: Duration = Duration::from_millis(10);

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Without one, the partition is random.
    pub key: Option<Vec<u8>>,
    /// Without one, it is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// By default the one that the key's hash gives.
    pub partition: Option<i32>,
    /// Milliseconds since 1970, by default now.
    pub timestamp_ms: Option<i64>,
}

impl Message {
    /// With a key and a value.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Message {
        Message {
            key: Some(key.into()),
            value: Some(value.into()),
            ..Message::default()
        }
    }
}

impl From<State> for Message {
    fn from(state: State) -> Message {
        Message::new(state.id, state.json)
    }
}

/// Produces messages to a topic and returns how many, when the broker has acknowledged all of them.
/// Blocks.
///
/// Partitions are those of the Java client for the same keys; order within a partition is the order
/// given. Properties in `config` win over the usual ones.
pub fn produce<M: Into<Message>>(
    config: &ClientConfig,
    topic: &str,
    messages: impl IntoIterator<Item = M>,
) -> Result<usize> {
    let mut config = config.clone();
    for (name, value) in USUAL {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    let producer: BaseProducer<Failure> = config.create_with_context(Failure::default())?;
    let mut count = 0;
    for message in messages {
        send(&producer, topic, &message.into())?;
        count += 1;
        producer.poll(Duration::ZERO);
    }
    producer
        .flush(FLUSH_DEADLINE)
        .context("the broker does not acknowledge")?;
    match producer
        .context()
        .0
        .lock()
        .map_err(|_| anyhow!("a delivery callback panicked"))?
        .take()
    {
        Some(error) => Err(error).context("the broker refused a record"),
        None => Ok(count),
    }
}

/// Enqueues one message, waiting while the producer's queue is full. Blocks.
pub fn send(
    producer: &BaseProducer<impl ProducerContext<DeliveryOpaque = ()>>,
    topic: &str,
    message: &Message,
) -> Result<()> {
    let mut record = BaseRecord::<[u8], [u8]>::to(topic);
    record.key = message.key.as_deref();
    record.payload = message.value.as_deref();
    record.partition = message.partition;
    record.timestamp = message.timestamp_ms;
    if !message.headers.is_empty() {
        let add = |headers: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
            headers.insert(Header {
                key,
                value: value.as_deref(),
            })
        };
        record.headers = Some(message.headers.iter().fold(OwnedHeaders::new(), add));
    }
    let end = Instant::now() + FLUSH_DEADLINE;
    while let Err((error, back)) = producer.send(record) {
        let full = matches!(
            error,
            KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
        );
        ensure!(
            full && Instant::now() < end,
            "cannot produce to {topic}: {error}"
        );
        producer.poll(QUEUE_POLL);
        record = back;
    }
    Ok(())
}

/// The first delivery that failed.
#[derive(Default)]
struct Failure(Mutex<Option<KafkaError>>);

impl ClientContext for Failure {}

impl ProducerContext for Failure {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result
            && let Ok(mut first) = self.0.lock()
        {
            first.get_or_insert_with(|| error.clone());
        }
    }
}
