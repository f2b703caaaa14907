//! Environment → validated [`Config`]: before a socket opens, every fault at once, each naming its variable.

pub mod credentials;
pub(crate) mod faults;
pub mod kafka;
pub mod mongodb;
pub mod owned;
pub mod reference;
pub mod startup;
pub(crate) mod value;

use std::{
    collections::BTreeMap, env, fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration,
};

use secrecy::SecretString;
use serde::Deserialize;

use crate::record::entity::Tombstones;
use crate::record::fold::WriteMode;
use crate::record::mapping::Mapping;
use crate::telemetry::logging::{Log, LogFormat};

pub use self::credentials::Credentials;
use self::credentials::Source;
use self::faults::Faults;
pub use self::faults::{ConfigError, ConfigErrors};
pub use self::kafka::{Kafka, Properties, Start};
pub use self::mongodb::Mongodb;
use self::reference::{FILE_SUFFIX, KAFKA_PREFIX, PREFIX, SETTINGS, Setting};

const MIB: usize = 1024 * 1024;

/// Everything the service is told, checked. `Debug` shows no secret.
#[derive(Debug)]
pub struct Config {
    /// Brokers, topics, group.
    pub kafka: Kafka,
    /// Where documents go.
    pub mongodb: Mongodb,
    /// Which field is what, which kind goes where.
    pub mapping: Arc<Mapping>,
    /// What a later state does to an earlier one.
    pub write_mode: WriteMode,
    /// What a record without a value does.
    pub tombstones: Tombstones,
    /// Every bound.
    pub limits: Limits,
    /// Where metrics and health are served.
    pub listen_address: SocketAddr,
    /// Form and filter of the log.
    pub log: Log,
}

/// Every bound, in the unit that its name ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records in one batch.
    pub flush_records_max: usize,
    /// BSON bytes in one batch; a first record that is larger fits all the same.
    pub flush_bytes_max: usize,
    /// Bytes in batches and librdkafka's queues together.
    pub budget_bytes_max: usize,
    /// Batches written at the same time.
    pub lanes_max: usize,
    /// How long a shutdown or a revoked partition waits for the batch in flight.
    pub drain_deadline: Duration,
    /// Rejections in a row after which a partition stops; 0: never.
    pub rejections_in_a_row_max: usize,
}

impl Limits {
    /// The smallest budget that works: each write in flight and the batch decoded behind it, and one record of
    /// 16 MiB as JSON, as BSON, in its command and in a fetch response.
    pub fn budget_bytes_min(&self) -> usize {
        64 * MIB + 2 * self.lanes_max * self.flush_bytes_max
    }
}

/// The service's own variables as `envy` reads them: unparsed, so that all faults can be told at once.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(rename = "mongodb__connection_string")]
    connection_string: Option<String>,
    #[serde(rename = "mongodb__connection_string_file")]
    connection_string_file: Option<String>,
    #[serde(rename = "mongodb__database")]
    database: Option<String>,
    credentials_dir: Option<String>,
    topics: Option<String>,
    group: Option<String>,
    group_instance_id: Option<String>,
    start: Option<String>,
    write_mode: Option<String>,
    tombstones: Option<String>,
    mapping_file: Option<String>,
    flush_records_max: Option<String>,
    flush_bytes_max: Option<String>,
    budget_bytes_max: Option<String>,
    lanes_max: Option<String>,
    drain_deadline_ms: Option<String>,
    rejections_in_a_row_max: Option<String>,
    listen_address: Option<String>,
    log_format: Option<String>,
    log_filter: Option<String>,
}

impl Config {
    /// The configuration of this process's environment. Reads the files that it names, opens no socket.
    pub fn from_env() -> Result<Config, ConfigErrors> {
        let (vars, faults) = environment(&SETTINGS);
        Config::read(vars, faults)
    }

