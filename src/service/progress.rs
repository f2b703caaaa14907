//! What the service reports every second: memory, that the runtime turns, and on a terminal the
//! rate.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;

use super::memory;
use crate::lane::Lanes;
use crate::telemetry::health::Loop;
use crate::telemetry::metrics::Outcome;

/// Between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Between two lines that log the rate on a terminal, in seconds.
const RATE_LINE_EVERY: u64 = 2;

/// Reports every second what is held in memory and that the runtime turns; where the log is read by
/// a `human`, also how fast records settle. Warns where there are more than `partitions`, for which
/// the memory budget was checked.
pub(super) async fn report_progress(lanes: Arc<Lanes>, mut partitions: usize, human: bool) {
    let mut settled_before = 0;
    for second in 1_u64.. {
        tokio::time::sleep(REPORT_EVERY).await;
        lanes.health.turned(Loop::Runtime);
        let Some(consumer) = lanes.handle.consumer() else {
            continue;
        };
        let (queued_bytes, by_topic) = {
            let statistics = consumer.context().statistics();
            (statistics.queued_bytes(), statistics.counts())
        };
        let known = by_topic.values().sum();
        if known > partitions {
            partitions = known;
            for (topic, count) in &by_topic {
                lanes.metrics.topic_partitions(topic, *count);
            }
            memory::warn_of_shortage(lanes.limits.budget_bytes_max, partitions);
        }
        let held_bytes = lanes.budget.lent_bytes() as u64 + queued_bytes;
        lanes.metrics.buffered_bytes.set(held_bytes as i64);
        if human && second % RATE_LINE_EVERY == 0 {
            let outcomes = Outcome::ALL.iter();
            let settled = outcomes
                .map(|outcome| lanes.metrics.settled(*outcome))
                .sum();
            if settled > settled_before {
                tracing::info!(
                    records_per_second = (settled - settled_before) / RATE_LINE_EVERY,
                    lag = consumer.context().lag(),
                    settled,
                    "progress"
                );
            }
            settled_before = settled;
        }
    }
}
