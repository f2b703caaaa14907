//! Lets the rounds of a rebalance follow each other at once.
//!
//! A partition that moves needs two rounds: in the first its owner gives it up, in the second the
//! other member gets it. For each, every member sees by its next heartbeat that the group wants it
//! to join again. librdkafka joins at most once a second, so the second round came a second after
//! the first. An answer to a request for metadata ends that wait (`rkcg_join_intvl` in librdkafka
//! 2.12.1).

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use tokio::task::spawn_blocking;

use super::Handle;

/// How long after a round librdkafka would let the next one wait.
const EXPECTED_FOR: Duration = Duration::from_secs(1);

/// How often metadata are asked for meanwhile. This bounds how long a member waits to join again.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How long one question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// After each round of a rebalance, asks for the metadata of `topic` for a while, without end.
pub async fn hasten_rejoins(handle: Handle, topic: String) {
    let mut rounds = handle.rebalances();
    loop {
        if rounds.changed().await.is_err() {
            // The poll thread has ended, and the process follows.
            std::future::pending::<()>().await;
        }
        // A round that comes meanwhile is found once this second is over, and is given another.
        let until = Instant::now() + EXPECTED_FOR;
        while Instant::now() < until {
            tokio::time::sleep(ASK_EVERY).await;
            let Some(consumer) = handle.answering() else {
                break;
            };
            let topic = topic.clone();
            let asked = spawn_blocking(move || {
                consumer.fetch_metadata(Some(&topic), ASK_TIMEOUT).map(drop)
            });
            if let Ok(Err(error)) = asked.await {
                tracing::debug!(%error, "no metadata; the next round of a rebalance may take longer");
                break;
            }
        }
    }
}
