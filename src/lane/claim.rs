//! From an assigned partition to the right to write it: claim the checkpoint, and hold it against
//! the log.

use std::sync::Arc;
use std::time::Duration;

use bson::Uuid;
use mongodb::ClientSession;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use crate::backoff::Backoff;
use crate::checkpoint::{
    Checkpoint, Checkpoints, Claim, ClaimError, Key, PartitionLog, Sessions, Standing,
    first_offset, standing,
};
use crate::config::Start;
use crate::database::errors::Cause;
use crate::database::outage::Outage;
use crate::database::{Connection, Current};
use crate::kafka::topic_id::topic_id;
use crate::kafka::topics::KnownTopics;
use crate::kafka::{Consumer, Handle};
use crate::record::Partition;
use crate::telemetry::metrics::Metrics;
use crate::writer::{Group, Target, Writer, cause_of, sessions_of};

/// How long one question to Kafka may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// The try at which a question that Kafka does not answer is worth a log line.
const WORTH_A_LINE_AT: u32 = 5;

/// What became of a claim.
pub enum Claimed {
    /// It is ours: this writes from the claim's offset on.
    Writer(Box<Writer>),
    /// The checkpoint and the log do not fit, and only a person can say what to do; the text says how.
    Stopped(String),
}

/// Makes claims for the partitions of one group.
pub struct Claimant {
    /// The way to the consumer.
    pub handle: Handle,
    /// The consumer group.
    pub group: String,
    /// Where a group without offsets starts.
    pub start: Start,
    /// The way to the database of entities and checkpoints.
    pub connection: Connection,
    /// What the writers need.
    pub target: Arc<Target>,
    /// The topics that were known when the service started.
    pub known: KnownTopics,
    /// Whether MongoDB answers.
    pub outage: Arc<Outage>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What every try of a claim has in common, so that a try that the server runs late takes nothing from the later one that
/// succeeded. With another client it is another claim: sessions belong to a client.
struct Attempt {
    current: Current,
    checkpoints: Checkpoints,
    owner: Uuid,
    session: Option<ClientSession>,
    group: Option<Arc<Group>>,
}

impl Attempt {
    fn new(current: Current, key: Key) -> Attempt {
        Attempt {
            checkpoints: Checkpoints::new(current.database.clone(), key),
            current,
            owner: Uuid::new(),
            session: None,
            group: None,
        }
    }
}

impl Claimant {
    /// Claims `partition`, trying without limit what passes.
    pub async fn claim(&self, partition: &Partition) -> Claimed {
        let key = Key {
            group: self.group.clone(),
            partition: partition.clone(),
        };
        let mut attempt = Attempt::new(self.connection.current(), key);
        let mut backoff = Backoff::new();
        loop {
            if self.connection.is_past(attempt.current.generation) {
                let key = attempt.checkpoints.key().clone();
                attempt = Attempt::new(self.connection.current(), key);
            }
            let generation = attempt.current.generation;
            let tried = tokio::select! {
                tried = self.try_claim(&mut attempt, backoff.tries()) => tried,
                () = self.connection.expired(generation) => continue,
            };
            match tried {
                Ok(claimed) => {
                    self.outage.passed(partition);
                    return claimed;
                }
                Err(ClaimError::Unreadable(fault)) => {
                    return Claimed::Stopped(format!(
                        "{fault}; mend it with `workflows-sink offsets reset --topic {} --partition {} --to …`",
                        partition.topic, partition.number
                    ));
                }
                Err(error) => {
                    let cause = cause_of(&error);
                    self.metrics.retries(cause.as_str());
                    self.outage.failed(partition, cause, &error.to_string());
                    backoff.wait().await;
                }
            }
        }
    }

