//! What must be true of Kafka before the group is joined: the topics exist and we are let in.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{code_name, is_for_good};
use crate::config::Kafka;
use crate::config::startup::StartupError;

/// How long one question may take before it is asked again.
const METADATA_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the client may keep still before all it had to say is taken for heard. A poll without a
/// timeout would end with the first log line.
const EVENTS_TIMEOUT: Duration = Duration::from_millis(20);

/// How many partitions each topic has. Waits for brokers that are away.
///
/// # Errors
/// A topic that does not exist, or brokers that do not let us in.
pub async fn topic_partitions(config: &Kafka) -> anyhow::Result<BTreeMap<String, i32>> {
    let client: ClientConfig = config.properties.client_config();
    let topics = config.topics.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let probe: BaseConsumer<Probe> = client.create_with_context(Probe::default())?;
        let mut told = false;
        loop {
            match count_partitions(&probe, &topics) {
                Ok(counts) => return Ok(counts),
                Err(Unanswered::ForGood(why)) => {
                    return Err(StartupError::configuration(why).into());
                }
                Err(Unanswered::Away(why)) if !told => {
                    tracing::warn!("Kafka does not answer yet, asking until it does: {why}");
                    told = true;
                }
                Err(Unanswered::Away(_)) => {}
            }
        }
    });
    asked
        .await
        .context("the question for the topics was not finished")?
}

enum Unanswered {
    ForGood(String),
    Away(String),
}

fn count_partitions(
    probe: &BaseConsumer<Probe>,
    topics: &[String],
) -> Result<BTreeMap<String, i32>, Unanswered> {
    let mut counts = BTreeMap::new();
    for topic in topics {
        let metadata = probe.fetch_metadata(Some(topic), METADATA_TIMEOUT);
        // Errors of the client, such as a refused login, arrive by way of a poll, behind its log lines.
        while probe.poll(EVENTS_TIMEOUT).is_some() {}
        if let Some((code, reason)) = probe.context().wrong().clone() {
            return Err(Unanswered::ForGood(format!(
                "Kafka refuses the connection ({}): {reason}; see DYFF_KAFKA__CONFIG__… (servers, security protocol, CA, user and password)",
                code_name(code)
            )));
        }
        let metadata = metadata.map_err(|error| {
            // What happened to the connection says more than that there was no answer.
            let told = probe.context().last().take();
            Unanswered::Away(told.unwrap_or_else(|| error.to_string()))
        })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let error = found
            .and_then(|found| found.error())
            .map(RDKafkaErrorCode::from);
        match (found, error) {
            (_, Some(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                return Err(Unanswered::ForGood(format!(
                    "the topic {topic} may not be read: grant Describe and Read on it, and Read on the group, to this user"
                )));
            }
            (
                _,
                Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic),
            )
            | (None, _) => {
                return Err(Unanswered::ForGood(format!(
                    "the topic {topic} does not exist: create it, or name another in DYFF_KAFKA__TOPICS__WORKFLOWS_STATE"
                )));
            }
            (Some(_), Some(error)) => return Err(Unanswered::Away(format!("{topic}: {error}"))),
            (Some(found), None) => {
                let count = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
                counts.insert(topic.clone(), count);
            }
        }
    }
    Ok(counts)
}

/// Remembers an error that says that the client's configuration is wrong, and the last one of a broker.
#[derive(Default)]
struct Probe {
    wrong: Mutex<Option<(RDKafkaErrorCode, String)>>,
    last: Mutex<Option<String>>,
}

impl Probe {
    fn wrong(&self) -> MutexGuard<'_, Option<(RDKafkaErrorCode, String)>> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, Option<String>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Probe {
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(code) if is_for_good(code) => *self.wrong() = Some((code, reason.to_owned())),
            // "1/1 brokers are down" follows what says why.
            Some(RDKafkaErrorCode::AllBrokersDown) => {}
            _ => *self.last() = Some(reason.to_owned()),
        }
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }
}

impl ConsumerContext for Probe {}
