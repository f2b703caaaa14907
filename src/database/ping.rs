//! Pings MongoDB, so that an idle service notices an outage too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::doc;

use super::Connection;
use super::errors::{self, Cause, Verdict};
use super::outage::Outage;
use crate::telemetry::health::Health;

/// The time between an answer and the next ping, and how long an answer may take.
const PING_EVERY: Duration = Duration::from_secs(5);

/// Pings forever, on the client in use, and reports to `health` and `outage`.
///
/// # Errors
/// It returns none: the type is that of every supervised part.
pub async fn ping(
    connection: Connection,
    health: Arc<Health>,
    outage: Arc<Outage>,
) -> anyhow::Result<()> {
    loop {
        let since = Instant::now();
        // Not held between pings, or an old client would live until the next one.
        let database = connection.current().database;
        let ping = database.run_command(doc! { "ping": 1 }).into_future();
        let (cause, error) = match tokio::time::timeout(PING_EVERY, ping).await {
            Ok(Ok(_)) => {
                if outage.answered() {
                    health.mongodb_answered();
                }
                drop(database);
                tokio::time::sleep(PING_EVERY).await;
                continue;
            }
            Ok(Err(error)) => match errors::of_error(&error) {
                Verdict::Transient(cause) => (cause, errors::shown(&error)),
                Verdict::Permanent(_) => (Cause::Other, errors::shown(&error)),
            },
            Err(_) => (Cause::Timeout, format!("no answer within {PING_EVERY:?}")),
        };
        health.mongodb_failed(&cause.told(&error));
        outage.unanswered(since, cause, &error);
        drop(database);
        tokio::time::sleep(PING_EVERY).await;
    }
}
