//! The lanes' side of the poll thread.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message as _};
use tokio::sync::{Notify, oneshot, watch};

use super::headers::headers;
use super::{Consumer, Context};
use crate::record::{Partition, Record};
use crate::writer::Settled;

/// What lanes ask of the poll thread.
pub(super) enum Request {
    Start {
        partition: Partition,
        next_offset: i64,
        generation: u64,
        queue: oneshot::Sender<KafkaResult<LaneQueue>>,
    },
    Stop {
        partition: Partition,
        generation: u64,
        done: oneshot::Sender<()>,
    },
}

/// The records of one partition, as they arrive.
pub struct LaneQueue {
    pub(super) queue: PartitionQueue<Context>,
    pub(super) wake: Arc<Notify>,
}

impl LaneQueue {
    /// The next message or error, if there is one; never waits.
    pub fn next(&self) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.queue.poll(Duration::ZERO)
    }

    /// Waits until there may be something; wakes by itself after `at_most`, since the wake-up is
    /// only a hint.
    pub async fn wait(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.wake.notified()).await;
    }
}

/// A message of librdkafka as a record, its bytes borrowed where they are.
pub fn record<'a>(message: &'a BorrowedMessage<'_>) -> Record<'a> {
    let headers = headers(message).unwrap_or_else(|| {
        tracing::warn!(
            topic = message.topic(),
            partition = message.partition(),
            offset = message.offset(),
            "the record's headers cannot be read; it goes on without them"
        );
        Vec::new()
    });
    Record {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key(),
        value: message.payload(),
        headers,
    }
}

/// The lanes' side of the poll thread.
#[derive(Clone)]
pub struct Handle {
    pub(super) consumer: Arc<OnceLock<Arc<Consumer>>>,
    pub(super) requests: Sender<Request>,
    pub(super) polls: watch::Receiver<u64>,
}

impl Handle {
    /// The consumer.
    pub fn consumer(&self) -> Option<Arc<Consumer>> {
        self.consumer.get().cloned()
    }

    /// The consumer, for lookups: not while all brokers are down. As long as a lookup waits for one, librdkafka connects
    /// anew every 10 ms and wakes all that waits each time, which was seen to take half a core.
    pub fn answering(&self) -> Option<Arc<Consumer>> {
        let consumer = self.consumer()?;
        (!consumer.context().is_down()).then_some(consumer)
    }

    /// Starts fetching `partition` at `next_offset`, if it still is assigned as it was when its lane
    /// began; `None` if not.
    pub async fn start(
        &self,
        partition: &Partition,
        next_offset: i64,
    ) -> Option<KafkaResult<LaneQueue>> {
        let (queue, started) = oneshot::channel();
        let generation = self.consumer()?.context().generation(partition)?;
        self.requests
            .send(Request::Start {
                partition: partition.clone(),
                next_offset,
                generation,
                queue,
            })
            .ok()?;
        started.await.ok()
    }

    /// Stops fetching `partition`; its queue can then be dropped without losing a record.
    pub async fn stop(&self, partition: &Partition) {
        let (done, stopped) = oneshot::channel();
        let generation = self
            .consumer()
            .and_then(|consumer| consumer.context().generation(partition));
        if let Some(generation) = generation
            && self
                .requests
                .send(Request::Stop {
                    partition: partition.clone(),
                    generation,
                    done,
                })
                .is_ok()
        {
            let _ = stopped.await;
        }
    }

    /// Notes that everything below the settled offset is durable; it is committed with the next poll.
    pub fn store(&self, partition: &Partition, settled: &Settled) {
        let Some(consumer) = self.consumer.get() else {
            return;
        };
        // librdkafka stores the offset behind the one that is given.
        match consumer.store_offset(
            &partition.topic,
            partition.number,
            settled.next_offset() - 1,
        ) {
            Ok(()) => consumer.context().stored.store(true, Ordering::Relaxed),
            Err(error) => {
                tracing::debug!(%partition, %error, "the offset was not stored; the checkpoint has it")
            }
        }
    }

    /// The offset behind everything delivered so far, control records included.
    pub fn position(&self, partition: &Partition) -> Option<i64> {
        let positions = self.consumer.get()?.position().ok()?;
        match positions
            .find_partition(&partition.topic, partition.number)?
            .offset()
        {
            Offset::Offset(position) => Some(position),
            _ => None,
        }
    }

    /// Waits until the poll thread has polled anew and `at_least` has passed: a revocation that was
    /// due has then been seen.
    pub async fn polled_anew(&self, at_least: Duration) {
        let mut polls = self.polls.clone();
        polls.mark_unchanged();
        tokio::time::sleep(at_least).await;
        // The first change may be a poll that had already begun.
        for _ in 0..2 {
            if polls.changed().await.is_err() {
                return;
            }
        }
    }
}
