//! Whether tombstones may have gone from a compacted topic before they were applied: a checkpoint
//! stood still for longer than the topic keeps them, such as one that was restored.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bson::DateTime;

use super::report::Report;
use crate::commands::offsets::Place;
use crate::config::{Config, Kafka};
use crate::kafka::broker::Broker;
use crate::kafka::scan::Scanner;
use crate::record::Partition;
use crate::record::entity::Tombstones;
use crate::telemetry::code::Code;

/// For how many records that wait it is looked whether some are missing between them; where there
/// are more, they count as missing.
const LOOK_RECORDS_MAX: i64 = 10_000;

/// How long that may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Warns where an entity may stay that the topic deleted.
pub(super) async fn check(config: &Config, places: &[Place], report: &mut Report) {
    if config.tombstones != Tombstones::Delete {
        return;
    }
    let waiting = places.iter().filter_map(|place| {
        let wait = place.lag().filter(|lag| *lag > 0).and(place.updated_at);
        Some((place.partition.clone(), place.next_offset()?, wait?))
    });
    let (kafka, waiting) = (config.kafka.clone(), waiting.collect());
    let looked = tokio::task::spawn_blocking(move || look(&kafka, waiting));
    match looked.await {
        Ok(Ok(late)) => late.into_iter().for_each(|late| late.report(report)),
        Ok(Err(error)) => {
            let why = format!("{error:#}");
            report.fault(Code::KafkaAway, "tombstones", why, "see the faults above");
        }
        Err(error) => {
            let why = error.to_string();
            report.fault(Code::Panicked, "tombstones", why, "run it again");
        }
    }
}

/// A partition whose checkpoint is older than what its topic keeps.
struct Late {
    partition: Partition,
    since: DateTime,
    kept_ms: i64,
}

impl Late {
    fn report(self, report: &mut Report) {
        let Late {
            partition,
            since,
            kept_ms,
        } = self;
        let since = since.try_to_rfc3339_string().unwrap_or_default();
        report.warn_of(
            Code::TombstonesExpired,
            "tombstones",
            format!(
                "{partition}: nothing was applied since {since}, longer than its topic keeps \
                 tombstones (delete.retention.ms={kept_ms}), and records are gone from its log"
            ),
            "entities that were deleted meanwhile may stay: `docs/operations.md`, Backup and restore",
        );
    }
}

fn look(kafka: &Kafka, waiting: Vec<(Partition, i64, DateTime)>) -> anyhow::Result<Vec<Late>> {
    let mut late = Vec::new();
    if waiting.is_empty() {
        return Ok(late);
    }
    let (broker, scanner) = (Broker::new(kafka)?, Scanner::new(kafka)?);
    let until = Instant::now() + DEADLINE;
    for (partition, next_offset, since) in waiting {
        let settings = broker.topic(&partition.topic)?.settings;
        let is_compacted = settings
            .get("cleanup.policy")
            .is_some_and(|policy| policy.contains("compact"));
        let kept_ms = settings.get("delete.retention.ms");
        let Some(kept_ms) = kept_ms.and_then(|ms| ms.parse::<i64>().ok()) else {
            continue;
        };
        let age_ms = DateTime::now().timestamp_millis() - since.timestamp_millis();
        if is_compacted
            && age_ms > kept_ms
            && lacks_records(&scanner, &partition, next_offset, until)?
        {
            late.push(Late {
                partition,
                since,
                kept_ms,
            });
        }
    }
    Ok(late)
}

/// Whether records that were not applied may be gone from the log.
fn lacks_records(
    scanner: &Scanner,
    partition: &Partition,
    next_offset: i64,
    until: Instant,
) -> anyhow::Result<bool> {
    let (log, _) = scanner.log(partition)?;
    if next_offset < log.start || log.stable_end - next_offset > LOOK_RECORDS_MAX {
        return Ok(true);
    }
    let mut count = 0;
    let offsets = next_offset..log.stable_end;
    scanner.scan(partition, offsets, Some(until), |_| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count < log.stable_end - next_offset)
}
