//! Reads a part of a partition's log once more, apart from the group: nothing is subscribed to, and
//! no offset is committed. Every call blocks.

use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bson::Uuid;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::broker::{Bystander, bystander};
use super::errors::{is_permanent, is_unreadable};
use super::handle::record;
use super::log_ends::{LogEnds, log_ends};
use super::topic_id::topic_id;
use crate::config::Kafka;
use crate::record::{Partition, Record};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing may arrive before a scan gives up.
const STALL_MAX: Duration = Duration::from_secs(30);

/// How long one look at the queue waits.
const POLL: Duration = Duration::from_millis(50);

/// How much may wait unread, in KiB: what is read is looked at once and dropped.
const QUEUE_KIB_MAX: &str = "16384";

/// A consumer of its own that reads logs as the service does: only what is committed.
pub struct Scanner {
    consumer: BaseConsumer<Bystander>,
}

impl Scanner {
    /// A client of the configured brokers, which is assigned nothing yet.
    ///
    /// # Errors
    /// librdkafka's, where it does not take the configuration.
    pub fn new(kafka: &Kafka) -> anyhow::Result<Scanner> {
        let mut config = bystander(kafka);
        for (name, value) in [
            ("enable.auto.offset.store", "false"),
            ("isolation.level", "read_committed"),
            ("queued.max.messages.kbytes", QUEUE_KIB_MAX),
        ] {
            config.set(name, value);
        }
        let consumer = config.create_with_context(Bystander::default());
        Ok(Scanner {
            consumer: consumer.context("the Kafka client could not be created")?,
        })
    }

    /// Where the log of `partition` begins and ends, and the topic's id, if the broker gives one.
    ///
    /// # Errors
    /// [`KafkaError`], also where the leader does not answer.
    pub fn log(&self, partition: &Partition) -> anyhow::Result<(LogEnds, Option<Uuid>)> {
        let id = topic_id(self.consumer.client(), &partition.topic, TIMEOUT);
        let ends = log_ends(
            self.consumer.client(),
            std::slice::from_ref(partition),
            TIMEOUT,
        )?;
        let ends = ends.into_iter().next().context("no answer")?;
        let ends = ends.with_context(|| format!("the log of {partition} was not looked up"))?;
        Ok((ends, id))
    }

    /// Gives each record of `offsets`, which begin inside the log and end at or before its last
    /// stable offset, to `each`, in their order, until that breaks off. Compaction and transactions
    /// leave holes. Reads no longer than `until`.
    ///
    /// Gives the offset up to which all was read: the end of `offsets`, unless it was broken off.
    ///
    /// # Errors
    /// [`KafkaError`], where a record cannot be read, `offsets` begin before the log, or nothing
    /// arrives for half a minute.
    pub fn scan(
        &self,
        partition: &Partition,
        offsets: Range<i64>,
        until: Option<Instant>,
        each: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> anyhow::Result<i64> {
        if offsets.is_empty() {
            return Ok(offsets.end);
        }
        let mut list = TopicPartitionList::new();
        let first = Offset::Offset(offsets.start);
        list.add_partition_offset(&partition.topic, partition.number, first)?;
        self.consumer.assign(&list)?;
        let read = self.read(partition, &offsets, until, each);
        self.consumer.unassign()?;
        read.with_context(|| {
            format!(
                "the log of {partition} was not read from {} to {}",
                offsets.start, offsets.end
            )
        })
    }

    fn read(
        &self,
        partition: &Partition,
        offsets: &Range<i64>,
        until: Option<Instant>,
        mut each: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> anyhow::Result<i64> {
        let mut reached = offsets.start;
        let mut arrived = Instant::now();
        let mut last_error = None;
        loop {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(reached);
            }
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    let record = record(&message);
                    if record.offset >= offsets.end {
                        return Ok(offsets.end);
                    }
                    (reached, arrived) = (record.offset + 1, Instant::now());
                    if each(record).is_break() || reached == offsets.end {
                        return Ok(reached);
                    }
                }
                // Everything that is stable now was delivered, control records included.
                Some(Err(KafkaError::PartitionEOF(_))) | None => {
                    if self.position(partition) >= Some(offsets.end) {
                        return Ok(offsets.end);
                    }
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(code)
                        if is_permanent(code)
                            || is_unreadable(&error)
                            || code == RDKafkaErrorCode::AutoOffsetReset =>
                    {
                        return Err(error.into());
                    }
                    _ => last_error = Some(error),
                },
            }
            ensure!(
                arrived.elapsed() < STALL_MAX,
                "nothing arrived behind {reached} for {STALL_MAX:?}{}",
                last_error.map_or_else(String::new, |error| format!(": {error}"))
            );
        }
    }

    /// The offset behind what was delivered last; `None` where nothing was.
    fn position(&self, partition: &Partition) -> Option<i64> {
        let positions = self.consumer.position().ok()?;
        match positions
            .find_partition(&partition.topic, partition.number)?
            .offset()
        {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }
}
