//! SIGUSR1: more is logged for a while, without a restart.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::logging::refilter;

/// How long more is logged.
const VERBOSE_MAX: Duration = Duration::from_secs(600);

/// Logs at `debug` for ten minutes after a SIGUSR1, then by `filter` again; another one before
/// ends it at once.
pub async fn follow(filter: String) {
    let mut asked = match signal(SignalKind::user_defined1()) {
        Ok(asked) => asked,
        Err(error) => {
            tracing::info!(%error, "SIGUSR1 cannot be watched");
            return std::future::pending().await;
        }
    };
    loop {
        asked.recv().await;
        set(&format!("{filter},debug"));
        tracing::info!(
            seconds = VERBOSE_MAX.as_secs(),
            "logging at debug for a while"
        );
        tokio::select! {
            () = tokio::time::sleep(VERBOSE_MAX) => {}
            _ = asked.recv() => {}
        }
        tracing::info!("logging as it is configured again");
        set(&filter);
    }
}

fn set(directives: &str) {
    if let Err(error) = refilter(directives) {
        tracing::info!(error, "the log's filter is as before");
    }
}
