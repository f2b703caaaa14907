//! Records that are due at set times, and what became of them.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use local_stack::Message;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};

use crate::visible::Moves;

/// The producer sends at once, not after librdkafka's 5 ms, which no service can make up for. It is
/// idempotent, so that no more than five requests are under way: where the broker is behind, more
/// records go into each.
const PRODUCER: [(&str, &str); 4] = [
    ("compression.type", "zstd"),
    ("partitioner", "murmur2_random"),
    ("linger.ms", "0"),
    ("enable.idempotence", "true"),
];

/// A producer like that, which notes what the broker acknowledges.
pub fn producer(bootstrap: &str) -> Result<ThreadedProducer<Acknowledged>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config.extend(PRODUCER.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Ok(config.create_with_context(Acknowledged::default())?)
}

/// Hands over a record that was due at `due`, and does not wait.
pub fn send(
    producer: &ThreadedProducer<Acknowledged>,
    topic: &str,
    message: &Message,
    due: Instant,
) -> Result<(), KafkaError> {
    let mut record = BaseRecord::<[u8], [u8], Box<Instant>>::with_opaque_to(topic, Box::new(due));
    record.key = message.key.as_deref();
    record.payload = message.value.as_deref();
    record.partition = message.partition;
    producer.send(record).map_err(|(error, _)| error)
}

/// One record that the broker has.
pub struct Sent {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When it was due.
    pub at: Instant,
    /// From then to the broker's answer, in milliseconds.
    pub acknowledged_ms: f64,
}

/// Notes what the broker acknowledges.
#[derive(Default)]
pub struct Acknowledged(Mutex<Vec<Sent>>);

impl Acknowledged {
    /// What was acknowledged so far, once.
    pub fn taken(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<Instant>;

    fn delivery(&self, result: &DeliveryResult<'_>, at: Box<Instant>) {
        if let Ok(message) = result {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Sent {
                    partition: message.partition(),
                    offset: message.offset(),
                    at: *at,
                    acknowledged_ms: at.elapsed().as_secs_f64() * 1e3,
                });
        }
    }
}

/// The last offset of each partition.
pub fn last(sent: &[Sent]) -> BTreeMap<i32, i64> {
    sent.iter().fold(BTreeMap::new(), |mut last, s| {
        let offset: &mut i64 = last.entry(s.partition).or_default();
        *offset = s.offset.max(*offset);
        last
    })
}

/// For each record that was due in `when`, how long it took until a majority had its checkpoint
/// behind it, in milliseconds.
pub fn delays_ms(sent: &[Sent], moves: &Moves, when: impl RangeBounds<Instant>) -> Vec<f64> {
    let delay = |s: &Sent| {
        let moves = moves.get(&s.partition)?;
        let first = moves.partition_point(|moved| moved.next_offset <= s.offset);
        let visible = moves.get(first)?.at;
        Some(visible.saturating_duration_since(s.at).as_secs_f64() * 1e3)
    };
    let counted = sent.iter().filter(|s| when.contains(&s.at));
    counted.filter_map(delay).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::visible::Moved;

    #[test]
    fn a_record_is_visible_once_its_checkpoint_has_moved_behind_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let sent = |partition, offset, ms| Sent {
            partition,
            offset,
            at: at(ms),
            acknowledged_ms: 0.0,
        };
        let moved = |next_offset, ms| Moved {
            next_offset,
            at: at(ms),
        };
        let moves = BTreeMap::from([
            (0, vec![moved(1, 10), moved(2, 30)]),
            (1, vec![moved(2, 20)]),
        ]);
        let all = [sent(0, 0, 3), sent(0, 1, 12), sent(1, 0, 4), sent(1, 1, 4)];
        assert_eq!(delays_ms(&all, &moves, start..), [7.0, 18.0, 16.0, 16.0]);
        assert_eq!(delays_ms(&all, &moves, at(4)..at(12)), [16.0, 16.0]);
        assert_eq!(last(&all), BTreeMap::from([(0, 1), (1, 1)]));
        assert_eq!(delays_ms(&[sent(0, 0, 3)], &moves, at(4)..), [0.0; 0]);
    }
}
