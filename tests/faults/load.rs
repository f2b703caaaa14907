//! A producer that goes on whatever happens, and remembers what was acknowledged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use local_stack::Message;
use local_stack::random::Random;
use rdkafka::ClientContext;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use test_support::entities::Entities;

use crate::checker::{Acknowledged, digest};

/// Records a second, usually.
pub const RATE: usize = 200;
/// How often it sends what is due: enough at once for several partitions of a worker to have
/// something to write together.
const TICK: Duration = Duration::from_millis(100);
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
const ENTITIES: usize = 300;

/// What the nemesis and the producer's thread share.
struct Shared {
    rate: AtomicUsize,
    /// Pauses and resumptions so far: odd is paused.
    turn: AtomicUsize,
    /// The last pause that the thread has seen, with all it had sent acknowledged.
    quiet: AtomicUsize,
    stopped: AtomicBool,
    lineage: AtomicUsize,
    /// Partitions now, of which the first [`Load::start`]'s belong to the first entities.
    partitions: AtomicUsize,
    /// Sent before anything else.
    extra: Mutex<VecDeque<Message>>,
    acknowledged: Mutex<Vec<Acknowledged>>,
    failed: Mutex<Option<String>>,
}

/// The producer's thread.
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Collects the deliveries.
struct Heard(Arc<Shared>);

