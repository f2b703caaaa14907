//! What must be true of Kafka before the group is joined: the topics exist, and the user may read
//! them.
//!
//! A start waits for a topic that does not exist: on a new cluster an operator may still make it.
//! An exit would leave the pod to the back-off of its restarts, which is minutes after a few.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bson::Uuid;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use super::errors::{code_name, is_permanent};
use super::logged::forward_log;
use super::topic_id::topic_id;
use crate::config::Kafka;
use crate::config::startup::StartupError;
use crate::record::Partition;
use crate::telemetry::code::Code;
use crate::telemetry::health::Health;
use crate::telemetry::reminder::Reminder;

/// How long one question may take before it is repeated.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the question for a topic's id may take: the start goes on without it.
const ID_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the client must be silent before all its events count as seen. A poll without a timeout
/// would end with the first log line.
const EVENTS_TIMEOUT: Duration = Duration::from_millis(20);

/// How long to wait after an answer on which nothing can be built: it came at once.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a topic that does not exist is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Waited for, since somebody may be making it.
    Awaited,
    /// A mistake of whoever named it.
    Refused,
}

/// The topics, once all exist.
#[derive(Debug)]
pub struct Topics {
    /// How many partitions each has.
    pub partitions: BTreeMap<String, i32>,
    /// Their ids, where a broker tells them.
    pub ids: BTreeMap<String, Uuid>,
    /// Those that did not exist when they were first asked for.
    pub awaited: BTreeSet<String>,
}

/// How many partitions each topic has. Waits for brokers that are unavailable and, where `absent`
/// says so, for topics that do not exist; tells `health` why.
///
/// # Errors
/// [`StartupError`] for a topic that may not be read, for one that does not exist and is not waited
/// for, and for brokers that refuse the connection.
pub async fn topic_partitions(
    config: &Kafka,
    absent: Absent,
    health: &Arc<Health>,
) -> anyhow::Result<Topics> {
    let client: ClientConfig = config.properties.client_config();
    let (config, health) = (config.clone(), Arc::clone(health));
    let asked = tokio::task::spawn_blocking(move || {
        let probe = probe(&client).map_err(StartupError::configuration)?;
        let (mut reminder, mut awaited) = (Reminder::default(), BTreeSet::new());
        loop {
            match count_partitions(&probe, &config) {
                Ok(partitions) => {
                    health.note_kafka(None);
                    let id = |topic: &String| {
                        let id = topic_id(probe.client(), topic, ID_TIMEOUT)?;
                        Some((topic.clone(), id))
                    };
                    return Ok(Topics {
                        ids: partitions.keys().filter_map(id).collect(),
                        partitions,
                        awaited,
                    });
                }
                Err(Unanswered::Permanent(why)) => {
                    return Err(StartupError::configuration(why).into());
                }
                Err(Unanswered::Absent { why, .. }) if absent == Absent::Refused => {
                    return Err(StartupError::configuration(why).into());
                }
                Err(Unanswered::Absent { topics, why }) => {
                    awaited.extend(topics);
                    if reminder.is_due(&why) {
                        tracing::warn!(code = %Code::TopicAwaited, "waiting for a topic: {why}");
                    }
                    health.note_kafka(Some(why));
                    std::thread::sleep(ASK_AGAIN_AFTER);
                }
                Err(Unanswered::Transient(why)) => {
                    if reminder.is_due(&why) {
                        tracing::warn!(code = %Code::KafkaAway, "Kafka does not answer yet, retrying until it does: {why}");
                    }
                    health.note_kafka(Some(format!("Kafka does not answer yet: {why}")));
                    std::thread::sleep(ASK_AGAIN_AFTER);
                }
            }
        }
    });
    asked
        .await
        .context("the lookup of the topics did not finish")?
}

/// Every partition of topics that have this many each.
pub fn partitions_of(counts: &BTreeMap<String, i32>) -> Vec<Partition> {
    let of_topic = |(topic, count): (&String, &i32)| {
        let topic = topic.clone();
        (0..*count).map(move |number| Partition::new(topic.as_str(), number))
    };
    counts.iter().flat_map(of_topic).collect()
}

/// Whether the brokers answer a client of this configuration, and let it read the topics: one try.
///
/// # Errors
/// Why not; never a secret.
pub fn is_accepted(config: &Kafka) -> Result<(), Unanswered> {
    partition_counts(config).map(drop)
}

/// How many partitions each topic has: one try.
///
/// # Errors
/// Why no broker says so; never a secret.
pub fn partition_counts(config: &Kafka) -> Result<BTreeMap<String, i32>, Unanswered> {
    let client: ClientConfig = config.properties.client_config();
    let probe = probe(&client).map_err(Unanswered::Permanent)?;
    count_partitions(&probe, config)
}

