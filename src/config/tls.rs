//! Kafka's certificates and keys, tried before anything is connected: librdkafka reads them only
//! when a client is created.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, KafkaResult};

/// What a message of librdkafka about certificates may be about, by the names that it uses.
const SOURCES: [&str; 8] = [
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.crl.location",
];

/// Whether librdkafka takes the `ssl.…` properties of `properties`.
///
/// # Errors
/// The property that is at fault, as far as librdkafka says, and why. No secret: its messages name
/// files and what OpenSSL found in them.
pub(super) fn check(properties: &BTreeMap<String, String>) -> Result<(), (String, String)> {
    let mut config = ClientConfig::new();
    config.set("security.protocol", "ssl");
    let of_tls = properties
        .iter()
        .filter(|(name, _)| name.starts_with("ssl."));
    for (name, value) in of_tls {
        config.set(name, value);
    }
    // Without servers it connects to none.
    let created: KafkaResult<BaseConsumer> = config.create();
    let why = match created {
        Ok(_) => return Ok(()),
        Err(KafkaError::ClientCreation(why)) => why,
        Err(error) => error.to_string(),
    };
    let why = why.trim_end();
    let mut names = properties.keys().map(String::as_str);
    let named = names.find(|name| name.starts_with("ssl.") && why.contains(name));
    let fault = match named {
        Some(name) if !SOURCES.contains(&name) => format!("librdkafka: {why}"),
        _ => format!("librdkafka: {why}: is it a PEM file, and the one that is meant?"),
    };
    Err((named.unwrap_or("security.protocol").to_owned(), fault))
}
