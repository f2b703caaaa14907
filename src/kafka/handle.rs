//! The lanes' side of the poll thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message as _};
use tokio::sync::{Notify, oneshot, watch};

use super::consumer::Shared;
use super::errors::is_unreadable;
use super::headers::headers;
use super::leader_epoch;
use super::member_id::member_id;
use super::{Consumer, Context};
use crate::record::{Partition, Position, Record};
use crate::telemetry::code::Code;
use crate::writer::Settled;

/// What lanes ask of the poll thread.
pub(super) enum Request {
    Start {
        partition: Partition,
        from: Position,
        generation: u64,
        queue: oneshot::Sender<KafkaResult<LaneQueue>>,
    },
    Stop {
        partition: Partition,
        generation: u64,
        done: oneshot::Sender<()>,
    },
    Renew(Renewal),
}

/// A new consumer in place of the one in use.
pub(super) struct Renewal {
    /// Why, for the log.
    pub(super) why: &'static str,
    /// librdkafka's, where others than those in use.
    pub(super) properties: Option<BTreeMap<String, String>>,
}

impl Renewal {
    /// This one in place of one that has not begun: what that was to change is changed as well.
    pub(super) fn after(mut self, pending: Option<Renewal>) -> Renewal {
        let properties = pending.and_then(|pending| pending.properties);
        self.properties = self.properties.or(properties);
        self
    }
}

/// Why a partition is not fetched.
#[derive(Debug)]
pub enum NotStarted {
    /// It is no longer assigned as it was when its lane began.
    Revoked,
    /// librdkafka does not fetch it.
    Failed(KafkaError),
}

/// What a partition's queue has next.
pub enum Arrival<'q> {
    /// A record.
    Message(BorrowedMessage<'q>),
    /// The log ends here, for now.
    LogEnd,
    /// Nothing has arrived yet.
    Nothing,
    /// A batch of records came that cannot be read: damaged, or not to be unpacked.
    Unreadable(KafkaError),
    /// The partition cannot be read.
    Error(KafkaError),
}

/// The records of one partition, as they arrive.
pub struct LaneQueue {
    pub(super) queue: PartitionQueue<Context>,
    pub(super) wake: Arc<Notify>,
}

impl LaneQueue {
    /// What comes next; never waits.
    pub fn next(&self) -> Arrival<'_> {
        match self.queue.poll(Duration::ZERO) {
            None => Arrival::Nothing,
            Some(Ok(message)) => Arrival::Message(message),
            Some(Err(KafkaError::PartitionEOF(_))) => Arrival::LogEnd,
            Some(Err(error)) if is_unreadable(&error) => Arrival::Unreadable(error),
            Some(Err(error)) => Arrival::Error(error),
        }
    }

    /// Waits until something may have arrived; at most for `at_most`, since the wake-up is only a
    /// hint.
    pub async fn wait(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.wake.notified()).await;
    }
}

/// Empties the queue of a partition that is about to be assigned. What was fetched before,
/// librdkafka drops by itself, but not the error about an offset that the log does not have; and
/// behind a batch whose checksum is wrong it asks for some offset that it takes out of the batch
/// (`rd_kafka_buf_skip_to` in its `rdkafka_msgset_reader.c`).
pub(super) fn forget_what_is_left<C: ConsumerContext>(queue: &PartitionQueue<C>) {
    while queue.poll(Duration::ZERO).is_some() {}
}

/// A message of librdkafka as a record, its bytes borrowed where they are.
pub fn record<'a>(message: &'a BorrowedMessage<'_>) -> Record<'a> {
    let headers = headers(message).unwrap_or_else(|| {
        tracing::warn!(
            code = %Code::HeadersUnreadable,
            topic = message.topic(),
            partition = message.partition(),
            offset = message.offset(),
            "the record's headers cannot be read; it goes on without them"
        );
        Vec::new()
    });
    Record {
        offset: message.offset(),
        leader_epoch: leader_epoch::of_message(message),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key(),
        value: message.payload(),
        headers,
    }
}

/// The lanes' side of the poll thread.
#[derive(Clone)]
pub struct Handle {
    pub(super) consumer: Shared,
    pub(super) requests: Sender<Request>,
    pub(super) polls: watch::Receiver<u64>,
    pub(super) rebalances: watch::Receiver<u64>,
}

impl Handle {
    /// The consumer.
    pub fn consumer(&self) -> Option<Arc<Consumer>> {
        self.consumer.read().clone()
    }

