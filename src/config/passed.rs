//! What the environment passes through to librdkafka: any property, but for those that the service
//! owns.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use rdkafka::{ClientConfig, error::KafkaError};

use super::kafka::is_secret;
use super::owned::{COOPERATIVE, DEFAULTS, OF_THE_BROKER, OWNED, default_of};
use super::reference::{FILE_SUFFIX, KAFKA_PREFIX};
use super::{Environment, Faults, tls, value};

/// Other names of properties: with both set, it would be a matter of luck which wins.
const ALIASES: [(&str, &str); 3] = [
    // the one name with an underscore
    ("log.level", "log_level"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("sasl.mechanism", "sasl.mechanisms"),
];

/// Properties that name a file, which is read when a client is created.
const FILES: [&str; 5] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
];

/// Properties that are set often, for one that is misspelt.
const KNOWN: [&str; 11] = [
    "bootstrap.servers",
    "max.poll.interval.ms",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.password.file",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "ssl.ca.pem",
    "ssl.key.password",
    "ssl.key.password.file",
];

/// Looks for the certificates of the system, rather than in a file.
const PROBE: &str = "probe";

/// What the environment passes.
#[derive(Default)]
pub(super) struct Passed {
    /// Property → variable and value.
    properties: BTreeMap<String, (String, String)>,
    /// The files that secrets were read from.
    secrets: Vec<PathBuf>,
}

impl Passed {
    /// The valid properties that `env` passes.
    pub(super) fn checked(env: &mut Environment) -> Passed {
        let Environment { vars, faults, .. } = env;
        let mut passed = Passed::default();
        for (variable, value) in vars
            .iter()
            .filter(|(name, _)| name.starts_with(KAFKA_PREFIX))
        {
            passed.take(faults, variable, value);
        }
        passed.read_files(faults);

        let faults_before = faults.count();
        passed.properties.retain(|property, (variable, value)| {
            let checked = check(property, value);
            checked.map_err(|fault| faults.add(variable, fault)).is_ok()
        });
        if faults.count() == faults_before {
            passed.check_together(faults);
        }
        passed
    }

