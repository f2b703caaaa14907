//! The librdkafka properties: any passes through, but for those that the service owns.

use std::{collections::BTreeMap, fmt, fs, time::Duration};

use rdkafka::{ClientConfig, error::KafkaError};

use super::owned::{COOPERATIVE, DEFAULTS, OF_THE_BROKER, OWNED, default_of};
use super::reference::{self, FILE_SUFFIX, KAFKA_PREFIX};
use super::{Faults, value};

/// Brokers, topics, group.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// What librdkafka is told: defaults of ours, everything passed through, `group.id` and `group.instance.id`.
    /// Never one of [`OWNED`] besides those two.
    pub properties: Properties,
    /// The topics to consume: at least one, each once.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// Where a group begins that has neither checkpoint nor committed offset.
    pub start: Start,
}

/// Where a group begins that has neither checkpoint nor committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the start of the log.
    Earliest,
    /// At its end.
    Latest,
}

/// librdkafka properties by name. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
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
        self.0.clone().into_iter().collect()
    }

    /// How long the poll thread may stay away before the group evicts the worker.
    pub fn max_poll_interval(&self) -> Duration {
        self.millis("max.poll.interval.ms", 300_000)
    }

    /// How often the worker tells the group that it lives. Under KIP-848 the broker decides; 5 s unless it is told
    /// otherwise.
    pub fn heartbeat_interval(&self) -> Duration {
        self.millis("heartbeat.interval.ms", 5_000)
    }

    /// How long the group waits for a heartbeat.
    pub fn session_timeout(&self) -> Duration {
        self.millis("session.timeout.ms", 45_000)
    }

    fn millis(&self, name: &str, default: u64) -> Duration {
        let set = self.get(name).and_then(|value| value.trim().parse().ok());
        Duration::from_millis(set.unwrap_or(default))
    }
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

/// Two names of one property would make it a matter of luck which wins.
const ALIASES: [(&str, &str); 2] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("sasl.mechanism", "sasl.mechanisms"),
];

/// Properties that name a file to be read when the client is made.
const FILES: [&str; 5] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
];

/// Those of `vars` that are sound, with our defaults and the group's names.
pub(super) fn properties<'a>(
    faults: &mut Faults,
    vars: impl Iterator<Item = (&'a str, &'a str)>,
    group: Option<&str>,
    instance: Option<String>,
) -> Properties {
    let mut passed = Passed::default();
    for (variable, value) in vars {
        passed.take(faults, variable, value);
    }
    passed.secrets(faults);

    let faults_before = faults.count();
    let mut set = BTreeMap::new();
    for (property, (variable, value)) in &passed.0 {
        match check(property, value) {
            Ok(()) => {
                set.insert(property.clone(), value.clone());
            }
            Err(fault) => faults.add(variable, fault),
        }
    }
    if faults.count() == faults_before {
        passed.check_together(faults);
    }

    let mut default = |name: &str, value: &str| {
        set.entry(name.to_owned())
            .or_insert_with(|| value.to_owned());
    };
    if let Some(brokers) = reference::BOOTSTRAP_SERVERS.default {
        default("bootstrap.servers", brokers);
    }
    for (name, value, _) in DEFAULTS {
        if !OF_THE_BROKER.contains(&name) || !passed.is("group.protocol", "consumer") {
            default(name, value);
        }
    }
    set.extend(group.map(|group| ("group.id".to_owned(), group.to_owned())));
    set.extend(instance.map(|id| ("group.instance.id".to_owned(), id)));
    Properties(set)
}

/// What librdkafka says about one property, and what it would say only when the client is made.
fn check(property: &str, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("is empty: give it a value or leave it out".to_owned());
    }
    if let Err(why) = native(property, value) {
        return match is_secret(property) {
            // its message may quote the value: that of another value serves as well
            true => native(property, "x")
                .and_then(|()| Err(format!("librdkafka refuses this value of {property}"))),
            false => Err(why),
        };
    }
    if FILES.contains(&property) && value != "probe" {
        fs::File::open(value)
            .map_err(|error| format!("{} cannot be read: {error}", value::shown(value)))?;
    }
    Ok(())
}

fn native(property: &str, value: &str) -> Result<(), String> {
    let mut config = ClientConfig::new();
    match config.set(property, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(_, why, _, _)) => {
            Err(format!("librdkafka: {}", why.trim_end()))
        }
        Err(error) => Err(format!("librdkafka: {error}")),
    }
}

/// What the environment passes: property → variable and value.
#[derive(Default)]
struct Passed(BTreeMap<String, (String, String)>);