/// A client that asks; or why librdkafka makes none of this configuration.
fn probe(client: &ClientConfig) -> Result<BaseConsumer<Probe>, String> {
    let made = client.create_with_context(Probe::default());
    made.map_err(|error| {
        format!("the Kafka client could not be created: {error}; see DYFF_KAFKA__CONFIG__…")
    })
}

/// Why Kafka gave no answer to build on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unanswered {
    /// A person has to change something: what, and how.
    #[error("{0}")]
    Permanent(String),
    /// Topics do not exist: which, and which variable names them.
    #[error("{why}")]
    Absent {
        /// Their names.
        topics: Vec<String>,
        /// What to do.
        why: String,
    },
    /// Brokers are unavailable.
    #[error("{0}")]
    Transient(String),
}

impl Unanswered {
    /// The code with which the service says so.
    pub fn code(&self) -> Code {
        match self {
            Unanswered::Permanent(_) => Code::Configuration,
            Unanswered::Absent { .. } => Code::TopicAwaited,
            Unanswered::Transient(_) => Code::KafkaAway,
        }
    }
}

fn count_partitions(
    probe: &BaseConsumer<Probe>,
    config: &Kafka,
) -> Result<BTreeMap<String, i32>, Unanswered> {
    let (mut counts, mut absent) = (BTreeMap::new(), Vec::new());
    for topic in &config.topics {
        let metadata = probe.fetch_metadata(Some(topic), METADATA_TIMEOUT);
        // Errors of the client, such as a refused login, arrive by a poll, behind its log lines.
        while probe.poll(EVENTS_TIMEOUT).is_some() {}
        if let Some((code, reason)) = probe.context().permanent.lock().clone() {
            if code == RDKafkaErrorCode::GroupAuthorizationFailed {
                return Err(Unanswered::Permanent(group_refused(&config.group)));
            }
            return Err(Unanswered::Permanent(format!(
                "Kafka refuses the connection ({}): {reason}; see DYFF_KAFKA__CONFIG__… \
                 (servers, security protocol, CA, user and password)",
                code_name(code)
            )));
        }
        let metadata = metadata.map_err(|error| {
            // What happened to the connection says more than that there was no answer.
            let last = probe.context().last.lock().clone();
            Unanswered::Transient(last.unwrap_or_else(|| error.to_string()))
        })?;
        match count_of(topic, &metadata)? {
            Some(count) => drop(counts.insert(topic.clone(), count)),
            None => absent.push(topic.clone()),
        }
    }
    match absent.is_empty() {
        true => Ok(counts),
        false => Err(Unanswered::Absent {
            why: absent_topics(&absent, config.topics_variable),
            topics: absent,
        }),
    }
}

/// What is said of a group that this user may not use.
pub(super) fn group_refused(group: &str) -> String {
    format!("Kafka does not let this user use the group {group}: grant Read on it")
}

/// What is said of topics that do not exist, which `variable` names.
fn absent_topics(topics: &[String], variable: &str) -> String {
    let (named, verb, them) = match topics {
        [topic] => (format!("the topic {topic}"), "does", "it"),
        topics => (format!("the topics {}", topics.join(", ")), "do", "them"),
    };
    format!("{named} {verb} not exist: create {them}, or correct {variable}")
}

/// How many partitions `metadata` says that `topic` has; `None` where it does not exist.
fn count_of(topic: &str, metadata: &Metadata) -> Result<Option<i32>, Unanswered> {
    use RDKafkaErrorCode::{TopicAuthorizationFailed, UnknownTopic, UnknownTopicOrPartition};
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let error = found.and_then(|found| found.error());
    match (found, error.map(RDKafkaErrorCode::from)) {
        (_, Some(TopicAuthorizationFailed)) => Err(Unanswered::Permanent(format!(
            "Kafka does not let this user read the topic {topic}: grant Read on it, and Read on the \
             group"
        ))),
        (None, _) | (_, Some(UnknownTopicOrPartition | UnknownTopic)) => Ok(None),
        (Some(_), Some(error)) => Err(Unanswered::Transient(format!("{topic}: {error}"))),
        (Some(found), None) => {
            let count = i32::try_from(found.partitions().len());
            Ok(Some(count.expect("Kafka numbers partitions in 32 bits")))
        }
    }
}

/// Remembers a permanent error of the client, and the last transient one.
#[derive(Default)]
struct Probe {
    permanent: Mutex<Option<(RDKafkaErrorCode, String)>>,
    last: Mutex<Option<String>>,
}

impl ClientContext for Probe {
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(code) if is_permanent(code) => {
                *self.permanent.lock() = Some((code, reason.to_owned()));
            }
            // "1/1 brokers are down" follows what says why.
            Some(RDKafkaErrorCode::AllBrokersDown) => {}
            _ => *self.last.lock() = Some(reason.to_owned()),
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        forward_log(level, facility, message);
    }
}

impl ConsumerContext for Probe {}
