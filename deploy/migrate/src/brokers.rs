//! The brokers, as the service reaches them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::client::Client;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};
use workflows_sink::config::startup::StartupError;
use workflows_sink::config::{Kafka, is_nearly, kafka_name};

/// How long one question may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// What the properties of a connection begin with.
const OF_A_CONNECTION: [&str; 8] = [
    "bootstrap.servers",
    "security.protocol",
    "client.id",
    "enable.ssl.",
    "sasl.",
    "ssl.",
    "socket.",
    "broker.address.",
];

/// Keeps the last thing that went wrong with a connection: of a question that is not answered, only
/// that it took too long is told.
#[derive(Clone, Default)]
struct LastError(Arc<Mutex<Option<String>>>);

impl ClientContext for LastError {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let text = format!("{error}: {reason}");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

impl ConsumerContext for LastError {}

/// How many partitions a topic has; none where there is no such topic.
///
/// # Errors
/// Where the brokers do not answer, with the last thing that went wrong.
pub(crate) fn partitions(kafka: &Kafka, topic: &str) -> Result<i32> {
    let last = LastError::default();
    let consumer: BaseConsumer<LastError> = client(kafka).create_with_context(last.clone())?;
    let asked: &Client<_> = consumer.client();
    let metadata = asked.fetch_metadata(Some(topic), TIMEOUT).map_err(|error| {
        let last = last.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        anyhow::anyhow!("{}", last.unwrap_or_else(|| error.to_string()))
    });
    let metadata = metadata.with_context(|| format!("the topic {topic} cannot be looked up"))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let error = found.and_then(|found| found.error());
    ensure!(
        error.map(RDKafkaErrorCode::from) != Some(RDKafkaErrorCode::TopicAuthorizationFailed),
        may_not("read", topic)
    );
    Ok(found.map_or(0, |found| found.partitions().len() as i32))
}

/// That this user lacks a right on a topic: to `read` or `write` it.
pub(crate) fn may_not(what: &str, topic: &str) -> String {
    let right = match what {
        "read" => "Read",
        _ => "Write",
    };
    format!("Kafka does not let this user {what} the topic {topic}: grant {right} on it")
}

/// An error of a topic that is read, in words where this user lacks a right.
pub(crate) fn of_reading(error: anyhow::Error, kafka: &Kafka, topic: &str) -> anyhow::Error {
    let mut errors = error.chain().filter_map(|error| error.downcast_ref());
    let code = errors.find_map(KafkaError::rdkafka_error_code);
    match code {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => error.context(may_not("read", topic)),
        Some(RDKafkaErrorCode::GroupAuthorizationFailed) => error.context(format!(
            "Kafka does not let this user ask about the group {}: grant Describe on it",
            kafka.group
        )),
        _ => error,
    }
}

/// How the service reaches its brokers, without what makes it a consumer.
pub(crate) fn client(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in kafka.properties.iter() {
        if OF_A_CONNECTION.iter().any(|head| name.starts_with(head)) {
            config.set(name, value);
        }
    }
    config
}

/// The variable by which the platform's own services name the topic of new states.
const EVENTS_TOPIC: &str = "DYFF_KAFKA__TOPICS__WORKFLOWS_EVENTS";

/// The topic of new states, as the platform's own services name it.
///
/// # Errors
/// [`StartupError`], where it is set to what is not a topic's name, or by a misspelt one.
pub fn events_topic() -> Result<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut misspelt = names.filter(|name| is_nearly(EVENTS_TOPIC, name));
    if let Some(name) = misspelt.next() {
        let why = format!("{name} is ignored; did you mean {EVENTS_TOPIC}?");
        return Err(StartupError::configuration(why).into());
    }
    let set = std::env::var(EVENTS_TOPIC);
    let topic = set.unwrap_or_else(|_| "dyff.workflows.events".to_owned());
    let wrong = |why| StartupError::configuration(format!("{EVENTS_TOPIC}: {why}"));
    Ok(kafka_name(&topic).map_err(wrong)?)
}
