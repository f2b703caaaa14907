//! Topics and librdkafka properties.

use std::time::Duration;

use super::*;
use crate::config::kafka::is_secret;

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
fn librdkafka_checks_each_property() {
    for (name, value, says) in [
        ("NO_SUCH_THING", "1", "No such configuration property"),
        (
            "BOOTSTRAP_SERVER",
            "kafka:9092",
            "did you mean DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS?",
        ),
        ("SOCKET_TIMEOUT_MS", "30s", "is read as 30"),
        ("SESSION_TIMEOUT_MS", "60000abc", "is read as 60000"),
        ("MESSAGE_MAX_BYTES", "1000KB", "is read as 1000"),
        ("SECURITY_PROTOCOL", "tls", "Invalid value"),
        ("SESSION_TIMEOUT_MS", "soon", "Invalid value"),
        ("SESSION_TIMEOUT_MS", "0", "range"),
        ("SSL_CA_LOCATION", "/nowhere/ca.pem", "cannot be read"),
        ("CLIENT_RACK", "", "is empty"),
        ("BOOTSTRAP_SERVERS", "http://kafka:9092", "no Kafka broker"),
        ("BOOTSTRAP_SERVERS", "kafka:port", "no Kafka broker"),
        ("BOOTSTRAP_SERVERS", "kafka:9092,", "no Kafka broker"),
        ("BOOTSTRAP_SERVERS", "kafka 9092", "no Kafka broker"),
        ("BOOTSTRAP_SERVERS", "kafka\n", "a line end"),
        ("SASL_USERNAME", "sink\n", "a line end"),
        ("BOOTSTRAP_SERVERS", "a:1 , b:1", "no Kafka broker"),
        ("BOOTSTRAP_SERVERS", "a:1;b:1", "no Kafka broker"),
        (
            "BOOTSTRAP_SERVERS",
            "ssl://a:1",
            "security.protocol is plaintext",
        ),
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

/// librdkafka knows it in capitals alone, and says so only when a client is created.
#[test]
fn a_mechanism_in_lower_case_is_refused() {
    let (variable, fault) = fault(&[
        ("DYFF_KAFKA__CONFIG__SECURITY_PROTOCOL", "SASL_SSL"),
        ("DYFF_KAFKA__CONFIG__SASL_MECHANISM", "scram-sha-512"),
    ]);
    assert_eq!(variable, "DYFF_KAFKA__CONFIG__SASL_MECHANISM");
    assert!(fault.contains("must be one of PLAIN"), "{fault}");
}

#[test]
fn tokens_without_a_source_are_refused() {
    let sasl = [
        ("DYFF_KAFKA__CONFIG__SECURITY_PROTOCOL", "SASL_SSL"),
        ("DYFF_KAFKA__CONFIG__SASL_MECHANISMS", "OAUTHBEARER"),
    ];
    let (variable, fault) = fault(&sasl);
    assert_eq!(variable, sasl[1].0);
    assert!(fault.contains("no source of tokens"), "{fault}");
}

#[test]
fn a_file_that_holds_no_certificate_is_refused_before_anything_is_connected() {
    let (ca, key) = (file("no certificate"), file("no key"));
    let (ca, key) = (ca.path().to_str().unwrap(), key.path().to_str().unwrap());
    let protocol = ("DYFF_KAFKA__CONFIG__SECURITY_PROTOCOL", "ssl");
    for (name, value) in [
        ("SSL_CA_LOCATION", ca),
        ("SSL_CERTIFICATE_LOCATION", ca),
        ("SSL_KEY_LOCATION", key),
        ("SSL_CA_PEM", "-----BEGIN CERTIFICATE-----"),
        ("SSL_KEY_PEM", "hunter2"),
    ] {
        let name = format!("{KAFKA_PREFIX}{name}");
        let (variable, fault) = fault(&[protocol, (&name, value)]);
        assert_eq!(variable, name, "{fault}");
        assert!(!fault.contains("hunter2"), "{fault}");
    }
    assert!(with(&[protocol]).is_ok());
}

#[test]
fn the_systems_authorities_are_looked_for_where_none_are_named() {
    let named = |vars: &[_]| {
        with(vars)
            .unwrap()
            .kafka
            .properties
            .get("ssl.ca.location")
            .map(str::to_owned)
    };
    assert_eq!(named(&[]).as_deref(), Some("probe"));
    for list in [
        "kafka.kafka.svc.cluster.local",
        "plaintext://a:9093, b:9093,[::1]:9092",
        "PLAINTEXT://a",
    ] {
        assert!(
            with(&[("DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS", list)]).is_ok(),
            "{list}"
        );
    }
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
    assert_eq!(default.heartbeat_interval(), Duration::from_millis(100));
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
        assert!(is_secret(secret), "{secret}");
    }
    for public in [
        "sasl.username",
        "ssl.certificate.pem",
        "ssl.ca.pem",
        "ssl.key.location",
    ] {
        assert!(!is_secret(public), "{public}");
    }
}