    /// Changes with each round of a rebalance that has been answered.
    pub(super) fn rebalances(&self) -> watch::Receiver<u64> {
        self.rebalances.clone()
    }

    /// Lets the poll thread leave the group, and join it with a new consumer, because of `why`;
    /// from these properties of librdkafka, or those in use.
    pub fn renew(&self, why: &'static str, properties: Option<BTreeMap<String, String>>) {
        // Without a poll thread there is no consumer to replace.
        let renewal = Renewal { why, properties };
        let _ = self.requests.send(Request::Renew(renewal));
    }

    /// The consumer, for lookups: not while all brokers are down. As long as a lookup waits for
    /// one, librdkafka reconnects every 10 ms and wakes all that waits each time, which was seen to
    /// take half a core.
    pub fn answering(&self) -> Option<Arc<Consumer>> {
        let consumer = self.consumer()?;
        (!consumer.context().is_down()).then_some(consumer)
    }

    /// This worker's id in its group; `None` where it is not a member now.
    pub async fn member_id(&self) -> Option<String> {
        let consumer = self.consumer()?;
        if !consumer.context().is_joined() {
            return None;
        }
        let asked = tokio::task::spawn_blocking(move || member_id(consumer.client()));
        asked.await.ok().flatten()
    }

    /// Starts fetching `partition` from a position, if it is still assigned as it was when its lane
    /// began. Where the log has other records before it, nothing arrives but an error.
    pub async fn start(
        &self,
        partition: &Partition,
        from: Position,
    ) -> Result<LaneQueue, NotStarted> {
        let (queue, started) = oneshot::channel();
        let generation = self.generation(partition).ok_or(NotStarted::Revoked)?;
        let request = Request::Start {
            partition: partition.clone(),
            from,
            generation,
            queue,
        };
        // Without a poll thread, or where it drops the request, nothing is assigned.
        let sent = self.requests.send(request);
        sent.map_err(|_| NotStarted::Revoked)?;
        let started = started.await.map_err(|_| NotStarted::Revoked)?;
        started.map_err(NotStarted::Failed)
    }

    /// Stops fetching `partition`; its queue can then be dropped without losing a record.
    pub async fn stop(&self, partition: &Partition) {
        let (done, stopped) = oneshot::channel();
        let Some(generation) = self.generation(partition) else {
            return;
        };
        let request = Request::Stop {
            partition: partition.clone(),
            generation,
            done,
        };
        if self.requests.send(request).is_ok() {
            // Without a poll thread nothing is fetched any more.
            let _ = stopped.await;
        }
    }

    fn generation(&self, partition: &Partition) -> Option<u64> {
        self.consumer()?.context().generation(partition)
    }

    /// Notes that everything below the settled offset is durable; the next poll commits it.
    pub fn store(&self, partition: &Partition, settled: &Settled) {
        let Some(consumer) = self.consumer() else {
            return;
        };
        // librdkafka stores the offset behind the one that is given.
        let last = settled.next_offset() - 1;
        match consumer.store_offset(&partition.topic, partition.number, last) {
            Ok(()) => consumer.context().stored.store(true, Ordering::Relaxed),
            Err(error) => tracing::debug!(
                %partition, %error,
                "the offset was not stored; the checkpoint has it"
            ),
        }
    }

    /// The position behind everything delivered so far, control records included; `None` where
    /// librdkafka does not know it.
    pub fn position(&self, partition: &Partition) -> Option<Position> {
        let positions = match self.consumer()?.position() {
            Ok(positions) => positions,
            Err(error) => {
                tracing::debug!(%partition, %error, "the position is not known");
                return None;
            }
        };
        let found = positions.find_partition(&partition.topic, partition.number)?;
        match found.offset() {
            Offset::Offset(offset) => Some(Position {
                offset,
                leader_epoch: leader_epoch::in_list(&positions, partition),
            }),
            _ => None,
        }
    }

    /// Waits for a whole poll after `at_least` has passed: a revocation that was due has then been
    /// seen.
    pub async fn await_polls(&self, at_least: Duration) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_that_has_not_begun_keeps_its_new_credentials() {
        let of = |name: &str| Some(BTreeMap::from([("name".to_owned(), name.to_owned())]));
        let renewal = |properties| Renewal {
            why: "why",
            properties,
        };
        for (pending, next, expected) in [
            (Some(renewal(of("new"))), None, of("new")),
            (Some(renewal(of("new"))), of("newer"), of("newer")),
            (Some(renewal(None)), of("new"), of("new")),
            (None, None, None),
        ] {
            assert_eq!(renewal(next).after(pending).properties, expected);
        }
    }
}
