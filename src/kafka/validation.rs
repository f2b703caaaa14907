//! Whether the log still has what stands before a position (KIP-320): the partition's leader is
//! asked for the end of the position's leader epoch.
//!
//! librdkafka asks at a seek, and not where a partition is assigned at an offset. It fetches
//! nothing before the answer; where the log has other records there, the partition gets the error
//! `AutoOffsetReset`, as for an offset outside the log.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::errors::is_unreadable;
use super::leader_epoch;
use crate::record::{Partition, Position};

/// How long librdkafka's main thread may take to begin with a seek.
const SEEK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait before a seek is repeated that came before the fetcher had begun.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// How long one look at a partition's queue waits.
const ANSWER_POLL: Duration = Duration::from_millis(5);

/// Lets an assigned partition be fetched from a position only if the log has what stands before it.
/// Where no leader epoch is known, there is nothing to ask for.
///
/// # Errors
/// librdkafka's, where the seek could not begin: then nothing was asked.
pub(super) fn seek_validated<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partition: &Partition,
    to: Position,
) -> KafkaResult<()> {
    let Some(epoch) = to.leader_epoch else {
        return Ok(());
    };
    let until = Instant::now() + SEEK_TIMEOUT;
    loop {
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(to.offset);
        list.add_partition_offset(&partition.topic, partition.number, offset)?;
        leader_epoch::set_in_list(&mut list, partition, epoch);
        let sought = consumer.seek_partitions(list, SEEK_TIMEOUT)?;
        let element = sought.find_partition(&partition.topic, partition.number);
        match element.map(|element| element.error()) {
            Some(Err(error)) if is_early(&error) && Instant::now() < until => {
                thread::sleep(RETRY_AFTER);
            }
            Some(answer) => return answer,
            None => return Ok(()),
        }
    }
}

/// Of each position, which is one of its partition's log: whether the log has other records before
/// it. `consumer` is no member of a group, reports the ends of logs, and is assigned nothing.
///
/// # Errors
/// [`KafkaError`]; also where a leader does not answer within `timeout`.
pub(super) fn diverged<C: ConsumerContext>(
    consumer: &Arc<BaseConsumer<C>>,
    positions: &[(Partition, Position)],
    timeout: Duration,
) -> anyhow::Result<Vec<bool>> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    let mut queues = Vec::with_capacity(positions.len());
    for (partition, position) in positions {
        let offset = Offset::Offset(position.offset);
        list.add_partition_offset(&partition.topic, partition.number, offset)?;
        let queue = consumer.split_partition_queue(&partition.topic, partition.number);
        queues.push(queue.with_context(|| format!("no queue for {partition}"))?);
    }
    consumer.assign(&list)?;
    for (partition, position) in positions {
        seek_validated(consumer, partition, *position)?;
    }
    let until = Instant::now() + timeout;
    let mut answers = vec![None; positions.len()];
    while answers.contains(&None) {
        ensure!(Instant::now() < until, "no answer within {timeout:?}");
        // Serves the callbacks of the client.
        let _ = consumer.poll(Duration::ZERO);
        for (answer, queue) in answers.iter_mut().zip(&queues) {
            if answer.is_none() {
                *answer = queue.poll(ANSWER_POLL).and_then(|event| verdict(&event));
            }
        }
    }
    consumer.unassign()?;
    Ok(answers.into_iter().flatten().collect())
}

/// What the first event of a partition says: a record, readable or not, or the log's end, that the
/// position is one of the log; other errors pass.
fn verdict<M>(event: &KafkaResult<M>) -> Option<bool> {
    match event {
        Ok(_) | Err(KafkaError::PartitionEOF(_)) => Some(false),
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
            Some(true)
        }
        Err(error) => is_unreadable(error).then_some(false),
    }
}

fn is_early(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::State)
}
