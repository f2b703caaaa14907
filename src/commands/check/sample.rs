//! Reads records and decodes them, as the service would: how many of each outcome, and where to
//! find one of each rejection.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::progress::CommandProgress;
use super::documents::NewestStates;
use super::report::Report;
use crate::config::{Config, Kafka};
use crate::kafka::preflight::{partition_counts, partitions_of};
use crate::kafka::scan::Scanner;
use crate::record::detail::detail;
use crate::record::entity::{Decoded, Decoder, Reason, Tombstones};
use crate::record::mapping::Mapping;
use crate::telemetry::code::Code;

/// How long reading may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Of how many reasons and kinds an example is shown.
const REJECTED_SHOWN_MAX: usize = 20;

/// Gives the newest state of each key, where all were read.
pub(super) async fn check(
    config: &Config,
    mapping: Arc<Mapping>,
    records: u32,
    report: &mut Report,
) -> Option<NewestStates> {
    let (kafka, tombstones) = (config.kafka.clone(), config.tombstones);
    let sampled = tokio::task::spawn_blocking(move || {
        sample(&kafka, &mapping, tombstones, i64::from(records))
    });
    let sample = report.looked("sample", sampled.await)?;
    Some(sample.report(report))
}

/// What records were decoded to.
#[derive(Debug, Default)]
struct Sample {
    accepted: BTreeMap<String, u64>,
    skipped: u64,
    deletes: u64,
    rejected: BTreeMap<(Reason, Option<String>), Example>,
    newest: NewestStates,
}

/// The records of one reason and kind, and where the last of them stands.
#[derive(Debug, Default)]
struct Example {
    count: u64,
    place: String,
}

/// The last `records` of all partitions together.
fn sample(
    kafka: &Kafka,
    mapping: &Arc<Mapping>,
    tombstones: Tombstones,
    records: i64,
) -> anyhow::Result<Sample> {
    let scanner = Scanner::new(kafka)?;
    let partitions = partitions_of(&partition_counts(kafka)?);
    let each = (records / i64::try_from(partitions.len())?.max(1)).max(1);
    let (mut sample, until) = (Sample::default(), Instant::now() + DEADLINE);
    let mut decoder = Decoder::new(Arc::clone(mapping), tombstones);
    let progress = CommandProgress::new(partitions.len() as i64, "partitions");
    for (index, partition) in partitions.iter().enumerate() {
        progress.show(index as i64, &format!("reading {partition}"));
        let (ends, _) = scanner.log(partition)?;
        let from = (ends.stable_end - each).max(ends.start);
        let read = scanner.scan(partition, from..ends.stable_end, Some(until), |record| {
            let mut encoded = Vec::new();
            let decoded = decoder.decode(record.key, record.value, &mut encoded);
            sample.newest.note(partition, &record, &decoded, &encoded);
            match decoded {
                Decoded::Accepted { collection, .. } => {
                    let name = mapping.collection(collection).to_owned();
                    *sample.accepted.entry(name).or_default() += 1;
                }
                Decoded::Skipped(_) => sample.skipped += 1,
                Decoded::Delete => sample.deletes += 1,
                Decoded::Rejected(reason) => {
                    let place = format!("{partition} offset {}", record.offset);
                    let kind = detail(mapping, record.key, record.value, reason).kind;
                    sample.reject(reason, place, kind);
                }
            }
            ControlFlow::Continue(())
        });
        sample.newest.read_to(partition, read?);
    }
    progress.end();
    Ok(sample)
}

impl Sample {
    fn reject(&mut self, reason: Reason, place: String, kind: Option<String>) {
        let found = self.rejected.entry((reason, kind)).or_default();
        found.count += 1;
        found.place = place;
    }

    fn report(self, report: &mut Report) -> NewestStates {
        let accepted: u64 = self.accepted.values().sum();
        let rejected: u64 = self.rejected.values().map(|found| found.count).sum();
        let total = accepted + rejected + self.skipped + self.deletes;
        report.good(
            "sample",
            format!(
                "{total} records: {accepted} would be upserted into {} collections, {} skipped, {} \
                 delete, {rejected} rejected",
                self.accepted.len(),
                self.skipped,
                self.deletes
            ),
        );
        let mut rejected: Vec<_> = self.rejected.into_iter().collect();
        rejected.sort_by_key(|(_, found)| Reverse(found.count));
        let more = rejected.split_off(rejected.len().min(REJECTED_SHOWN_MAX));
        for ((reason, kind), Example { count, place }) in rejected {
            let kind = kind.map_or_else(String::new, |kind| format!(", kind {kind}"));
            report.warn_of(
                Code::Rejected,
                "sample",
                format!("{count} would be rejected ({reason}{kind}), such as {place}"),
                "`docs/operations.md`, Dead letters, says what each reason means",
            );
        }
        if !more.is_empty() {
            let count: u64 = more.iter().map(|(_, found)| found.count).sum();
            let what = format!(
                "{count} more would be rejected, of {} other kinds",
                more.len()
            );
            let remedy = "correct the first of them, and look again";
            report.warn_of(Code::Rejected, "sample", what, remedy);
        }
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_that_would_be_rejected_is_counted_by_itself() {
        let mut sample = Sample::default();
        for n in 0..REJECTED_SHOWN_MAX + 5 {
            for _ in 0..=n {
                let place = format!("t[0] offset {n}");
                sample.reject(Reason::UnknownKind, place, Some(format!("Kind{n}")));
            }
        }
        sample.reject(Reason::MalformedValue, "t[0] offset 99".to_owned(), None);
        let mut report = Report::default();
        sample.report(&mut report);
        let lines: Vec<&str> = report.findings.iter().map(|found| &*found.what).collect();
        assert_eq!(lines.len(), 1 + REJECTED_SHOWN_MAX + 1, "{lines:?}");
        let most = "25 would be rejected (unknown_kind, kind Kind24), such as t[0] offset 24";
        assert_eq!(lines[1], most);
        assert_eq!(lines[21], "16 more would be rejected, of 6 other kinds");
    }
}
