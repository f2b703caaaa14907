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
    assert_eq!(config.listen_address.to_string(), "0.0.0.0:9090");
    assert_eq!(config.log.format, LogFormat::Auto);
    let properties: Vec<_> = config.kafka.properties.iter().collect();
    assert_eq!(
        properties,
        [
            ("bootstrap.servers", "kafka.kafka.svc.cluster.local"),
            ("client.id", "workflows-sink"),
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.wait.max.ms", "100"),
            ("group.id", "dyff.system.mongodb.sink"),
            ("heartbeat.interval.ms", "500"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("socket.timeout.ms", "30000"),
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
        ("LISTEN_ADDRESS", "9090", "is not an address with a port"),
        ("LOG_FORMAT", "text", "is not one of auto, json, human"),
        ("LOG_FILTER", "inof", "neither a level nor target=level"),
        ("MONGODB__DATABASE", "a.b", "is not a database name"),
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
fn topics_as_a_list_take_the_place_of_the_one_topic() {
    let config = with(&[
        ("DYFF_KAFKA__TOPICS__WORKFLOWS_STATE", "not a topic"),
        ("DYFF_WORKFLOWS_SINK__TOPICS", "a, b"),
    ])
    .unwrap();
    assert_eq!(config.kafka.topics, ["a", "b"]);
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
fn a_user_needs_a_password_and_a_password_a_user() {
    let bare = (URI.0, "mongodb://localhost/");
    let named = (URI.0, "mongodb://workflows-sink@localhost/");
    let password = ("DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD", "pw");
    assert!(read(&[bare]).is_ok());
    assert!(read(&[named, password]).is_ok());
    let (variable, fault) = only(read(&[named]).unwrap_err());
    assert_eq!(variable, password.0);
    assert!(fault.contains("is missing"), "{fault}");
    let (variable, fault) = only(read(&[bare, password]).unwrap_err());
    assert_eq!(variable, URI.0);
    assert!(fault.contains("names no user"), "{fault}");
}

#[test]
fn a_uri_is_refused_with_the_drivers_reason() {
    for (uri, says) in [
        ("http://localhost/", "scheme"),
        ("localhost:27017", "scheme"),
        ("mongodb://localhost:port/", "port"),
        (
            "mongodb+srv://localhost:27017/",
            "a port cannot be specified",
        ),
        ("mongodb://localhost/?tsl=true", "tsl is an invalid option"),
        ("mongodb://localhost/?timeoutMS=1", "timeoutms"),
        ("mongodb://u:p@localhost/?authSource=", "empty authSource"),
        ("mongodb://localhost/?w=1", "`w`"),
        ("mongodb://localhost/?journal=false", "`journal=false`"),
        (
            "mongodb://localhost/?socketTimeoutMS=5",
            "`socketTimeoutMS`",
        ),
        ("mongodb://localhost/?wTimeoutMS=5", "`wTimeoutMS`"),
        (
            "mongodb://localhost/?readPreference=secondary",
            "`readPreference`",
        ),
        (
            "mongodb://localhost/?tls=true&tlsCAFile=/nowhere/ca.pem",
            "cannot be read",
        ),
    ] {
        let (variable, fault) = only(read(&[(URI.0, uri)]).unwrap_err());
        assert_eq!(variable, URI.0);
        assert!(
            fault.to_lowercase().contains(&says.to_lowercase()),
            "{uri}: {fault}"
        );
    }
    assert!(
        read(&[(
            URI.0,
            "mongodb://localhost/?w=majority&readPreference=primary&journal=true"
        )])
        .is_ok()
    );
}

#[test]
fn a_password_that_is_not_percent_encoded_is_reported_without_showing_it() {
    for password in [
        "pa:ss/hunter2",
        "hunter2@x",
        "hunter2/",
        "%hunter2",
        "a?hunter2",
        "hunter2@x?y/z",
    ] {
        let uri = format!("mongodb://workflows-sink:{password}@localhost/");
        let (_, fault) = only(read(&[(URI.0, &uri)]).unwrap_err());
        assert!(fault.contains("percent-encoded"), "{password}: {fault}");
        assert!(!fault.contains("hunter2"));
    }
}

#[test]
fn a_uri_beyond_printable_ascii_is_refused() {
    for password in ["%2é", "hunter2é", "hunter 2", "hunter2\u{7f}"] {
        let uri = format!("mongodb://workflows-sink:{password}@localhost/");
        let (_, fault) = only(read(&[(URI.0, &uri)]).unwrap_err());
        assert!(fault.contains("percent-encode it"), "{password}: {fault}");
        assert!(!fault.contains("hunter"));
    }
}

#[test]
fn a_password_that_stands_where_a_host_should_is_not_shown() {
    for rest in [
        "u:hunter2",
        "u:hunter2%zz/workflows?replicaSet=rs0",
        "u:p/hunter2",
        "h:1,u:hunter2",
        "[u]:hunter2",
        "u:70000hunter2",
    ] {
        let uri = format!("mongodb://{rest}");
        let (_, fault) = only(read(&[(URI.0, &uri)]).unwrap_err());
        assert!(
            fault.contains("is the `@` before it missing?"),
            "{rest}: {fault}"
        );
        assert!(!fault.contains("hunter2"), "{rest}: {fault}");
    }
    for uri in [
        "mongodb://localhost:27017",
        "mongodb://a,b.c:1/d?tls=true",
        "mongodb://[::1]:27017/",
    ] {
        assert!(read(&[(URI.0, uri)]).is_ok(), "{uri}");
    }
}

#[test]
fn librdkafka_checks_each_property() {
    for (name, value, says) in [
        ("NO_SUCH_THING", "1", "No such configuration property"),
        ("SECURITY_PROTOCOL", "tls", "Invalid value"),
        ("SESSION_TIMEOUT_MS", "soon", "Invalid value"),
        ("SESSION_TIMEOUT_MS", "0", "range"),
        ("SSL_CA_LOCATION", "/nowhere/ca.pem", "cannot be read"),
        ("CLIENT_RACK", "", "is empty"),
        (
            "SESSION_TIMEOUT_MS",
            "300000",
            "must be less than max.poll.interval.ms",
        ),
        (
            "MAX_POLL_INTERVAL_MS",
            "30000",
            "must be less than max.poll.interval.ms",
        ),
        (
            "HEARTBEAT_INTERVAL_MS",
            "45000",
            "must be less than session.timeout.ms",
        ),
        (
            "PARTITION_ASSIGNMENT_STRATEGY",
            "range,roundrobin",
            "must be cooperative-sticky",
        ),
        ("SECURITY_PROTOCOL", "sasl_ssl", "must be one of PLAIN"),
        (
            "SASL_OAUTHBEARER_CLIENT_SECRET",
            "hunter2",
            "not supported in this build",
        ),
    ] {
        let name = format!("{KAFKA_PREFIX}{name}");
        let (_, fault) = fault(&[(&name, value)]);
        assert!(fault.contains(says), "{name}={value}: {fault}");
    }
}

#[test]
fn a_property_that_the_service_owns_is_refused_with_the_reason() {
    for owned in &owned::OWNED {
        let name = format!(
            "{KAFKA_PREFIX}{}",
            owned.property.to_uppercase().replace('.', "_")
        );
        let (variable, fault) = fault(&[(&name, "1")]);
        assert_eq!(variable, name);
        assert!(fault.contains(owned.why), "{fault}");
        assert!(
            owned.instead.is_none_or(|instead| fault.contains(instead)),
            "{fault}"
        );
    }
}

#[test]
fn sasl_is_complete_or_refused() {
    let protocol = ("DYFF_KAFKA__CONFIG__SECURITY_PROTOCOL", "SASL_SSL");
    let mechanism = ("DYFF_KAFKA__CONFIG__SASL_MECHANISM", "SCRAM-SHA-512");
    let errors = with(&[protocol, mechanism]).unwrap_err();
    let named: Vec<&str> = errors
        .0
        .iter()
        .map(|error| error.variable.as_str())
        .collect();
    assert_eq!(
        named,
        [
            "DYFF_KAFKA__CONFIG__SASL_USERNAME",
            "DYFF_KAFKA__CONFIG__SASL_PASSWORD"
        ]
    );
    let config = with(&[
        protocol,
        mechanism,
        ("DYFF_KAFKA__CONFIG__SASL_USERNAME", "sink"),
        ("DYFF_KAFKA__CONFIG__SASL_PASSWORD", "hunter2"),
    ]);
    assert_eq!(
        config.unwrap().kafka.properties.get("sasl.mechanisms"),
        Some("SCRAM-SHA-512")
    );
}

#[test]
fn the_two_names_of_one_property_are_not_both_taken() {
    let (_, fault) = fault(&[
        ("DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS", "a"),
        ("DYFF_KAFKA__CONFIG__METADATA_BROKER_LIST", "b"),
    ]);
    assert!(
        fault.contains("BOOTSTRAP_SERVERS sets bootstrap.servers too"),
        "{fault}"
    );
}

#[test]
fn the_broker_assigns_under_the_consumer_protocol() {
    let protocol = ("DYFF_KAFKA__CONFIG__GROUP_PROTOCOL", "consumer");
    let config = with(&[protocol]).unwrap();
    assert_eq!(
        config.kafka.properties.get("partition.assignment.strategy"),
        None
    );
    let (_, fault) = fault(&[protocol, ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "6000")]);
    assert!(fault.contains("the broker decides this"), "{fault}");
}

#[test]
fn librdkafka_creates_a_consumer_of_what_was_accepted() {
    let config = with(&[
        ("DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("DYFF_WORKFLOWS_SINK__GROUP_INSTANCE_ID", "workflows-sink-0"),
        ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", "6000"),
    ])
    .unwrap();
    assert_eq!(
        config.kafka.properties.get("session.timeout.ms"),
        Some("6000")
    );
    config
        .kafka
        .properties
        .client_config()
        .create_native_config()
        .unwrap();
}

#[test]
fn a_time_is_what_librdkafka_makes_of_it() {
    let properties = |vars: &[_]| with(vars).unwrap().kafka.properties;
    let default = properties(&[]);
    assert_eq!(default.max_poll_interval(), Duration::from_secs(300));
    assert_eq!(default.heartbeat_interval(), Duration::from_millis(500));
    let hexadecimal = ("DYFF_KAFKA__CONFIG__MAX_POLL_INTERVAL_MS", "0x10000");
    let interval = properties(&[hexadecimal]).max_poll_interval();
    assert_eq!(interval, Duration::from_millis(0x10000));
    let by_the_broker = properties(&[("DYFF_KAFKA__CONFIG__GROUP_PROTOCOL", "consumer")]);
    assert_eq!(by_the_broker.heartbeat_interval(), Duration::from_secs(5));
}

#[test]
fn every_secret_property_of_librdkafka_is_known_as_one() {
    for secret in [
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
    ] {
        assert!(kafka::is_secret(secret), "{secret}");
    }
    for public in [
        "sasl.username",
        "ssl.certificate.pem",
        "ssl.ca.pem",
        "ssl.key.location",
    ] {
        assert!(!kafka::is_secret(public), "{public}");
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
