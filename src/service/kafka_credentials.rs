//! Follows Kafka's password and certificates, which change in their files while the service runs.
//!
//! librdkafka reads them when a client is created, so a change needs a new client. The old one's
//! connections stay valid meanwhile: it is replaced once the brokers accept another one, and the
//! partitions are handed over in order.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::config::Kafka;
use crate::kafka::{Handle, preflight};
use crate::telemetry::code::Code;
use crate::telemetry::metrics::{Metrics, Server};
use crate::telemetry::reminder::Reminder;

/// How often the files are read. Two looks in a row must find the same: a change may be under way.
const READ_EVERY: Duration = Duration::from_secs(2);

/// After how many looks a change is tried again that the brokers did not accept.
const RETRY_LOOKS: u32 = 15;

/// Why the group is joined anew.
const CHANGED: &str = "Kafka's password or certificates have changed";

/// Follows the files forever; `properties_of` gives what librdkafka gets of a configuration.
pub(super) async fn follow(
    kafka: Kafka,
    handle: Handle,
    metrics: Arc<Metrics>,
    properties_of: impl Fn(&Kafka) -> BTreeMap<String, String>,
) {
    if kafka.files.is_empty() {
        return std::future::pending().await;
    }
    let mut in_use = contents(kafka.files.clone()).await;
    let properties = properties_of(&kafka);
    // The client was made of what the files held at the start, which may be long ago.
    if !Kafka::from_env().is_ok_and(|now| properties_of(&now) == properties) {
        in_use.clear();
    }
    let mut not_accepted: Option<Reminder> = None;
    let (mut seen, mut looks) = (in_use.clone(), 0);
    loop {
        sleep(READ_EVERY).await;
        let now = contents(kafka.files.clone()).await;
        looks = if now == seen { looks + 1 } else { 0 };
        seen = now;
        if seen == in_use {
            metrics.credentials_unfit(Server::Kafka, false);
            not_accepted = None;
        }
        if seen == in_use || looks % RETRY_LOOKS != 1 {
            continue;
        }
        let refused = match spawn_blocking(accepted).await {
            Ok(Ok(now)) => {
                handle.renew(CHANGED, Some(properties_of(&now)));
                in_use.clone_from(&seen);
                None
            }
            Ok(Err(why)) => Some(why),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = &refused
            && not_accepted.get_or_insert_default().is_due(why)
        {
            metrics.errors("credentials", "kafka");
            tracing::warn!(code = %Code::KafkaCredentials, "{CHANGED}: {why}; continuing with the client in use");
        }
        metrics.credentials_unfit(Server::Kafka, refused.is_some());
    }
}

/// What each file holds; `None` where it cannot be read.
async fn contents(files: Vec<PathBuf>) -> Vec<Option<Vec<u8>>> {
    let read = move || files.iter().map(|path| fs::read(path).ok()).collect();
    spawn_blocking(read).await.unwrap_or_default()
}

/// The configuration with the files as they are now, which the brokers accept.
fn accepted() -> Result<Kafka, String> {
    let now = Kafka::from_env().map_err(|faults| faults.to_string())?;
    preflight::is_accepted(&now).map_err(|why| why.to_string())?;
    Ok(now)
}