    /// One try.
    async fn try_claim(&self, attempt: &mut Attempt, tries: u32) -> Result<Claimed, ClaimError> {
        let Attempt {
            current,
            checkpoints,
            owner,
            session,
            group,
        } = attempt;
        let owner = *owner;
        let ours = match session.take() {
            Some(ours) => ours,
            None => current.database.client().start_session().await?,
        };
        if group.is_none() {
            *group = self.target.group(current).await?;
        }
        let sessions = sessions_of(&ours, group.as_deref());
        *session = Some(ours);
        let found = match checkpoints.claim(owner, sessions, tries).await? {
            Some(found) => found,
            None => match self.open(checkpoints, owner, sessions, tries).await? {
                Ok(found) => found,
                Err(stopped) => return Ok(Claimed::Stopped(stopped)),
            },
        };
        // Only now: a log looked at before the claim may end before what the last owner applied.
        let log = self.log(&checkpoints.key().partition).await;
        let found = match self
            .hold_against(checkpoints, owner, found, &log, tries)
            .await?
        {
            Ok(found) => found,
            Err(stopped) => return Ok(Claimed::Stopped(stopped)),
        };
        let claim = Claim {
            owner,
            next_offset: found.next_offset,
            epoch: found.epoch,
            topic_id: found.topic_id,
        };
        let partition = &checkpoints.key().partition;
        tracing::info!(%partition, next_offset = claim.next_offset, epoch = claim.epoch, "claimed");
        let writer = Writer::new(
            Arc::clone(&self.target),
            self.connection.clone(),
            current.clone(),
            session.take().ok_or(ClaimError::Outrun)?,
            checkpoints.clone(),
            claim,
            Arc::clone(&self.outage),
        );
        Ok(Claimed::Writer(Box::new(writer.joining(group.clone()))))
    }

    /// Makes the checkpoint, at the offset where a partition without one begins; or says why none fits.
    async fn open(
        &self,
        checkpoints: &Checkpoints,
        owner: Uuid,
        sessions: Sessions,
        tries: u32,
    ) -> Result<Result<Checkpoint, String>, ClaimError> {
        let partition = &checkpoints.key().partition;
        let log = self.log(partition).await;
        let first = match first_offset(&log, self.start) {
            Ok(first) => first,
            // Made all the same, to be marked and stopped: the log may grow past it.
            Err(Standing::Truncated) => log.committed.unwrap_or(log.offsets.end),
            Err(standing) => {
                return Ok(Err(advice(
                    partition,
                    standing,
                    "committed offset",
                    log.committed,
                    &log,
                )));
            }
        };
        tracing::info!(%partition, next_offset = first, committed = log.committed, "no checkpoint yet: the first claim");
        match checkpoints
            .open(owner, sessions, first, log.topic_id, tries)
            .await?
        {
            Some(found) => Ok(Ok(found)),
            None => Err(ClaimError::Outrun),
        }
    }

    /// Holds a claimed checkpoint against the log, and moves it where the topic is another one.
    async fn hold_against(
        &self,
        checkpoints: &Checkpoints,
        owner: Uuid,
        found: Checkpoint,
        log: &PartitionLog,
        tries: u32,
    ) -> Result<Result<Checkpoint, String>, ClaimError> {
        let partition = &checkpoints.key().partition;
        let held = match standing(&found, log) {
            Standing::Resume => Some(found),
            Standing::Adopt(id) => checkpoints.relocate(owner, id, None, tries).await?,
            Standing::Recreated(id) => {
                let was = found.topic_id.unwrap_or_default();
                tracing::warn!(
                    %partition, %was, is = %id, next_offset = log.offsets.start,
                    "the topic was deleted and made anew: a fresh lineage, from the start of the log"
                );
                return match checkpoints
                    .relocate(owner, id, Some(log.offsets.start), tries)
                    .await?
                {
                    Some(found) => Ok(Ok(found)),
                    None => Err(ClaimError::Outrun),
                };
            }
            standing @ (Standing::Expired | Standing::Truncated) => {
                if standing == Standing::Truncated && !found.truncated {
                    let marked = checkpoints.mark_truncated(owner, tries).await?;
                    marked.ok_or(ClaimError::Outrun)?;
                }
                return Ok(Err(advice(
                    partition,
                    standing,
                    "checkpoint",
                    Some(found.next_offset),
                    log,
                )));
            }
        };
        let found = held.ok_or(ClaimError::Outrun)?;
        if let Some(committed) = log
            .committed
            .filter(|committed| *committed > found.next_offset)
        {
            tracing::warn!(
                %partition, committed, next_offset = found.next_offset,
                "the group's committed offset is ahead of the checkpoint: it was moved by hand, MongoDB was restored from \
                 a backup, or another sink ran meanwhile; going on from the checkpoint, since replaying is safe and \
                 skipping loses records (to skip all the same: `workflows-sink offsets reset --to OFFSET`)"
            );
        }
        Ok(Ok(found))
    }