impl Passed {
    fn take(&mut self, faults: &mut Faults, variable: &str, value: &str) {
        let property = property_of(variable);
        if let Some(owned) = OWNED.iter().find(|owned| owned.property == property) {
            let instead = owned
                .instead
                .map(|name| format!("; set {name} instead"))
                .unwrap_or_default();
            faults.add(
                variable,
                format!("{property} belongs to the service: {}{instead}", owned.why),
            );
            return;
        }
        let entry = (variable.to_owned(), value.to_owned());
        if let Some((other, _)) = self.0.insert(property.clone(), entry) {
            faults.add(
                variable,
                format!("{other} sets {property} too: leave one of them out"),
            );
        }
    }

    /// Replaces each `<secret>_FILE` by what stands in the file.
    fn secrets(&mut self, faults: &mut Faults) {
        let files: Vec<(String, String)> = (self.0.values())
            .filter_map(|(variable, _)| variable.strip_suffix(FILE_SUFFIX))
            .map(|variable| (variable.to_owned(), property_of(variable)))
            .filter(|(_, property)| is_secret(property))
            .collect();
        for (variable, property) in files {
            let file = self
                .0
                .remove(&property_of(&format!("{variable}{FILE_SUFFIX}")));
            let value = self.0.remove(&property);
            let secret =
                faults.secret_named(&variable, value.map(|(_, v)| v), file.map(|(_, v)| v));
            self.0
                .extend(secret.map(|secret| (property, (variable, secret))));
        }
    }

    fn get(&self, property: &str) -> Option<&str> {
        self.0.get(property).map(|(_, value)| value.as_str())
    }

    fn is(&self, property: &str, value: &str) -> bool {
        self.get(property)
            .is_some_and(|set| set.eq_ignore_ascii_case(value))
    }

    fn fault(&self, faults: &mut Faults, property: &str, fault: impl Into<String>) {
        let variable = match self.0.get(property) {
            Some((variable, _)) => variable.clone(),
            None => variable_of(property),
        };
        faults.add(&variable, fault);
    }

    /// What librdkafka would say only when the client is made, or never.
    fn check_together(&self, faults: &mut Faults) {
        if self.is("group.protocol", "consumer") {
            for property in OF_THE_BROKER {
                if self.get(property).is_some() {
                    self.fault(
                        faults,
                        property,
                        "the broker decides this under group.protocol=consumer: leave it out",
                    );
                }
            }
        } else if self
            .get("partition.assignment.strategy")
            .is_some_and(|set| set != COOPERATIVE)
        {
            self.fault(
                faults,
                "partition.assignment.strategy",
                format!("must be {COOPERATIVE}: the service takes and gives partitions one by one"),
            );
        }

        let millis = |property, default| match self.get(property).or(default_of(property)) {
            Some(set) => set.trim().parse().unwrap_or(default),
            None => default,
        };
        let (poll, session) = (
            millis("max.poll.interval.ms", 300_000),
            millis("session.timeout.ms", 45_000),
        );
        if session >= poll {
            let property = if self.get("session.timeout.ms").is_some() {
                "session.timeout.ms"
            } else {
                "max.poll.interval.ms"
            };
            self.fault(
                faults,
                property,
                format!(
                    "session.timeout.ms, {session}, must be less than max.poll.interval.ms, {poll}"
                ),
            );
        }
        let heartbeat: u64 = millis("heartbeat.interval.ms", 3_000);
        if heartbeat >= session {
            let property = if self.get("heartbeat.interval.ms").is_some() {
                "heartbeat.interval.ms"
            } else {
                "session.timeout.ms"
            };
            self.fault(faults, property, format!("heartbeat.interval.ms, {heartbeat}, must be less than session.timeout.ms, {session}"));
        }

        if self.is("security.protocol", "sasl_plaintext")
            || self.is("security.protocol", "sasl_ssl")
        {
            self.check_sasl(faults);
        }
    }

    fn check_sasl(&self, faults: &mut Faults) {
        const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
        // librdkafka's default, GSSAPI, is not built in
        if !MECHANISMS
            .iter()
            .any(|known| self.is("sasl.mechanisms", known))
        {
            self.fault(
                faults,
                "sasl.mechanisms",
                format!("must be one of {}", MECHANISMS.join(", ")),
            );
        } else if !self.is("sasl.mechanisms", "OAUTHBEARER") {
            for property in ["sasl.username", "sasl.password"] {
                if self.get(property).is_none() {
                    self.fault(
                        faults,
                        property,
                        "is missing: security.protocol asks for SASL",
                    );
                }
            }
        }
    }
}

fn property_of(variable: &str) -> String {
    let name = variable.strip_prefix(KAFKA_PREFIX).unwrap_or(variable);
    let name = name.to_lowercase().replace('_', ".");
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    alias.map_or(name, |(_, property)| (*property).to_owned())
}

fn variable_of(property: &str) -> String {
    format!(
        "{KAFKA_PREFIX}{}",
        property.to_uppercase().replace('.', "_")
    )
}
