//! Where a log can be read again behind a batch of records that cannot be. Neither the broker nor
//! librdkafka tells where such a batch ends; reading anywhere in it fails.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::errors::{code_of, is_unreadable};
use super::handle::forget_what_is_left;
use crate::record::Partition;

/// How many offsets are tried one by one.
const ONE_BY_ONE_MAX: usize = 1_000;

/// How long one look at a partition's queue waits.
const ANSWER_POLL: Duration = Duration::from_millis(20);

/// The first of `offsets` from which `partition` can be read, or their end. `consumer` is no member
/// of a group, reports the ends of logs, and is assigned nothing.
///
/// # Errors
/// [`KafkaError`]; also where the leader does not answer within `timeout`.
pub(super) fn readable_from<C: ConsumerContext>(
    consumer: &Arc<BaseConsumer<C>>,
    partition: &Partition,
    offsets: Range<i64>,
    timeout: Duration,
) -> anyhow::Result<i64> {
    search(offsets, |offset| {
        is_readable(consumer, partition, offset, timeout)
    })
}

/// The first of `offsets` that is readable, or their end: one by one, since readable batches may
/// stand between others; behind [`ONE_BY_ONE_MAX`] by steps that double, then by halves.
fn search(
    offsets: Range<i64>,
    is_readable: impl Fn(i64) -> anyhow::Result<bool>,
) -> anyhow::Result<i64> {
    let Range { start, end } = offsets;
    let mut bad = start;
    for offset in (start..end).take(ONE_BY_ONE_MAX) {
        if is_readable(offset)? {
            return Ok(offset);
        }
        bad = offset;
    }
    let mut step = 1;
    let mut good = loop {
        let next = bad + step;
        if next >= end {
            break end;
        }
        if is_readable(next)? {
            break next;
        }
        (bad, step) = (next, step * 2);
    };
    while good - bad > 1 {
        let middle = bad + (good - bad) / 2;
        match is_readable(middle)? {
            true => good = middle,
            false => bad = middle,
        }
    }
    Ok(good)
}

fn is_readable<C: ConsumerContext>(
    consumer: &Arc<BaseConsumer<C>>,
    partition: &Partition,
    offset: i64,
    timeout: Duration,
) -> anyhow::Result<bool> {
    let until = Instant::now() + timeout;
    loop {
        ensure!(Instant::now() < until, "no answer within {timeout:?}");
        if let Some(found) = look(consumer, partition, offset, until)? {
            return Ok(found);
        }
    }
}

/// What comes first from `offset` on; `None` where nothing came until then, or only the answer
/// about an offset that librdkafka took out of a damaged batch (see [`forget_what_is_left`]).
fn look<C: ConsumerContext>(
    consumer: &Arc<BaseConsumer<C>>,
    partition: &Partition,
    offset: i64,
    until: Instant,
) -> anyhow::Result<Option<bool>> {
    let mut list = TopicPartitionList::new();
    let (topic, number) = (&partition.topic, partition.number);
    list.add_partition_offset(topic, number, Offset::Offset(offset))?;
    let queue = consumer.split_partition_queue(topic, number);
    let queue = queue.context("no queue")?;
    forget_what_is_left(&queue);
    consumer.assign(&list)?;
    let found = loop {
        // Serves the callbacks of the client.
        let _ = consumer.poll(Duration::ZERO);
        match queue.poll(ANSWER_POLL) {
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => break Some(true),
            Some(Err(error)) if is_unreadable(&error) => break Some(false),
            Some(Err(error)) if code_of(&error) == RDKafkaErrorCode::AutoOffsetReset => break None,
            Some(Err(error)) => return Err(error.into()),
            None if Instant::now() >= until => break None,
            None => {}
        }
    };
    consumer.unassign()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_readable_offset_is_found_wherever_it_is() {
        for end in [1, 7, 999, 1_000, 1_001, 1_070, 5_000] {
            for good in [
                0, 1, 6, 998, 1_000, 1_001, 1_002, 1_033, 1_069, 4_999, 5_000,
            ] {
                let found = search(0..end, |offset| Ok(offset >= good)).unwrap();
                assert_eq!(found, good.min(end), "of {end}");
            }
        }
        // Readable ones between others are not stepped over.
        let mixed = |offset| Ok(offset == 12 || offset >= 20);
        assert_eq!(search(10..100, mixed).unwrap(), 12);
        assert_eq!(search(5..5, |_| Ok(false)).unwrap(), 5);
    }
}