    /// What Kafka knows of a partition, asked until it answers.
    async fn log(&self, partition: &Partition) -> PartitionLog {
        let mut backoff = Backoff::new();
        loop {
            if let Some(consumer) = self.handle.answering() {
                let (group_partition, known) = (partition.clone(), self.known.has(partition));
                let asked = tokio::task::spawn_blocking(move || {
                    look_up(&consumer, &group_partition, known)
                })
                .await;
                match asked {
                    Ok(Ok(log)) => return log,
                    Ok(Err(error)) if backoff.tries() == WORTH_A_LINE_AT => {
                        tracing::warn!(%partition, %error, "Kafka does not say where the log begins and ends; asking until it does");
                    }
                    Ok(Err(error)) => tracing::debug!(%partition, %error, "asking for the log"),
                    Err(error) => {
                        tracing::error!(%partition, %error, "the question for the log was not finished")
                    }
                }
                self.metrics.retries(Cause::Network.as_str());
            }
            backoff.wait().await;
        }
    }
}

/// Asks Kafka for a partition's log: the topic's id, first and last offset, committed offset. Blocks.
pub fn look_up(
    consumer: &Consumer,
    partition: &Partition,
    known: bool,
) -> KafkaResult<PartitionLog> {
    // First: a topic made anew after this is found by the watch over ids, but a new id beside the old
    // log's start would begin in the middle of the new log.
    let topic_id = topic_id(consumer.client(), &partition.topic, LOOKUP_TIMEOUT);
    let (start, end) =
        consumer.fetch_watermarks(&partition.topic, partition.number, LOOKUP_TIMEOUT)?;
    let mut list = TopicPartitionList::new();
    list.add_partition(&partition.topic, partition.number);
    let committed = consumer.committed_offsets(list, LOOKUP_TIMEOUT)?;
    let committed = committed.find_partition(&partition.topic, partition.number);
    let committed = committed.and_then(|element| match element.offset() {
        Offset::Offset(offset) if offset >= 0 => Some(offset),
        _ => None,
    });
    Ok(PartitionLog {
        topic_id,
        offsets: start..end,
        committed,
        known,
    })
}

/// What is wrong and which command resolves it, for a person.
fn advice(
    partition: &Partition,
    standing: Standing,
    what: &str,
    offset: Option<i64>,
    log: &PartitionLog,
) -> String {
    let (start, end) = (log.offsets.start, log.offsets.end);
    let grown = offset.is_some_and(|offset| offset <= end);
    let offset = offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string());
    let wrong = match standing {
        Standing::Expired => format!(
            "its {what} {offset} is before the log's start {start}: records were deleted before they were applied"
        ),
        _ if grown => format!(
            "its {what} {offset} was past the log's end: the log was truncated, and has grown since with other records"
        ),
        _ => format!("its {what} {offset} is past the log's end {end}: the log was truncated"),
    };
    format!(
        "{wrong}; look with `workflows-sink offsets show`, then `workflows-sink offsets resolve --topic {} --partition {}` \
         goes on from the log's start, once you accept that",
        partition.topic, partition.number
    )
}
