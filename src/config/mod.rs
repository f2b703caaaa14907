//! Environment → validated [`Config`]: before a socket opens, every fault at once, each naming its
//! variable.

pub mod credentials;
pub mod effective;
mod environment;
pub(crate) mod faults;
pub mod kafka;
mod limits;
mod misspelt;
pub mod mongodb;
pub mod owned;
mod passed;
pub mod reference;
pub mod startup;
#[cfg(test)]
mod tests;
mod tls;
pub(crate) mod value;
pub(crate) mod volume;

use std::{fs, net::SocketAddr, sync::Arc};

use crate::record::entity::Tombstones;
use crate::record::fold::{KindChanges, WriteMode};
use crate::record::mapping::Mapping;
use crate::telemetry::logging::Log;

pub use self::credentials::Credentials;
pub(crate) use self::environment::{Environment, Settings};
use self::faults::Faults;
pub use self::faults::{ConfigError, ConfigErrors};
pub use self::kafka::{Kafka, Properties, Start};
pub use self::limits::Limits;
pub use self::misspelt::is_nearly;
pub use self::mongodb::Mongodb;
use self::reference::{PREFIX, SETTINGS, Setting};
pub use self::value::kafka_name;

const OF_THE_SERVICE: Settings = Settings {
    table: &SETTINGS,
    prefix: PREFIX,
};

/// The configuration of the service, checked. `Debug` shows no secret.
#[derive(Debug)]
pub struct Config {
    /// Brokers, topics, group.
    pub kafka: Kafka,
    /// Where documents are written.
    pub mongodb: Mongodb,
    /// Which field is what, and which kind belongs in which collection.
    pub mapping: Arc<Mapping>,
    /// The file that it was read from; `None`: it is built in.
    pub mapping_file: Option<String>,
    /// What a later state does to an earlier one.
    pub write_mode: WriteMode,
    /// What a record without a value does.
    pub tombstones: Tombstones,
    /// What becomes of documents in other collections, where an entity's kind has changed.
    pub kind_changes: KindChanges,
    /// Every bound.
    pub limits: Limits,
    /// How long closed dead letters are kept, in seconds; 0: for ever.
    pub closed_letters_ttl_seconds: i32,
    /// Where metrics and probes are served.
    pub listen_address: SocketAddr,
    /// Format and filter of the log.
    pub log: Log,
}

impl Config {
    /// The configuration of this process's environment. Reads the files that it names, opens no
    /// socket.
    ///
    /// # Errors
    /// Every fault.
    pub fn from_env() -> Result<Config, ConfigErrors> {
        Config::read(Environment::of_process(&OF_THE_SERVICE))
    }

    /// The configuration of these variables; ignores those that are not the service's.
    ///
    /// # Errors
    /// Every fault.
    pub fn from_vars(vars: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigErrors> {
        Config::read(Environment::of(&OF_THE_SERVICE, vars))
    }

    fn read(mut env: Environment) -> Result<Config, ConfigErrors> {
        let mongodb = Mongodb::read(&mut env);
        let kafka = Kafka::read(&mut env);
        let mapping_file = env.get(&reference::MAPPING_FILE);
        let mapping = match &mapping_file {
            Some(_) => env.read(&reference::MAPPING_FILE, mapping),
            None => Some(Mapping::builtin()),
        };
        let write_modes = [("set", WriteMode::Set), ("replace", WriteMode::Replace)];
        let write_mode = env.read(&reference::WRITE_MODE, value::choice(&write_modes));
        let tombstones = [
            ("ignore", Tombstones::Ignore),
            ("delete", Tombstones::Delete),
        ];
        let tombstones = env.read(&reference::TOMBSTONES, value::choice(&tombstones));
        let kind_changes = [("keep", KindChanges::Keep), ("delete", KindChanges::Delete)];
        let kind_changes = env.read(&reference::KIND_CHANGES, value::choice(&kind_changes));
        let limits = Limits::read(&mut env);
        let ttl = value::whole(0..=i32::MAX as usize);
        let closed_letters_ttl_seconds = env.read(&reference::DEAD_LETTERS_CLOSED_TTL_SECONDS, ttl);
        let listen_address = env.read(&reference::LISTEN_ADDRESS, value::address);
        let asks_for_log = kafka
            .as_ref()
            .is_some_and(|kafka| kafka.properties.asks_for_log());
        let log = env.log().map(|log| match asks_for_log {
            true => log.with_librdkafka(),
            false => log,
        });

        let config = (|| {
            Some(Config {
                kafka: kafka?,
                mongodb: mongodb?,
                mapping: Arc::new(mapping?),
                mapping_file,
                write_mode: write_mode?,
                tombstones: tombstones?,
                kind_changes: kind_changes?,
                limits: limits?,
                closed_letters_ttl_seconds: closed_letters_ttl_seconds? as i32,
                listen_address: listen_address?,
                log: log?,
            })
        })();
        if let Some(config) = &config {
            config.check_together(&mut env.faults);
        }
        env.unless_any_fault(config)
    }

    /// Adds the faults of settings that are valid by themselves and not together.
    fn check_together(&self, faults: &mut Faults) {
        let limits = &self.limits;
        let least = limits.budget_bytes_min();
        if limits.budget_bytes_max < least {
            faults.add_without_example(
                reference::BUDGET_BYTES_MAX.name,
                format!(
                    "{} bytes are too few: with {} = {} and {} = {} bytes it must be at least \
                     {least}",
                    limits.budget_bytes_max,
                    reference::LANES_MAX.name,
                    limits.lanes_max,
                    reference::FLUSH_BYTES_MAX.name,
                    limits.flush_bytes_max,
                ),
            );
        }
        if limits.drain_deadline >= self.kafka.properties.max_poll_interval() {
            faults.add(
                reference::DRAIN_DEADLINE_MS.name,
                format!(
                    "{} ms must be less than max.poll.interval.ms, {} ms: \
                     the group would evict the worker while it drains",
                    limits.drain_deadline.as_millis(),
                    self.kafka.properties.max_poll_interval().as_millis(),
                ),
            );
        }
    }
}

/// The text of a file with a mapping.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn mapping_text(path: &str) -> Result<String, String> {
    fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", value::shown(path)))
}

/// The mapping in a file.
///
/// # Errors
/// Why it cannot be read or used.
pub(crate) fn mapping(path: &str) -> Result<Mapping, String> {
    mapping_of(path, &mapping_text(path)?)
}

/// The mapping in the text of a file.
///
/// # Errors
/// Why it cannot be used.
pub(crate) fn mapping_of(path: &str, text: &str) -> Result<Mapping, String> {
    Mapping::parse(text).map_err(|error| format!("{}: {error}", value::shown(path)))
}