    /// Every file that a value is read from, or that librdkafka reads.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let read = FILES.into_iter().filter_map(|property| self.get(property));
        let read = read.filter(|path| *path != PROBE).map(PathBuf::from);
        read.chain(self.secrets.iter().cloned()).collect()
    }

    pub(super) fn into_properties(self) -> BTreeMap<String, String> {
        let properties = self.properties.into_iter();
        properties
            .map(|(property, (_, value))| (property, value))
            .collect()
    }

    /// Whether a property is set to a value, in whatever case.
    pub(super) fn is(&self, property: &str, value: &str) -> bool {
        self.get(property)
            .is_some_and(|set| set.eq_ignore_ascii_case(value))
    }

    fn take(&mut self, faults: &mut Faults, variable: &str, value: &str) {
        let property = property_of(variable);
        if let Some(owned) = OWNED.iter().find(|owned| owned.property == property) {
            let why = format!("{property} belongs to the service: {}", owned.why);
            let fault = match owned.instead {
                Some(name) => format!("{why}; set {name} instead"),
                None => why,
            };
            return faults.add(variable, fault);
        }
        let value = match is_secret(&property) {
            true => value::without_line_end(value),
            false => value,
        };
        let entry = (variable.to_owned(), value.to_owned());
        if let Some((other, _)) = self.properties.insert(property.clone(), entry) {
            faults.add(
                variable,
                format!("{other} sets {property} too: leave one of them out"),
            );
        }
    }

    /// Replaces each `<secret>_FILE` by the text of the file.
    fn read_files(&mut self, faults: &mut Faults) {
        let files: Vec<(String, String)> = (self.properties.values())
            .filter_map(|(variable, _)| variable.strip_suffix(FILE_SUFFIX))
            .map(|variable| (variable.to_owned(), property_of(variable)))
            .filter(|(_, property)| is_secret(property))
            .collect();
        for (variable, property) in files {
            let file = self
                .properties
                .remove(&property_of(&format!("{variable}{FILE_SUFFIX}")));
            let (value, file) = (
                self.properties.remove(&property),
                file.map(|(_, path)| path),
            );
            self.secrets.extend(file.as_ref().map(PathBuf::from));
            let secret = faults.secret_named(&variable, value.map(|(_, v)| v), file);
            self.properties
                .extend(secret.map(|secret| (property, (variable, secret))));
        }
    }

    fn get(&self, property: &str) -> Option<&str> {
        self.properties
            .get(property)
            .map(|(_, value)| value.as_str())
    }

    fn fault(&self, faults: &mut Faults, property: &str, fault: impl Into<String>) {
        let variable = match self.properties.get(property) {
            Some((variable, _)) => variable.clone(),
            None => variable_of(property),
        };
        faults.add(&variable, fault);
    }

    /// What librdkafka would say only when a client is created, or never.
    fn check_together(&self, faults: &mut Faults) {
        self.check_brokers(faults);
        self.check_assignment(faults);
        self.check_is_less(faults, "session.timeout.ms", "max.poll.interval.ms");
        self.check_is_less(faults, "heartbeat.interval.ms", "session.timeout.ms");
        if self.is("security.protocol", "sasl_plaintext")
            || self.is("security.protocol", "sasl_ssl")
        {
            self.check_sasl(faults);
        }
        if self.is("security.protocol", "ssl") || self.is("security.protocol", "sasl_ssl") {
            let properties = self.properties.iter();
            let plain = properties.map(|(name, (_, value))| (name.clone(), value.clone()));
            if let Err((property, fault)) = tls::check(&plain.collect()) {
                self.fault(faults, &property, fault);
            }
        }
    }

    /// librdkafka drops what it cannot parse, and asks nobody.
    fn check_brokers(&self, faults: &mut Faults) {
        const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
        let Some(brokers) = self.get("bootstrap.servers") else {
            return;
        };
        let spoken = self.get("security.protocol").unwrap_or(PROTOCOLS[0]);
        // It skips blanks before a broker, and takes those behind one as part of the name.
        for broker in brokers
            .split(',')
            .map(|broker| broker.trim_start_matches(' '))
        {
            let (protocol, place) = broker.split_once("://").unwrap_or((spoken, broker));
            let port = place
                .rsplit_once(':')
                .filter(|(_, port)| !port.contains(']'));
            let has_port = port.is_none_or(|(_, port)| port.parse::<u16>().is_ok());
            let separates = |c: char| "/@;".contains(c) || c.is_whitespace() || c.is_control();
            let is_place = !place.is_empty() && !place.contains(separates) && has_port;
            let is_known = PROTOCOLS.contains(&protocol.to_lowercase().as_str());
            if is_place && is_known && !protocol.eq_ignore_ascii_case(spoken) {
                let fault =
                    format!("names the protocol {protocol}, and security.protocol is {spoken}");
                self.fault(faults, "bootstrap.servers", fault);
            } else if !is_place || !is_known {
                // A URI with a password may have commas in it.
                let whole = brokers.contains('@');
                let shown = value::shown(if whole { brokers } else { broker });
                let fault = format!("{shown} is no Kafka broker: name it as host or host:port");
                self.fault(faults, "bootstrap.servers", fault);
            }
        }
    }

    fn check_assignment(&self, faults: &mut Faults) {
        if self.is("group.protocol", "consumer") {
            let fault = "the broker decides this under group.protocol=consumer: leave it out";
            for property in OF_THE_BROKER {
                if self.get(property).is_some() {
                    self.fault(faults, property, fault);
                }
            }
            return;
        }
        let property = "partition.assignment.strategy";
        if self.get(property).is_some_and(|set| set != COOPERATIVE) {
            let fault =
                format!("must be {COOPERATIVE}: the service takes and gives partitions one by one");
            self.fault(faults, property, fault);
        }
    }

    /// Adds a fault of the property that is set, of both the first, unless `less` is less.
    fn check_is_less(&self, faults: &mut Faults, less: &str, than: &str) {
        let time = |property| millis(property, self.get(property).or(default_of(property)));
        let (less_ms, than_ms) = (time(less).as_millis(), time(than).as_millis());
        if less_ms >= than_ms {
            let set = if self.get(less).is_some() { less } else { than };
            let fault = format!("{less}, {less_ms}, must be less than {than}, {than_ms}");
            self.fault(faults, set, fault);
        }
    }

    fn check_sasl(&self, faults: &mut Faults) {
        const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
        let is_known = |set| MECHANISMS.contains(&set);
        // librdkafka's default, GSSAPI, is not part of this build; it knows capitals alone.
        if !self.get("sasl.mechanisms").is_some_and(is_known) {
            self.fault(
                faults,
                "sasl.mechanisms",
                format!("must be one of {}", MECHANISMS.join(", ")),
            );
        } else if self.is("sasl.mechanisms", "OAUTHBEARER") {
            if !self.is("enable.sasl.oauthbearer.unsecure.jwt", "true") {
                let fault = "OAUTHBEARER has no source of tokens in this build: use SCRAM-SHA-512, \
                             or a client certificate";
                self.fault(faults, "sasl.mechanisms", fault);
            }
        } else {
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

/// What librdkafka says about one property, also what it would say only when a client is created.
fn check(property: &str, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("is empty: give it a value or leave it out".to_owned());
    }
    if value.trim_end() != value && !is_secret(property) && !property.ends_with(".pem") {
        return Err("ends in a blank or a line end: take that away".to_owned());
    }
    match native(property, value) {
        Ok(read) if is_cut(value, &read) => {
            return Err(format!(
                "is read as {read}: give a whole number, without a unit"
            ));
        }
        Ok(_) => {}
        // its message may quote the value: that of another value serves as well
        Err(_) if is_secret(property) => {
            native(property, "x")?;
            return Err(format!("librdkafka refuses this value of {property}"));
        }
        Err(why) => return Err(why + &did_you_mean(property)),
    }
    if FILES.contains(&property) && value != PROBE {
        fs::File::open(value)
            .map_err(|error| format!("{} cannot be read: {error}", value::shown(value)))?;
    }
    Ok(())
}

/// The value as librdkafka reads it.
fn native(property: &str, value: &str) -> Result<String, String> {
    let mut config = ClientConfig::new();
    match config.set(property, value).create_native_config() {
        Ok(native) => Ok(native.get(property).unwrap_or_default()),
        Err(KafkaError::ClientConfig(_, why, _, _)) => {
            Err(format!("librdkafka: {}", why.trim_end()))
        }
        Err(error) => Err(format!("librdkafka: {error}")),
    }
}

/// Whether librdkafka `read` the number at the beginning of a value, and dropped the rest.
fn is_cut(value: &str, read: &str) -> bool {
    let is_whole = match value.strip_prefix("0x").or(value.strip_prefix("0X")) {
        Some(hex) => hex.chars().all(|c| c.is_ascii_hexdigit()),
        None => value.chars().all(|c| c.is_ascii_digit()),
    };
    read.parse::<i64>().is_ok() && value.starts_with(|c: char| c.is_ascii_digit()) && !is_whole
}

/// The property that one was meant for which librdkafka has none of that name.
fn did_you_mean(property: &str) -> String {
    let near = |name: &&str| strsim::damerau_levenshtein(name, property) <= 2 && *name != property;
    match common().find(near) {
        Some(name) => format!("; did you mean {}?", variable_of(name)),
        None => String::new(),
    }
}

/// The properties that are set often.
fn common() -> impl Iterator<Item = &'static str> {
    let defaults = DEFAULTS.iter().map(|(name, ..)| *name);
    KNOWN.into_iter().chain(FILES).chain(defaults)
}

/// Whether a property that is set often has this name, in capitals with `_` for its dots.
pub(super) fn is_common(name: &str) -> bool {
    let property = name.to_lowercase().replace('_', ".");
    common().any(|known| known == property)
}

/// The time that a property is set to, as librdkafka reads it, which also takes hexadecimal and
/// octal numbers; without `set`, its default.
pub(super) fn millis(property: &str, set: Option<&str>) -> Duration {
    let mut config = ClientConfig::new();
    if let Some(value) = set {
        config.set(property, value);
    }
    let native = config
        .create_native_config()
        .expect("what is set is checked");
    let shown = native.get(property).expect("librdkafka knows its times");
    Duration::from_millis(shown.parse().expect("librdkafka shows a time as a number"))
}

pub(super) fn property_of(variable: &str) -> String {
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