impl ClientContext for Heard {}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                let acknowledged = Acknowledged {
                    lineage: self.0.lineage.load(SeqCst),
                    partition: message.partition(),
                    // A duplicate that the broker refuses is in the log, at an offset that it no
                    // longer knows.
                    offset: Some(message.offset()).filter(|offset| *offset >= 0),
                    digest: digest(message.key(), message.payload()),
                };
                self.0
                    .acknowledged
                    .lock()
                    .expect("no panic")
                    .push(acknowledged);
            }
            Err((error, _)) => {
                let mut failed = self.0.failed.lock().expect("no panic");
                failed.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

impl Load {
    /// Goes on producing states of seeded entities to `topic`, each key to one partition of
    /// `partitions`.
    pub fn start(seed: u64, bootstrap: &str, topic: &str, partitions: i32) -> Load {
        let shared = Arc::new(Shared {
            rate: AtomicUsize::new(RATE),
            turn: AtomicUsize::new(0),
            quiet: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            lineage: AtomicUsize::new(0),
            partitions: AtomicUsize::new(partitions as usize),
            extra: Mutex::default(),
            acknowledged: Mutex::default(),
            failed: Mutex::default(),
        });
        let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
        let thread_shared = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            produce(
                &bootstrap,
                &topic,
                partitions as usize,
                seed,
                &thread_shared,
            );
        });
        Load {
            shared,
            thread: Some(thread),
        }
    }

    /// How many records a second from now on.
    pub fn rate(&self, records_per_second: usize) {
        self.shared.rate.store(records_per_second, SeqCst);
    }

    /// Sends these records before any other; returns when they are on their way.
    pub async fn send(&self, records: impl IntoIterator<Item = Message>) {
        self.shared.extra.lock().expect("no panic").extend(records);
        test_support::wait::until("the records are sent", || async {
            self.shared.extra.lock().expect("no panic").is_empty()
        })
        .await;
    }

    /// New entities go to the partitions behind the first ones.
    pub fn partitions(&self, total: i32) {
        self.shared.partitions.store(total as usize, SeqCst);
    }

    /// Stops for a while; returns when everything sent is acknowledged.
    pub async fn pause(&self) {
        let pause = self.shared.turn.fetch_add(1, SeqCst) + 1;
        test_support::wait::until("all records are acknowledged", || async {
            self.shared.quiet.load(SeqCst) == pause
        })
        .await;
    }

    /// Goes on, with a recreated topic.
    pub fn resume(&self, lineage: usize, partitions: i32) {
        self.shared.lineage.store(lineage, SeqCst);
        self.partitions(partitions);
        self.shared.turn.fetch_add(1, SeqCst);
    }

    /// Ends it, and returns what was acknowledged: all that was sent.
    pub async fn stop(&mut self) -> Vec<Acknowledged> {
        self.shared.stopped.store(true, SeqCst);
        let thread = self.thread.take().expect("stopped once");
        tokio::task::spawn_blocking(move || thread.join())
            .await
            .expect("the thread is waited for")
            .expect("the producer does not panic");
        let failed = self.shared.failed.lock().expect("no panic").take();
        assert_eq!(failed, None, "a record was not produced");
        std::mem::take(&mut *self.shared.acknowledged.lock().expect("no panic"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
    }
}

/// A producer that has not asked for the topic yet: one that knew it before it was recreated may
/// take it for deleted.
///
/// One request at a time: a broker takes any sequence number as a producer's first in a log. Where
/// it refuses a batch for not being ready yet and takes the one sent behind it, librdkafka counts
/// the refused one as acknowledged, too.
fn new_producer(bootstrap: &str, shared: &Arc<Shared>) -> BaseProducer<Heard> {
    rdkafka::ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("max.in.flight.requests.per.connection", "1")
        .set("compression.type", "zstd")
        .set("message.max.bytes", "20000000")
        .set("message.timeout.ms", "120000")
        .set("linger.ms", "5")
        .set("topic.metadata.refresh.interval.ms", "500")
        .create_with_context(Heard(Arc::clone(shared)))
        .expect("a producer")
}

fn produce(bootstrap: &str, topic: &str, first: usize, seed: u64, shared: &Arc<Shared>) {
    let mut producer = new_producer(bootstrap, shared);
    let mut entities = Entities::new(seed, ENTITIES);
    let mut later = Entities::new(!seed, ENTITIES);
    let mut random = Random::new(seed);
    let began = Instant::now();
    let (mut due, mut last) = (0.0, began);
    while !shared.stopped.load(SeqCst) {
        std::thread::sleep(TICK);
        producer.poll(Duration::ZERO);
        let now = Instant::now();
        let turn = shared.turn.load(SeqCst);
        if turn % 2 == 1 {
            if shared.quiet.load(SeqCst) != turn {
                producer.flush(FLUSH_DEADLINE).expect("all acknowledged");
                producer = new_producer(bootstrap, shared);
                shared.quiet.store(turn, SeqCst);
            }
            last = now;
            continue;
        }
        due += shared.rate.load(SeqCst) as f64 * (now - last).as_secs_f64();
        last = now;
        while let Some(record) = next_extra(shared) {
            let partition = partition_of(&record, first);
            send(&producer, topic, &record, partition);
            shared.extra.lock().expect("no panic").pop_front();
        }
        while due >= 1.0 {
            due -= 1.0;
            let added = shared.partitions.load(SeqCst).saturating_sub(first);
            if added > 0 && random.below(4) == 0 {
                let record = later.states(1).remove(0);
                let partition = first as i32 + partition_of(&record, added);
                send(&producer, topic, &record, partition);
            } else {
                let record = entities.states(1).remove(0);
                let partition = partition_of(&record, first);
                send(&producer, topic, &record, partition);
            }
        }
    }
    producer.flush(FLUSH_DEADLINE).expect("all acknowledged");
}

fn next_extra(shared: &Shared) -> Option<Message> {
    shared.extra.lock().expect("no panic").front().cloned()
}

/// The same partition for the same key, however many there are later (FNV-1a).
fn partition_of(record: &Message, partitions: usize) -> i32 {
    let key = record.key.as_deref().unwrap_or_default();
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash % partitions as u64) as i32
}

fn send(producer: &BaseProducer<Heard>, topic: &str, record: &Message, partition: i32) {
    let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    let end = Instant::now() + FLUSH_DEADLINE;
    while let Err((error, back)) = producer.send(message) {
        // A partition that was added a moment ago is not known yet.
        let passes = [
            RDKafkaErrorCode::QueueFull,
            RDKafkaErrorCode::UnknownPartition,
        ];
        let passing = error
            .rdkafka_error_code()
            .is_some_and(|code| passes.contains(&code));
        assert!(passing && Instant::now() < end, "not produced: {error}");
        producer.poll(TICK);
        message = back;
    }
}
