//! The settings of the service; those of one client are in a file of their own.

mod kafka;
mod mongodb;

use std::{io::Write as _, time::Duration};

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::limits::MIB;
use super::reference::{FILE_SUFFIX, KAFKA_PREFIX};
use super::*;
use crate::telemetry::logging::LogFormat;

const URI: (&str, &str) = (
    "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING",
    "mongodb://workflows-sink:hunter2@localhost:27017/workflows?replicaSet=rs0",
);

fn read(vars: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::from_vars(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

/// The configuration of the URI and `vars`.
fn with(vars: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    read(&[&[URI], vars].concat())
}

/// The only error of the URI and `vars`: its variable and fault.
fn fault(vars: &[(&str, &str)]) -> (String, String) {
    only(with(vars).unwrap_err())
}

fn only(errors: ConfigErrors) -> (String, String) {
    assert_eq!(errors.0.len(), 1, "{errors}");
    let error = errors.0.into_iter().next().unwrap();
    (error.variable, error.fault)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn a_line_end_is_no_part_of_a_secret_wherever_it_is_read_from() {
    let uri = (URI.0, "mongodb://workflows-sink@localhost/\n");
    let password = (
        "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD",
        "pw\r\n",
    );
    let config = read(&[uri, password]).unwrap();
    assert_eq!(config.mongodb.passwords[0].expose_secret(), "pw");
    let sasl = ("DYFF_KAFKA__CONFIG__SASL_PASSWORD", "pw\n");
    let config = with(&[sasl]).unwrap();
    assert_eq!(config.kafka.properties.get("sasl.password"), Some("pw"));
}

#[test]
fn a_misspelt_name_is_a_fault_and_not_ignored() {
    let (variable, fault) = fault(&[("DYFF_WORKFLOWS_SINK_GROUP", "mine")]);
    assert_eq!(variable, "DYFF_WORKFLOWS_SINK_GROUP");
    assert!(
        fault.contains("did you mean DYFF_WORKFLOWS_SINK__GROUP?"),
        "{fault}"
    );
    let others = [
        (
            "DYFF_KAFKA__TOPICS__WORKFLOWS_EVENTS",
            "dyff.workflows.events",
        ),
        ("DYFF_WORKFLOWS_SINK_SERVICE_HOST", "10.0.0.1"),
    ];
    assert!(with(&others).is_ok());
}

#[test]
fn a_uri_is_all_that_has_to_be_set() {
    let config = with(&[]).unwrap();
    assert_eq!(config.kafka.topics, ["dyff.workflows.state"]);
    assert_eq!(config.kafka.group, "dyff.system.mongodb.sink");
    assert_eq!(config.kafka.start, Start::Earliest);
    assert_eq!(config.mongodb.database, "workflows");
    assert_eq!(config.write_mode, WriteMode::Set);
    assert_eq!(config.tombstones, Tombstones::Ignore);
    assert_eq!(
        config.limits,
        Limits {
            flush_records_max: 1000,
            flush_bytes_max: 2 * MIB,
            budget_bytes_max: 384 * MIB,
            lanes_max: 4,
            drain_deadline: Duration::from_secs(25),
            rejections_in_a_row_max: 1000,
        }
    );
    assert_eq!(config.closed_letters_ttl_seconds, 0);
    assert_eq!(config.listen_address.to_string(), "0.0.0.0:9090");
    assert_eq!(config.log.format, LogFormat::Auto);
    let properties: Vec<_> = config.kafka.properties.iter().collect();
    assert_eq!(
        properties,
        [
            ("bootstrap.servers", "kafka.kafka.svc.cluster.local"),
            ("check.crcs", "true"),
            ("client.id", "workflows-sink"),
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.wait.max.ms", "100"),
            ("group.id", "dyff.system.mongodb.sink"),
            ("heartbeat.interval.ms", "100"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("socket.timeout.ms", "30000"),
            ("ssl.ca.location", "probe"),
            ("topic.metadata.refresh.interval.ms", "60000"),
        ]
    );
}

#[test]
fn the_environment_of_the_contract_keeps_working() {
    let config = read(&[
        ("DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS", "a:9092,b:9092"),
        ("DYFF_KAFKA__CONFIG__COMPRESSION_TYPE", "zstd"),
        (
            "DYFF_KAFKA__TOPICS__WORKFLOWS_STATE",
            "test.workflows.state",
        ),
        (
            "DYFF_KAFKA__TOPICS__WORKFLOWS_EVENTS",
            "test.workflows.events",
        ),
        (
            "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING",
            "mongodb+srv://workflows-sink:pw@dyff-datastore-rs0.mongodb.svc.cluster.local/workflows\
             ?replicaSet=rs0&ssl=false&authSource=users",
        ),
        ("DYFF_WORKFLOWS_SINK__MONGODB__DATABASE", "workflows"),
        (
            "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD",
            "unused: the URI carries one",
        ),
        ("DYFF_WORKFLOWS_SINK_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(
        config.kafka.properties.get("bootstrap.servers"),
        Some("a:9092,b:9092")
    );
    assert_eq!(config.kafka.topics, ["test.workflows.state"]);
    let passwords = config.mongodb.passwords.iter();
    assert!(
        passwords.map(ExposeSecret::expose_secret).eq(["pw"]),
        "the URI's own"
    );
}

#[test]
fn every_fault_is_shown_at_once() {
    let errors = read(&[
        ("DYFF_WORKFLOWS_SINK__LANES_MAX", "many"),
        ("DYFF_WORKFLOWS_SINK__GRUOP", "x"),
        ("DYFF_WORKFLOWS_SINK__START", "now"),
        ("DYFF_KAFKA__CONFIG__ENABLE_AUTO_COMMIT", "true"),
        ("DYFF_KAFKA__CONFIG__NO_SUCH_THING", "1"),
    ])
    .unwrap_err();
    let named: Vec<&str> = errors
        .0
        .iter()
        .map(|error| error.variable.as_str())
        .collect();
    assert_eq!(
        named,
        [
            "DYFF_WORKFLOWS_SINK__GRUOP",
            "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING",
            "DYFF_WORKFLOWS_SINK__START",
            "DYFF_KAFKA__CONFIG__ENABLE_AUTO_COMMIT",
            "DYFF_KAFKA__CONFIG__NO_SUCH_THING",
            "DYFF_WORKFLOWS_SINK__LANES_MAX",
        ]
    );
    let text = errors.to_string();
    assert!(
        text.contains("did you mean DYFF_WORKFLOWS_SINK__GROUP?"),
        "{text}"
    );
    assert!(
        text.contains("(example: DYFF_WORKFLOWS_SINK__LANES_MAX=4)"),
        "{text}"
    );
    assert!(
        text.contains("(example: DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING=mongodb+srv://"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 7, "one line each: {text}");
}

#[test]
fn each_setting_says_what_is_wrong_with_its_value() {
    for (name, value, says) in [
        ("TOPICS", "a,,b", "is not a name that Kafka takes"),
        ("TOPICS", "a,b, a", "names a topic twice"),
        ("TOPICS", "^regex.*", "is not a name that Kafka takes"),
        ("GROUP", "", "is empty"),
        ("GROUP", " padded", "blanks"),
        ("GROUP_INSTANCE_ID", "a b", "is not a name that Kafka takes"),
        ("START", "Earliest", "is not one of earliest, latest"),
        ("WRITE_MODE", "merge", "is not one of set, replace"),
        ("TOMBSTONES", "yes", "is not one of ignore, delete"),
        ("MAPPING_FILE", "/nowhere/mapping.toml", "cannot be read"),
        ("FLUSH_RECORDS_MAX", "0", "from 1 to 2000"),
        ("FLUSH_RECORDS_MAX", "1e3", "from 1 to 2000"),
        ("FLUSH_BYTES_MAX", "2MB", "KiB, MiB and GiB"),
        ("FLUSH_BYTES_MAX", "1GiB", "from 16384 to 8388608"),
        (
            "FLUSH_BYTES_MAX",
            "99999999999999999999GiB",
            "is not a number of bytes",
        ),
        ("BUDGET_BYTES_MAX", "1MiB", "is not a number of bytes"),
        ("BUDGET_BYTES_MAX", "64MiB", "must be at least 83886080"),
        ("LANES_MAX", "-1", "from 1 to 128"),
        ("DRAIN_DEADLINE_MS", "0", "from 1 to 600000"),
        (
            "DRAIN_DEADLINE_MS",
            "300000",
            "must be less than max.poll.interval.ms",
        ),
        ("REJECTIONS_IN_A_ROW_MAX", "none", "is not a whole number"),
        (
            "DEAD_LETTERS_CLOSED_TTL_SECONDS",
            "90d",
            "is not a whole number",
        ),
        ("LISTEN_ADDRESS", "9090", "is not an address with a port"),
        ("LOG_FORMAT", "text", "is not one of auto, json, human"),
        ("LOG_FILTER", "inof", "neither a level nor target=level"),
        ("MONGODB__DATABASE", "a.b", "is not a database name"),
        ("MONGODB__DATABASE", "workflows\n", "is not a database name"),
        ("MONGODB__DATABASE", "workflows\t", "is not a database name"),
        ("MONGODB__DATABASE", "admin", "the server itself"),
    ] {
        let name = format!("{PREFIX}{name}");
        let (variable, fault) = fault(&[(&name, value)]);
        assert_eq!(variable, name);
        assert!(fault.contains(says), "{name}={value}: {fault}");
    }
}

#[test]
fn sizes_have_units() {
    let config = with(&[
        ("DYFF_WORKFLOWS_SINK__FLUSH_BYTES_MAX", "65536"),
        ("DYFF_WORKFLOWS_SINK__BUDGET_BYTES_MAX", "1 GiB"),
    ])
    .unwrap();
    assert_eq!(config.limits.flush_bytes_max, 65_536);
    assert_eq!(config.limits.budget_bytes_max, 1024 * MIB);
}

#[test]
fn a_setting_that_the_table_lists_is_read() {
    for setting in reference::SETTINGS {
        let (variable, fault) = only_about(setting.name, &[(setting.name, "")]);
        assert_eq!(variable, setting.name);
        assert!(fault.contains("is empty"), "{variable}: {fault}");
        if setting.secret {
            let name = format!("{}{FILE_SUFFIX}", setting.name);
            let (variable, fault) = only_about(setting.name, &[(&name, "/nowhere")]);
            assert_eq!(variable, name);
            assert!(fault.contains("cannot be read"), "{variable}: {fault}");
        }
    }
}

/// The only error about a variable or its file: its variable and fault.
fn only_about(name: &str, vars: &[(&str, &str)]) -> (String, String) {
    let mut errors = read(vars).unwrap_err();
    (errors.0).retain(|error| error.variable.starts_with(name));
    only(errors)
}

#[test]
fn a_secret_may_come_from_a_file() {
    let (uri, password) = (
        file("mongodb://workflows-sink@localhost/\r\n"),
        file("hun\nter2\n"),
    );
    let uri_file = (
        "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING_FILE",
        uri.path().to_str().unwrap(),
    );
    let password_file = (
        "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD_FILE",
        password.path().to_str().unwrap(),
    );
    let sasl_file = (
        "DYFF_KAFKA__CONFIG__SASL_PASSWORD_FILE",
        password.path().to_str().unwrap(),
    );

    let config = read(&[uri_file, password_file, sasl_file]).unwrap();
    assert_eq!(
        config.mongodb.uri.expose_secret(),
        "mongodb://workflows-sink@localhost/"
    );
    assert_eq!(config.mongodb.passwords[0].expose_secret(), "hun\nter2");
    assert_eq!(
        config.kafka.properties.get("sasl.password"),
        Some("hun\nter2")
    );

    let (variable, fault) = only(read(&[uri_file, password_file, URI]).unwrap_err());
    assert_eq!(variable, URI.0);
    assert!(
        fault.contains("CONNECTION_STRING_FILE is set too"),
        "{fault}"
    );
    let (variable, fault) = self::fault(&[sasl_file, ("DYFF_KAFKA__CONFIG__SASL_PASSWORD", "x")]);
    assert_eq!(variable, "DYFF_KAFKA__CONFIG__SASL_PASSWORD");
    assert!(fault.contains("SASL_PASSWORD_FILE is set too"), "{fault}");

    for (name, vars) in [
        (
            "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING_FILE",
            &[][..],
        ),
        (
            "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD_FILE",
            &[uri_file],
        ),
        ("DYFF_KAFKA__CONFIG__SASL_PASSWORD_FILE", &[URI]),
    ] {
        let empty = file("\n");
        for (path, says) in [
            ("/nowhere/secret", "cannot be read"),
            (empty.path().to_str().unwrap(), "is empty"),
        ] {
            let (variable, fault) = only(read(&[vars, &[(name, path)]].concat()).unwrap_err());
            assert_eq!(variable, name);
            assert!(fault.contains(says), "{fault}");
        }
    }
}

#[test]
fn debug_shows_no_secret() {
    let config = with(&[
        ("DYFF_KAFKA__CONFIG__SASL_PASSWORD", "hunter2"),
        ("DYFF_KAFKA__CONFIG__SSL_KEY_PASSWORD", "hunter2"),
        ("DYFF_KAFKA__CONFIG__SSL_KEYSTORE_PASSWORD", "hunter2"),
        (
            "DYFF_KAFKA__CONFIG__SASL_OAUTHBEARER_CONFIG",
            "principal=hunter2",
        ),
    ])
    .unwrap();
    let text = format!("{config:?}");
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(text.matches("[REDACTED]").count(), 7, "{text}");
    let with_password = read(&[
        (URI.0, "mongodb://workflows-sink@localhost/"),
        (
            "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD",
            "hunter2",
        ),
    ]);
    assert!(!format!("{with_password:?}").contains("hunter2"));
}

#[test]
fn a_uri_in_the_wrong_variable_is_not_shown() {
    for name in [
        "MONGODB__DATABASE",
        "LISTEN_ADDRESS",
        "START",
        "TOPICS",
        "MAPPING_FILE",
        "GRUOP",
        "LOG_FILTER",
    ] {
        let name = format!("{PREFIX}{name}");
        let errors = with(&[(&name, URI.1)]).unwrap_err();
        assert!(
            !format!("{errors} {errors:?}").contains("hunter2"),
            "{errors}"
        );
    }
}

proptest! {
    #[test]
    fn no_value_of_a_secret_is_ever_shown(
        index in 0..6usize,
        before in "[ -~]{0,12}",
        after in "[ -~]{0,12}",
    ) {
        let secret = format!("{before}hunter2{after}");
        let name = [
            "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING",
            "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD",
            "DYFF_KAFKA__CONFIG__SASL_PASSWORD",
            "DYFF_KAFKA__CONFIG__SSL_KEY_PEM",
            "DYFF_KAFKA__CONFIG__SASL_OAUTHBEARER_CONFIG",
            "DYFF_KAFKA__CONFIG__SSL_KEYSTORE_PASSWORD",
        ][index];
        let value = match index {
            0 => format!("mongodb://workflows-sink:{secret}@localhost/?tsl=x"),
            _ => secret,
        };
        let result = read(&[("DYFF_WORKFLOWS_SINK__START", "wrong"), (name, &value)]);
        let errors = result.unwrap_err();
        prop_assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{errors}");
    }
}
