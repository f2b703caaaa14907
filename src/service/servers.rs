//! The servers, before there is anything that follows them.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::database::{self, Login};
use crate::kafka::preflight::{self, Absent, Topics};
use crate::telemetry::health::Health;
use crate::writer;

/// How old a login may become while a topic is waited for.
const LOGIN_AGE_MAX: Duration = Duration::from_secs(30);

/// Logs in to MongoDB and looks up the topics, whichever is there first. While a topic is waited
/// for, logs in anew now and then: passwords change, and nobody follows them yet.
///
/// # Errors
/// What no waiting mends, of either.
pub(super) async fn reach(
    config: &Config,
    health: &Arc<Health>,
) -> anyhow::Result<(Login, Topics)> {
    let collections = writer::collections(&config.mapping);
    let log_in = async || {
        let lanes_max = config.limits.lanes_max;
        let login = database::connect(&config.mongodb, lanes_max, &collections, health).await?;
        health.mongodb_answered();
        anyhow::Ok(login)
    };
    let topics = preflight::topic_partitions(&config.kafka, Absent::Awaited, health);
    tokio::pin!(topics);
    let mut login = None;
    loop {
        tokio::select! {
            topics = &mut topics => {
                let topics = topics?;
                let login = match login {
                    Some(login) => login,
                    None => log_in().await?,
                };
                return Ok((login, topics));
            }
            logged_in = log_in(), if login.is_none() => login = Some(logged_in?),
            () = tokio::time::sleep(LOGIN_AGE_MAX), if login.is_some() => login = None,
        }
    }
}
