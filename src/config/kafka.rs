//! Topics, group and the librdkafka properties.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::owned::{DEFAULTS, OF_THE_BROKER};
use super::passed::{Passed, millis};
use super::{ConfigErrors, Environment, OF_THE_SERVICE, reference, value};

/// Under KIP-848 the broker decides how often a worker sends heartbeats: by default so often.
const BROKERS_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// Brokers, topics, group.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// What librdkafka gets: defaults of ours, everything passed through, `group.id` and
    /// `group.instance.id`; of [`OWNED`](super::owned::OWNED) only those two.
    pub properties: Properties,
    /// The files that passwords are read from, and those that librdkafka reads when a client is
    /// created: they may change.
    pub files: Vec<PathBuf>,
    /// The topics to consume: at least one, each once.
    pub topics: Vec<String>,
    /// The variable that names them.
    pub topics_variable: &'static str,
    /// The consumer group.
    pub group: String,
    /// Where a group begins that has neither checkpoint nor committed offset.
    pub start: Start,
}

impl Kafka {
    /// As this process's environment, and the files that it names, say now.
    ///
    /// # Errors
    /// Every fault of the whole configuration but those of MongoDB and limits.
    pub fn from_env() -> Result<Kafka, ConfigErrors> {
        let mut env = Environment::of_process(&OF_THE_SERVICE);
        let kafka = Kafka::read(&mut env);
        env.unless_any_fault(kafka)
    }

    pub(super) fn read(env: &mut Environment) -> Option<Kafka> {
        let is_list = env.get(&reference::TOPICS).is_some();
        let topics_variable = match is_list {
            true => reference::TOPICS.name,
            false => reference::TOPIC.name,
        };
        let topics = match is_list {
            true => env.read(&reference::TOPICS, value::topics),
            false => env
                .read(&reference::TOPIC, value::kafka_name)
                .map(|topic| vec![topic]),
        };
        let group = env.read(&reference::GROUP, value::text);
        let instance = env.read_if_set(&reference::GROUP_INSTANCE_ID, value::kafka_name);
        let starts = [("earliest", Start::Earliest), ("latest", Start::Latest)];
        let start = env.read(&reference::START, value::choice(&starts));
        let passed = Passed::checked(env);
        Some(Kafka {
            files: passed.files(),
            properties: Properties::new(passed, group.as_deref()?, instance),
            topics: topics?,
            topics_variable,
            group: group?,
            start: start?,
        })
    }

    /// The same for another group, as whose member nothing is done.
    pub fn of_group(&self, group: String) -> Kafka {
        let mut other = self.clone();
        let properties = &mut other.properties.0;
        properties.remove("group.instance.id");
        properties.insert("group.id".to_owned(), group.clone());
        Kafka { group, ..other }
    }
}

/// Where a group begins that has neither checkpoint nor committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the start of the log.
    Earliest,
    /// At its end.
    Latest,
}

/// librdkafka properties by name, each checked. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// What was passed, with our defaults and the names of group and instance.
    fn new(passed: Passed, group: &str, instance: Option<String>) -> Properties {
        let of_the_broker = passed.is("group.protocol", "consumer");
        let mut set = passed.into_properties();
        let has_authorities = set.contains_key("ssl.ca.pem");
        let mut default = |name: &str, value: &str| {
            set.entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
        };
        if let Some(brokers) = reference::BOOTSTRAP_SERVERS.default {
            default("bootstrap.servers", brokers);
        }
        for (name, value, _) in DEFAULTS {
            let is_decided = of_the_broker && OF_THE_BROKER.contains(&name)
                || has_authorities && name == "ssl.ca.location";
            if !is_decided {
                default(name, value);
            }
        }
        set.insert("group.id".to_owned(), group.to_owned());
        set.extend(instance.map(|id| ("group.instance.id".to_owned(), id)));
        Properties(set)
    }

    /// The value of one property.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Every property with its value, secrets included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// A client configuration that holds these properties, to which the service adds its own.
    pub fn client_config(&self) -> ClientConfig {
        client_config(&self.0)
    }

    /// Whether librdkafka is asked to log what it does.
    pub fn asks_for_log(&self) -> bool {
        self.get("debug").is_some() || self.get("log_level").is_some()
    }

    /// How long the poll thread may be silent before the group evicts the worker.
    pub fn max_poll_interval(&self) -> Duration {
        let property = "max.poll.interval.ms";
        millis(property, self.get(property))
    }

    /// How often the worker sends the group a heartbeat.
    pub fn heartbeat_interval(&self) -> Duration {
        let property = "heartbeat.interval.ms";
        match self.get(property) {
            Some(set) => millis(property, Some(set)),
            None => BROKERS_HEARTBEAT_INTERVAL,
        }
    }
}

/// A client configuration of these properties. It logs what `debug` and `log_level` ask for: the
/// crate sets the level anew, by a logger that the service does not use.
pub fn client_config(properties: &BTreeMap<String, String>) -> ClientConfig {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    const LEVELS: [RDKafkaLogLevel; 8] =
        [Emerg, Alert, Critical, Error, Warning, Notice, Info, Debug];
    let mut config: ClientConfig = properties.clone().into_iter().collect();
    let set = properties.get("log_level");
    let set = set.and_then(|level| LEVELS.get(level.parse::<usize>().ok()?).copied());
    let default = match properties.contains_key("debug") {
        true => Debug,
        false => Warning,
    };
    config.set_log_level(set.unwrap_or(default));
    config
}

impl fmt::Debug for Properties {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| match is_secret(name) {
            true => (name, "[REDACTED]"),
            false => (name, value),
        };
        out.debug_map().entries(self.iter().map(shown)).finish()
    }
}

/// Whether a property's value must never be shown, and may come from a file.
pub fn is_secret(property: &str) -> bool {
    [
        "password",
        "passphrase",
        "key.pem",
        "secret",
        "oauthbearer.config",
    ]
    .iter()
    .any(|end| property.ends_with(end))
}
