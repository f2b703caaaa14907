//! From an assigned partition to the right to write it: claim the checkpoint, and compare it with
//! the log.

use std::sync::Arc;
use std::time::Duration;

use bson::Uuid;
use mongodb::ClientSession;

use super::doubt::Doubt;
use super::fit::{advice, fit};
use super::stopped::Stop;
use crate::backoff::Backoff;
use crate::checkpoint::{
    Checkpoint, Checkpoints, Claim, ClaimError, Key, PartitionLog, Sessions, Standing, first_offset,
};
use crate::config::Start;
use crate::database::outage::Outage;
use crate::database::{Connection, Current};
use crate::kafka::Handle;
use crate::kafka::broker::{
    Expected, committed_offsets, is_refused, partition_logs, refresh_metadata,
};
use crate::kafka::refused;
use crate::kafka::topics::KnownTopics;
use crate::record::{Partition, Position};
use crate::telemetry::causes::told;
use crate::telemetry::code::Code;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reminder::Reminder;
use crate::writer::{Group, Target, Writer, cause_of, sessions_of};

/// The try from which on it is logged that Kafka does not answer.
const LOGGED_AT_TRY: u32 = 5;

/// How long to wait before a log that does not seem to fit is looked at again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What became of a claim.
pub enum Claimed {
    /// It is ours: this writes from the claim's offset on.
    Writer(Box<Writer>),
    /// Only a person can say what to do. With the owner that the claim made, if the checkpoint
    /// could be claimed.
    Stopped(Stop, Uuid),
}

/// Why a try did not make a claim.
pub(super) enum Unclaimed {
    /// The checkpoint and the log do not fit, or the checkpoint is halted: see
    /// [`Claimed::Stopped`].
    Stopped(Stop),
    /// They do not seem to fit, or the broker that answered is behind: look again. With what a
    /// person should know meanwhile.
    Doubtful(Option<String>),
    /// The checkpoint could not be claimed.
    Failed(ClaimError),
}

impl Unclaimed {
    /// With the offset of the checkpoint that was compared with the log.
    fn at(self, next_offset: i64) -> Unclaimed {
        match self {
            Unclaimed::Stopped(stop) => Unclaimed::Stopped(Stop {
                next_offset: Some(next_offset),
                ..stop
            }),
            other => other,
        }
    }
}

impl From<ClaimError> for Unclaimed {
    fn from(error: ClaimError) -> Self {
        Unclaimed::Failed(error)
    }
}

impl From<mongodb::error::Error> for Unclaimed {
    fn from(error: mongodb::error::Error) -> Self {
        Unclaimed::Failed(error.into())
    }
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
    /// What the worker lacks.
    pub health: Arc<Health>,
}

/// What all tries of a claim have in common, so that a try that the server runs late takes nothing
/// from the later one that succeeded. Another client makes another claim: sessions belong to a
/// client.
struct Attempt {
    current: Current,
    checkpoints: Checkpoints,
    owner: Uuid,
    session: Option<ClientSession>,
    group: Option<Arc<Group>>,
    /// With which sessions it was claimed.
    claimed: Option<Sessions>,
    /// How many tries have failed.
    tries: u32,
}

impl Attempt {
    fn new(current: Current, key: Key) -> Attempt {
        Attempt {
            checkpoints: Checkpoints::new(current.database.clone(), key),
            current,
            owner: Uuid::new(),
            session: None,
            group: None,
            claimed: None,
            tries: 0,
        }
    }
}

