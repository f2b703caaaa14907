//! A consumer that takes a topic in as the service does, and throws its records away: what the
//! broker and librdkafka cost, whatever is done with the records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::time::sleep;
use workflows_sink::config::Config;
use workflows_sink::service::memory;

/// How long one poll waits, and so how long the end takes.
const POLL: Duration = Duration::from_millis(100);
/// How long the thread sleeps where it is as far ahead as it may be.
const AHEAD_POLL: Duration = Duration::from_millis(1);
const BEGIN_POLL: Duration = Duration::from_millis(1);
const BEGIN_DEADLINE: Duration = Duration::from_secs(30);

/// A thread that consumes until this is dropped.
pub struct Discarding {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    /// Records that were consumed.
    taken: AtomicUsize,
    stop: AtomicBool,
}

impl Discarding {
    /// Consumes all of a topic's partitions, and is never more than `ahead_max` records ahead of
    /// what is `settled`: then librdkafka's queues fill and it fetches no more, as in the service.
    pub fn start(
        config: &ClientConfig,
        topic: &str,
        partitions: i32,
        settled: Arc<AtomicUsize>,
        ahead_max: usize,
    ) -> Result<Discarding> {
        let consumer: BaseConsumer = config.create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || consume(&consumer, &of_thread, &settled, ahead_max));
        Ok(Discarding {
            shared,
            thread: Some(thread),
        })
    }

    /// How many records were consumed.
    ///
    /// # Errors
    /// What ended the thread.
    pub fn taken(&mut self) -> Result<usize> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join()?;
            return Err(anyhow!("the consumer beside the ceiling has ended"));
        }
        Ok(self.shared.taken.load(Ordering::Relaxed))
    }

    /// Until the first record is there: before that, the service would have nothing to write.
    pub async fn begun(&mut self) -> Result<()> {
        let end = Instant::now() + BEGIN_DEADLINE;
        while self.taken()? == 0 {
            ensure!(Instant::now() < end, "the broker gives no record");
            sleep(BEGIN_POLL).await;
        }
        Ok(())
    }

    fn join(&mut self) -> Result<()> {
        let ended = self.thread.take().map(JoinHandle::join);
        ended
            .unwrap_or(Ok(Ok(())))
            .map_err(|_| anyhow!("the consumer beside the ceiling panicked"))?
    }
}

impl Drop for Discarding {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // What ended it was said, if somebody asked.
        let _ = self.join();
    }
}

fn consume(
    consumer: &BaseConsumer,
    shared: &Shared,
    settled: &AtomicUsize,
    ahead_max: usize,
) -> Result<()> {
    let mut taken = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        if taken >= settled.load(Ordering::Relaxed) + ahead_max {
            thread::sleep(AHEAD_POLL);
            continue;
        }
        match consumer.poll(POLL) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error).context("cannot consume beside the ceiling"),
            Some(Ok(_)) => {
                taken += 1;
                shared.taken.store(taken, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// librdkafka's properties as the service has them by default, with queues as large as its own.
pub fn properties(config: &Config, bootstrap: &str, partitions: i32) -> ClientConfig {
    let mut properties = config.kafka.properties.client_config();
    let (queues, _) = memory::shares(config.limits.budget_bytes_max);
    let sizes = memory::properties(queues, partitions.unsigned_abs() as usize);
    properties.extend(sizes.map(|(name, value)| (name.to_owned(), value)));
    properties
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "ceiling")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true");
    properties
}
