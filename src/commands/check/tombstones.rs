//! Whether tombstones may have gone from a compacted topic before they were applied: a checkpoint
//! stood still for longer than the topic keeps them, such as one that was restored.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
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
    let late = report.looked("tombstones", looked.await);
    for late in late.into_iter().flatten() {
        late.report(report);
    }
}

/// A partition at which records wait for longer than its topic keeps tombstones.
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
                "{partition}: records wait since {since}, for longer than its topic keeps \
                 tombstones (delete.retention.ms={kept_ms}), and some are gone from its log"
            ),
            "entities that were deleted meanwhile may stay: `docs/kubernetes.md`, Restore",
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
    let mut kept: BTreeMap<Arc<str>, Option<i64>> = BTreeMap::new();
    for (partition, next_offset, moved_at) in waiting {
        let kept_ms = match kept.get(&partition.topic) {
            Some(known) => *known,
            None => {
                let asked = kept_ms(&broker, &partition.topic)?;
                kept.insert(Arc::clone(&partition.topic), asked);
                asked
            }
        };
        let Some(kept_ms) = kept_ms else {
            continue;
        };
        let gap = look_for_gap(&scanner, &partition, next_offset, until)?;
        // A claim moves the checkpoint's time, and compaction takes the oldest records away.
        let since = gap.first_at.map_or(moved_at, |first| first.min(moved_at));
        let age_ms = DateTime::now().timestamp_millis() - since.timestamp_millis();
        if gap.lacks_records && age_ms > kept_ms {
            late.push(Late {
                partition,
                since,
                kept_ms,
            });
        }
    }
    Ok(late)
}

/// For how long a topic keeps tombstones, if it is compacted.
fn kept_ms(broker: &Broker, topic: &str) -> anyhow::Result<Option<i64>> {
    let settings = broker.topic(topic)?.settings?;
    let policy = settings.get("cleanup.policy");
    let is_compacted = policy.is_some_and(|policy| policy.contains("compact"));
    let kept_ms = settings.get("delete.retention.ms").filter(|_| is_compacted);
    Ok(kept_ms.and_then(|ms| ms.parse().ok()))
}

/// What waits in a log.
struct Gap {
    /// The time of the first record.
    first_at: Option<DateTime>,
    /// Whether records before the log's end may be gone: the control records of transactions look
    /// the same, and so does what could not be read in time.
    lacks_records: bool,
}

fn look_for_gap(
    scanner: &Scanner,
    partition: &Partition,
    next_offset: i64,
    until: Instant,
) -> anyhow::Result<Gap> {
    let (log, _) = scanner.log(partition)?;
    let offsets = next_offset.max(log.start)..log.stable_end;
    let (mut count, mut first_ms) = (0, None);
    scanner.scan(partition, offsets, Some(until), |record| {
        if count == 0 {
            first_ms = record.timestamp_ms;
        }
        count += 1;
        match count < LOOK_RECORDS_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(Gap {
        first_at: first_ms.map(DateTime::from_millis),
        lacks_records: count < log.stable_end - next_offset,
    })
}