impl Claimant {
    /// Claims `partition`; what is transient is retried without limit. `doubt` is what earlier
    /// claims found to speak against the checkpoint.
    pub(super) async fn claim(&self, partition: &Partition, doubt: &mut Doubt) -> Claimed {
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
            attempt.tries = backoff.tries();
            let generation = attempt.current.generation;
            let tried = tokio::select! {
                tried = self.try_claim(&mut attempt, doubt) => tried,
                () = self.connection.expired(generation) => continue,
            };
            match tried {
                Ok(writer) => {
                    self.outage.passed(partition);
                    return Claimed::Writer(Box::new(writer));
                }
                Err(Unclaimed::Stopped(why)) => {
                    self.outage.passed(partition);
                    return Claimed::Stopped(why, attempt.owner);
                }
                Err(Unclaimed::Doubtful(why)) => {
                    self.outage.passed(partition);
                    if why.is_some() {
                        self.health.note(&partition.to_string(), why.as_deref());
                    }
                    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                }
                Err(Unclaimed::Failed(ClaimError::Unreadable(fault))) => {
                    self.outage.passed(partition);
                    let why = format!(
                        "{fault}; repair it with `workflows-sink offsets reset --topic {} \
                         --partition {} --to …`",
                        partition.topic, partition.number
                    );
                    return Claimed::Stopped(
                        Stop::new(Code::CheckpointUnreadable, why),
                        attempt.owner,
                    );
                }
                Err(Unclaimed::Failed(error)) => {
                    let cause = cause_of(&error);
                    self.metrics.retries(cause.as_str());
                    self.outage
                        .failed(partition, cause, &error.to_string(), None);
                    backoff.wait().await;
                }
            }
        }
    }

    async fn try_claim(
        &self,
        attempt: &mut Attempt,
        doubt: &mut Doubt,
    ) -> Result<Writer, Unclaimed> {
        let Attempt {
            current,
            checkpoints,
            owner,
            session,
            group,
            claimed,
            tries,
        } = attempt;
        let (owner, tries) = (*owner, *tries);
        let ours = match session {
            Some(ours) => ours,
            None => session.insert(current.database.client().start_session().await?),
        };
        if group.is_none() {
            *group = self.target.group(current).await?;
        }
        let sessions = sessions_of(ours, group.as_deref());
        // Looked at again, in doubt about the log: what nobody else has claimed is ours still.
        let held = match *claimed == Some(sessions) {
            true => checkpoints.read().await?,
            false => None,
        };
        let found = match held.filter(|found| found.owner == Some(owner)) {
            Some(found) => found,
            None => {
                checkpoints.claimed_as(self.handle.member_id().await);
                match checkpoints.claim(owner, sessions, tries).await? {
                    Some(found) => found,
                    None => self.open(checkpoints, owner, sessions, tries).await?,
                }
            }
        };
        *claimed = Some(sessions);
        // Only now: a log looked at before the claim may end before what the last owner applied.
        let partition = &checkpoints.key().partition;
        let log = self.log(partition, doubt, expected(&found)).await;
        let next_offset = found.next_offset;
        let found = fit(checkpoints, found, &log, doubt, tries).await;
        let found = found.map_err(|unclaimed| unclaimed.at(next_offset))?;
        let claim = Claim {
            owner,
            position: found.position(),
            epoch: found.epoch,
            topic_id: found.topic_id,
            former_topic_ids: found.former_topic_ids,
            rejections: found.rejections,
            reject_next: found.reject_next,
        };
        let (next_offset, epoch) = (claim.position.offset, claim.epoch);
        tracing::info!(%partition, next_offset, epoch, "claimed");
        let writer = Writer::new(
            Arc::clone(&self.target),
            self.connection.clone(),
            current.clone(),
            session.take().expect("the session that the claim names"),
            checkpoints.clone(),
            claim,
            Arc::clone(&self.outage),
        );
        Ok(writer.joining(group.clone()))
    }

    /// Makes the checkpoint, at the offset where a partition without one begins; stops where none
    /// fits.
    async fn open(
        &self,
        checkpoints: &Checkpoints,
        owner: Uuid,
        sessions: Sessions,
        tries: u32,
    ) -> Result<Checkpoint, Unclaimed> {
        let partition = &checkpoints.key().partition;
        let log = self.log(partition, &Doubt::default(), None).await;
        let outside = || (log.committed).expect("only a committed offset can be outside the log");
        let first = match first_offset(&log, self.start) {
            Ok(first) => log.position(first),
            // Made all the same, to be marked and stopped: the log may grow past it. Without an
            // epoch: that of a leader whose log ends before it says nothing of what stands there.
            Err(Standing::Truncated) => Position::from(outside()),
            Err(standing) => {
                let advice = advice(partition, standing, "committed offset", outside(), &log);
                return Err(Unclaimed::Stopped(Stop::new(Code::LogExpired, advice)));
            }
        };
        tracing::info!(
            %partition, next_offset = first.offset, committed = log.committed,
            "no checkpoint yet: the first claim"
        );
        let opened = checkpoints.open(owner, sessions, first, log.topic_id, tries);
        Ok(opened.await?.ok_or(ClaimError::Outrun)?)
    }

    /// Notes whether the brokers let this user read the partition.
    pub(super) fn note_refused(&self, partition: &Partition, is_refused: bool) {
        let number = Some(partition.number);
        refused::note(&self.health, &partition.topic, number, is_refused);
    }

    /// What Kafka knows of a partition; asked until it answers. Where there is doubt, with fresh
    /// metadata, of another broker perhaps, and nothing is `expected`.
    pub(super) async fn log(
        &self,
        partition: &Partition,
        doubt: &Doubt,
        expected: Option<Expected>,
    ) -> PartitionLog {
        let refresh = !doubt.is_none();
        let expected = expected.filter(|_| !refresh);
        let known = self.known.has(partition);
        let (mut backoff, mut reminder) = (Backoff::new(), Reminder::default());
        let mut was_refused = false;
        loop {
            if let Some(consumer) = self.handle.answering() {
                let asked = [partition.clone()];
                let answer = tokio::task::spawn_blocking(move || {
                    let look = || {
                        if refresh {
                            refresh_metadata(&consumer, &asked[0].topic)?;
                        }
                        let committed = committed_offsets(&consumer, &asked)?;
                        partition_logs(&consumer, &asked, &committed, |_| known, expected)
                    };
                    let logs = look();
                    let is_refused = logs.is_err() && is_refused(&consumer, &asked[0].topic);
                    (!is_refused).then_some(logs).transpose()
                })
                .await;
                match answer {
                    Ok(Ok(Some(mut logs))) => {
                        if was_refused {
                            self.note_refused(partition, false);
                        }
                        return logs.pop().expect("a log for each partition");
                    }
                    Ok(Ok(None)) => {
                        was_refused = true;
                        self.note_refused(partition, true);
                        backoff.wait().await;
                        continue;
                    }
                    Ok(Err(error)) => {
                        let error = told(&error);
                        if backoff.tries() >= LOGGED_AT_TRY && reminder.is_due(&error) {
                            tracing::warn!(
                                code = %Code::KafkaAway, %partition, error,
                                "Kafka does not answer where the log begins and ends; retrying until it does"
                            );
                        }
                    }
                    Err(error) => tracing::error!(
                        code = %Code::ClientFailed, %partition, %error,
                        "the lookup of the log did not finish"
                    ),
                }
                self.metrics.errors("claim", "kafka");
            }
            backoff.wait().await;
        }
    }
}

/// What the claim of this checkpoint expects of the log; nothing without a leader epoch, since a
/// seek then cannot tell whether the log is another one.
fn expected(found: &Checkpoint) -> Option<Expected> {
    let position = found.position();
    position.leader_epoch?;
    Some(Expected {
        topic_id: found.topic_id?,
        offset: position.offset,
    })
}