    /// The configuration of these variables, of which others than the service's are passed over.
    pub fn from_vars(vars: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigErrors> {
        Config::read(vars.collect(), Faults::of(&SETTINGS))
    }

    fn read(vars: BTreeMap<String, String>, mut faults: Faults) -> Result<Config, ConfigErrors> {
        let (known, unknown): (Vec<_>, Vec<_>) = vars
            .iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .map(|(name, value)| (name.clone(), value.clone()))
            .partition(|(name, _)| reference::is_known(&SETTINGS, name));
        for (name, _) in unknown {
            let nearest = reference::nearest(&SETTINGS, PREFIX, &name);
            faults.add(
                &name,
                format!("there is no such setting; did you mean {nearest}?"),
            );
        }
        let raw: Raw = match envy::prefixed(PREFIX).from_iter(known) {
            Ok(raw) => raw,
            Err(error) => {
                faults.add(PREFIX, error.to_string());
                Raw::default()
            }
        };
        let var = |setting: &Setting| vars.get(setting.name).cloned();

        let secret = |value: Option<String>| value.map(SecretString::from);
        let credentials = Credentials {
            directory: raw
                .credentials_dir
                .and_then(|path| faults.read(&reference::CREDENTIALS_DIR, Some(path), value::text))
                .map(PathBuf::from),
            uri: Source {
                value: secret(raw.connection_string),
                file: raw.connection_string_file,
            },
            password: Source {
                value: secret(var(&reference::PASSWORD)),
                file: vars
                    .get(&format!("{}{FILE_SUFFIX}", reference::PASSWORD.name))
                    .cloned(),
            },
            database: raw.database,
        };
        let mongodb = mongodb::read(&mut faults, credentials);

        let topics = match &raw.topics {
            Some(_) => faults.read(&reference::TOPICS, raw.topics, value::topics),
            None => faults
                .read(&reference::TOPIC, var(&reference::TOPIC), value::topic)
                .map(|topic| vec![topic]),
        };
        let group = faults.read(&reference::GROUP, raw.group, value::text);
        let instance = raw
            .group_instance_id
            .and_then(|id| faults.read(&reference::GROUP_INSTANCE_ID, Some(id), value::topic_like));
        let start = faults.read(
            &reference::START,
            raw.start,
            value::choice(&[("earliest", Start::Earliest), ("latest", Start::Latest)]),
        );
        let passed = vars
            .iter()
            .filter(|(name, _)| name.starts_with(KAFKA_PREFIX))
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let properties = kafka::properties(&mut faults, passed, group.as_deref(), instance);

        let mapping = match raw.mapping_file {
            Some(path) => faults.read(&reference::MAPPING_FILE, Some(path), mapping),
            None => Some(Mapping::builtin()),
        };
        let write_mode = faults.read(
            &reference::WRITE_MODE,
            raw.write_mode,
            value::choice(&[("set", WriteMode::Set), ("replace", WriteMode::Replace)]),
        );
        let tombstones = faults.read(
            &reference::TOMBSTONES,
            raw.tombstones,
            value::choice(&[
                ("ignore", Tombstones::Ignore),
                ("delete", Tombstones::Delete),
            ]),
        );

        let flush_records_max = faults.read(
            &reference::FLUSH_RECORDS_MAX,
            raw.flush_records_max,
            value::whole(1..=2000),
        );
        let flush_bytes_max = faults.read(
            &reference::FLUSH_BYTES_MAX,
            raw.flush_bytes_max,
            value::bytes(16 * 1024..=8 * MIB),
        );
        let budget_bytes_max = faults.read(
            &reference::BUDGET_BYTES_MAX,
            raw.budget_bytes_max,
            value::bytes(64 * MIB..=1024 * 1024 * MIB),
        );
        let lanes_max = faults.read(&reference::LANES_MAX, raw.lanes_max, value::whole(1..=128));
        let drain_deadline_ms = faults.read(
            &reference::DRAIN_DEADLINE_MS,
            raw.drain_deadline_ms,
            value::whole(1..=600_000),
        );
        let rejections_in_a_row_max = faults.read(
            &reference::REJECTIONS_IN_A_ROW_MAX,
            raw.rejections_in_a_row_max,
            value::whole(0..=1_000_000_000),
        );
        let listen_address = faults.read(
            &reference::LISTEN_ADDRESS,
            raw.listen_address,
            value::parsed("an address with a port"),
        );
        let log = log(&mut faults, raw.log_format, raw.log_filter);

        let config = (|| {
            Some(Config {
                kafka: Kafka {
                    properties,
                    topics: topics?,
                    group: group?,
                    start: start?,
                },
                mongodb: mongodb?,
                mapping: Arc::new(mapping?),
                write_mode: write_mode?,
                tombstones: tombstones?,
                limits: Limits {
                    flush_records_max: flush_records_max?,
                    flush_bytes_max: flush_bytes_max?,
                    budget_bytes_max: budget_bytes_max?,
                    lanes_max: lanes_max?,
                    drain_deadline: Duration::from_millis(drain_deadline_ms? as u64),
                    rejections_in_a_row_max: rejections_in_a_row_max?,
                },
                listen_address: listen_address?,
                log: log?,
            })
        })();
        if let Some(config) = &config {
            config.check_together(&mut faults);
        }
        faults.unless_any(config)
    }

    /// What must hold between settings that are each valid.
    fn check_together(&self, faults: &mut Faults) {
        let limits = &self.limits;
        let least = limits.budget_bytes_min();
        if limits.budget_bytes_max < least {
            faults.add(
                reference::BUDGET_BYTES_MAX.name,
                format!(
                    "{} bytes are too few: with {} = {} and {} = {} bytes it must be at least {least}",
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
                    "{} ms must be less than max.poll.interval.ms, {} ms: the group would evict the worker while it drains",
                    limits.drain_deadline.as_millis(),
                    self.kafka.properties.max_poll_interval().as_millis(),
                ),
            );
        }
    }
}

/// The process's environment; what of it is ours and not text is a fault.
pub(crate) fn environment(
    settings: &'static [&'static Setting],
) -> (BTreeMap<String, String>, Faults) {
    let (mut vars, mut faults) = (BTreeMap::new(), Faults::of(settings));
    for (name, value) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        match value.into_string() {
            Ok(value) => drop(vars.insert(name, value)),
            Err(_) if name.starts_with("DYFF_") => faults.add(&name, "is not UTF-8"),
            Err(_) => {}
        }
    }
    (vars, faults)
}

pub(crate) fn log(
    faults: &mut Faults,
    format: Option<String>,
    filter: Option<String>,
) -> Option<Log> {
    let format = faults.read(
        &reference::LOG_FORMAT,
        format,
        value::choice(&[
            ("auto", LogFormat::Auto),
            ("json", LogFormat::Json),
            ("human", LogFormat::Human),
        ]),
    );
    let filter = faults.read(&reference::LOG_FILTER, filter, |text| {
        crate::telemetry::logging::filter(text)
            .map(|_| text.to_owned())
            .map_err(|error| format!("is not a log filter: {error}"))
    });
    Some(Log {
        format: format?,
        filter: filter?,
    })
}

fn mapping(path: &str) -> Result<Mapping, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", value::shown(path)))?;
    Mapping::parse(&text).map_err(|error| format!("{}: {error}", value::shown(path)))
}

#[cfg(test)]
mod tests;
