//! What the service reports every second: memory, that the runtime turns, whether it is ready, and
//! in the log how it goes.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;

use super::memory;
use crate::lane::Lanes;
use crate::telemetry::code::Code;
use crate::telemetry::health::Loop;
use crate::telemetry::metrics::{Metrics, Outcome};

/// Between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Between two lines that log the rate on a terminal, in seconds.
const RATE_LINE_EVERY: u64 = 2;

/// Between two lines that say in a container's log how it goes, in seconds.
const QUIET_LINE_EVERY: u64 = 600;

/// Logs each change of readiness.
#[derive(Default)]
struct Readiness {
    was_ready: Option<bool>,
}

impl Readiness {
    fn look(&mut self, missing: &[String]) {
        let is_ready = missing.is_empty();
        match (self.was_ready, is_ready) {
            (Some(false) | None, true) => tracing::info!("ready"),
            (Some(true), false) => {
                tracing::warn!(code = %Code::NotReady, "not ready: {}", missing.join("; "));
            }
            _ => {}
        }
        // At the start it is waited for, and that has lines of its own.
        if is_ready || self.was_ready.is_some() {
            self.was_ready = Some(is_ready);
        }
    }
}

/// The records of all outcomes.
pub(super) fn settled(metrics: &Metrics) -> u64 {
    let outcomes = Outcome::ALL.iter();
    outcomes.map(|outcome| metrics.settled(*outcome)).sum()
}

/// Reports every second what is held in memory and that the runtime turns; where the log is read by
/// a `human`, also how fast records settle. Warns where there are more than `partitions`, for which
/// the memory budget was checked.
pub(super) async fn report_progress(lanes: Arc<Lanes>, mut partitions: usize, human: bool) {
    let (mut settled_before, mut readiness) = (0, Readiness::default());
    for second in 1_u64.. {
        tokio::time::sleep(REPORT_EVERY).await;
        lanes.health.turned(Loop::Runtime);
        lanes.rejected.tick();
        readiness.look(&lanes.health.missing());
        let Some(consumer) = lanes.handle.consumer() else {
            continue;
        };
        let (queued_bytes, known) = {
            let statistics = consumer.context().statistics();
            (statistics.queued_bytes(), statistics.partitions.len())
        };
        if known > partitions {
            partitions = known;
            memory::warn_of_shortage(lanes.limits.budget_bytes_max, partitions);
        }
        let held_bytes = lanes.budget.lent_bytes() as u64 + queued_bytes;
        lanes.metrics.buffered_bytes.set(held_bytes as i64);
        let lag = consumer.context().lag();
        if human && second % RATE_LINE_EVERY == 0 {
            let settled = settled(&lanes.metrics);
            if settled > settled_before {
                let records_per_second = (settled - settled_before) / RATE_LINE_EVERY;
                tracing::info!(records_per_second, lag, settled, "progress");
            }
            settled_before = settled;
        } else if !human && second % QUIET_LINE_EVERY == 0 {
            let rejected = lanes.metrics.settled(Outcome::Rejected);
            tracing::info!(settled = settled(&lanes.metrics), rejected, lag, "progress");
        }
    }
}
