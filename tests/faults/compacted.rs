//! A second topic, which the broker compacts while the workers read it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use local_stack::Topics;
use local_stack::random::Random;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::checker::Compacted;
use crate::checker::compacted::PREFIX;

/// Partitions of the topic.
pub const PARTITIONS: i32 = 2;

const ENTITIES: usize = 40;
const EVERY: Duration = Duration::from_millis(20);
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
/// Segments last a second, and are compacted at once.
const CONFIG: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "1000"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("min.compaction.lag.ms", "0"),
    ("max.compaction.lag.ms", "1000"),
];

/// The topic and its producer.
pub struct Second {
    topic: String,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<(BTreeMap<String, i64>, usize)>>,
}

impl Second {
    /// Makes the topic, and goes on producing revisions of a few entities to it.
    pub async fn start(topics: &Topics, bootstrap: &str, topic: String, seed: u64) -> Second {
        let created = topics.create(&topic, PARTITIONS, &CONFIG).await;
        created.expect("a compacted topic");
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, bootstrap, name) = (Arc::clone(&stopped), bootstrap.to_owned(), topic.clone());
        let thread = std::thread::spawn(move || produce(&bootstrap, &name, seed, &stop));
        Second {
            topic,
            stopped,
            thread: Some(thread),
        }
    }

    /// Ends the producer; what it has produced, all of it acknowledged. Blocks until then.
    pub fn stop(&mut self) -> Compacted {
        self.stopped.store(true, SeqCst);
        let thread = self.thread.take().expect("stopped once");
        let (produced, records) = thread.join().expect("the producer does not panic");
        Compacted {
            topic: self.topic.clone(),
            produced,
            records,
            ..Compacted::default()
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
    }
}

fn produce(
    bootstrap: &str,
    topic: &str,
    seed: u64,
    stopped: &AtomicBool,
) -> (BTreeMap<String, i64>, usize) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("max.in.flight.requests.per.connection", "1")
        .set("message.timeout.ms", "120000")
        .set("topic.metadata.refresh.interval.ms", "500")
        .create()
        .expect("a producer");
    let mut random = Random::new(seed);
    let (mut produced, mut records) = (BTreeMap::new(), 0);
    while !stopped.load(SeqCst) {
        std::thread::sleep(EVERY);
        producer.poll(Duration::ZERO);
        let entity = random.below(ENTITIES);
        let id = format!("{PREFIX}{entity:026x}");
        let revision: &mut i64 = produced.entry(id.clone()).or_default();
        *revision += 1;
        records += 1;
        let value =
            format!(r#"{{"id":"{id}","kind":"Model","revision":{revision},"echo":{revision}}}"#);
        let partition = entity as i32 % PARTITIONS;
        let record = BaseRecord::<_, _>::to(topic).partition(partition);
        let sent = producer.send(record.key(&id).payload(&value));
        sent.map_err(|(error, _)| error).expect("there is room");
    }
    producer.flush(FLUSH_DEADLINE).expect("all acknowledged");
    assert_eq!(producer.in_flight_count(), 0);
    (produced, records)
}
