//! Where logs begin and end, and which leader says so. The safe API has the offsets only, and waits
//! for one partition after the other.
#![allow(unsafe_code)]

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use rdkafka_sys as sys;

use super::admin_request::{self, Asked};
use crate::record::{Partition, Position};

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    /// The offset of its first record.
    pub start: i64,
    /// Behind the last record that all replicas in sync have: the high watermark.
    pub high_watermark: i64,
    /// Up to where no transaction is open: the last stable offset.
    pub stable_end: i64,
    /// The epoch of the leader that answered; `None` where it told none.
    pub leader_epoch: Option<i32>,
}

/// Asks the leaders for the ends of the logs of `partitions`, which are given in that order, each
/// unless its leader does not answer. Blocks for up to four times `timeout`, and a second each.
///
/// # Errors
/// [`KafkaError`]; those of single partitions name them.
pub fn log_ends<C: ClientContext>(
    client: &Client<C>,
    partitions: &[Partition],
    timeout: Duration,
) -> anyhow::Result<Vec<anyhow::Result<LogEnds>>> {
    LogEndsAsked::send(client, partitions, timeout)?.answer()
}

/// The question for the ends of some logs.
pub(super) struct LogEndsAsked<'c, 'p, C: ClientContext> {
    client: &'c Client<C>,
    partitions: &'p [Partition],
    timeout: Duration,
    /// For each of [`ENDS`].
    asked: [Asked<'c>; 3],
}

impl<'c, 'p, C: ClientContext> LogEndsAsked<'c, 'p, C> {
    /// Asks for all ends at the same time. Does not block.
    ///
    /// # Errors
    /// [`KafkaError`].
    pub(super) fn send(
        client: &'c Client<C>,
        partitions: &'p [Partition],
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let send = |end| send(client, partitions, end, timeout);
        let [start, stable_end, end] = ENDS.map(send);
        Ok(LogEndsAsked {
            client,
            partitions,
            timeout,
            asked: [start?, stable_end?, end?],
        })
    }

    /// The answers: see [`log_ends`].
    pub(super) fn answer(self) -> anyhow::Result<Vec<anyhow::Result<LogEnds>>> {
        let partitions = self.partitions;
        let [starts, stable_ends, ends] = self.asked.map(|asked| answer(asked, partitions));
        let found = combined([starts?, stable_ends?, ends?]);
        if found.iter().flatten().all(LogEnds::are_of_one_log) {
            return Ok(found);
        }
        // One after the other in this order they are, though the log goes on meanwhile.
        let ask = |end| {
            answer(
                send(self.client, partitions, end, self.timeout)?,
                partitions,
            )
        };
        let [start, stable_end, end] = ENDS;
        Ok(combined([ask(start)?, ask(stable_end)?, ask(end)?]))
    }
}

impl LogEnds {
    /// Whether a reader can go on from `offset`, as far as the log's ends say.
    pub(super) fn hold(&self, offset: i64) -> bool {
        (self.start..=self.high_watermark).contains(&offset)
    }

    /// Whether they follow each other as those of one log do at any time.
    fn are_of_one_log(&self) -> bool {
        self.start <= self.stable_end && self.stable_end <= self.high_watermark
    }
}

/// What is asked of a log.
#[derive(Clone, Copy)]
enum End {
    Start,
    Stable,
    All,
}

/// In the order in which none stands behind another of the same log that was asked for later.
const ENDS: [End; 3] = [End::Start, End::Stable, End::All];

type Positions = Vec<anyhow::Result<Position>>;

/// Of the answers for each of [`ENDS`].
fn combined([starts, stable_ends, ends]: [Positions; 3]) -> Vec<anyhow::Result<LogEnds>> {
    let all = starts.into_iter().zip(stable_ends).zip(ends);
    let ends = all.map(|((start, stable_end), end)| {
        let end = end?;
        Ok(LogEnds {
            start: start?.offset,
            stable_end: stable_end?.offset,
            high_watermark: end.offset,
            leader_epoch: end.leader_epoch,
        })
    });
    ends.collect()
}

fn send<'c, C: ClientContext>(
    client: &'c Client<C>,
    partitions: &[Partition],
    end: End,
    timeout: Duration,
) -> anyhow::Result<Asked<'c>> {
    use sys::rd_kafka_IsolationLevel_t::{
        RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED as COMMITTED,
        RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED as ALL,
    };
    let (at, isolation) = match end {
        End::Start => (Offset::Beginning, ALL),
        End::Stable => (Offset::End, COMMITTED),
        End::All => (Offset::End, ALL),
    };
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(&partition.topic, partition.number, at)?;
    }
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    // SAFETY: one such request is enqueued; the list outlives the call, which copies it. The error
    // of the option is destroyed; it is none for these two levels.
    let asked = unsafe {
        admin_request::send(client, op, timeout, |request| {
            let error = sys::rd_kafka_AdminOptions_set_isolation_level(request.options, isolation);
            if !error.is_null() {
                sys::rd_kafka_error_destroy(error);
            }
            sys::rd_kafka_ListOffsets(request.handle, list.ptr(), request.options, request.queue);
        })
    };
    Ok(asked)
}

/// The positions of `partitions`, which were asked for, in their order.
fn answer(asked: Asked<'_>, partitions: &[Partition]) -> anyhow::Result<Positions> {
    // SAFETY: a request for offsets was sent.
    let answered = unsafe { asked.answer(|event| Some(read(event))) };
    let answered = answered.context("no answer for the ends of the logs")??;
    let position = |partition: &Partition| {
        let same = |found: &&(Partition, _)| found.0 == *partition;
        let found = answered.iter().find(same);
        let (_, position) = found.with_context(|| format!("no answer for {partition}"))?;
        position
            .clone()
            .with_context(|| format!("the ends of the log of {partition}"))
    };
    Ok(partitions.iter().map(position).collect())
}

type Answer = (Partition, Result<Position, KafkaError>);

/// The offsets in an answer, or its error.
///
/// # Safety
/// `event` must be the live answer to a request for offsets.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> anyhow::Result<Vec<Answer>> {
    // SAFETY: the result and what it points to live as long as the event does, which the caller
    // keeps; a pointer that may be null is checked before it is followed.
    unsafe {
        let code = sys::rd_kafka_event_error(event);
        let result = sys::rd_kafka_event_ListOffsets_result(event);
        if result.is_null() || code as i32 != 0 {
            let code = RDKafkaErrorCode::from(code);
            return Err(KafkaError::OffsetFetch(code)).context("the ends of the logs");
        }
        let mut count = 0;
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
        let info = |index| {
            let info = *infos.add(index);
            let found = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
            let topic = std::ffi::CStr::from_ptr(found.topic).to_string_lossy();
            let epoch = sys::rd_kafka_topic_partition_get_leader_epoch(found);
            let position = Position {
                offset: found.offset,
                leader_epoch: (epoch >= 0).then_some(epoch),
            };
            let position = match found.err as i32 {
                0 if position.offset >= 0 => Ok(position),
                // Its leader did not answer in time.
                0 => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::OperationTimedOut)),
                _ => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::from(found.err))),
            };
            (Partition::new(topic.as_ref(), found.partition), position)
        };
        Ok((0..count).map(info).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_holds_what_a_reader_can_go_on_from() {
        let ends = LogEnds {
            start: 5,
            high_watermark: 8,
            stable_end: 7,
            leader_epoch: None,
        };
        let held = [4, 5, 8, 9].map(|offset| ends.hold(offset));
        assert_eq!(held, [false, true, true, false]);
    }
}
