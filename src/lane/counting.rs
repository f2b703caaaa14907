//! What is counted of a batch that is settled.

use std::time::{SystemTime, UNIX_EPOCH};

use super::consuming::Consuming;
use crate::record::batch::Batch;
use crate::record::detail::detail;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::rejected::RejectedRecord;
use crate::writer::dead_letter::trace_id;
use crate::writer::{RejectedAt, Settled};

impl Consuming<'_> {
    /// Counts every record of `batch` that is settled by its outcome, and logs rejections.
    pub(super) fn count(&self, batch: &Batch, settled: &Settled) {
        let counts = settled.counts();
        for (outcome, count) in [
            (Outcome::Upserted, counts.upserted),
            (Outcome::Unchanged, counts.unchanged),
            (Outcome::Folded, counts.folded),
            (Outcome::Deleted, counts.deleted),
            (Outcome::Skipped, counts.skipped),
            (Outcome::Rejected, counts.rejected.len() as u64),
        ] {
            self.progress.metrics.settled(outcome, count);
        }
        self.lanes.metrics.moved_documents.inc_by(counts.moved);
        for at in &counts.rejected {
            self.lanes.metrics.dead_letter(at.reason);
            self.lanes
                .rejected
                .note(at.reason, self.rejected(batch, *at));
        }
    }

    /// What is logged of a rejected record of `batch`.
    fn rejected(&self, batch: &Batch, at: RejectedAt) -> RejectedRecord {
        let RejectedAt { offset, reason, .. } = at;
        let entries = batch.entries();
        let found = entries.binary_search_by_key(&offset, |entry| entry.offset);
        let entry = found.ok().map(|index| &entries[index]);
        let mapping = &self.lanes.target.mapping;
        let detail = entry
            .map(|entry| detail(mapping, batch.key(entry), batch.value(entry), reason))
            .unwrap_or_default();
        RejectedRecord {
            partition: self.partition.clone(),
            offset,
            kind: detail.kind,
            field: detail.field,
            error_code: at.error_code,
            trace_id: entry.and_then(|entry| trace_id(&entry.headers).map(str::to_owned)),
        }
    }

    /// How long each record before `next_offset` took from its own time until now.
    pub(super) fn observe_delays(&self, batch: &Batch, next_offset: i64) {
        // A clock that stands before 1970 shows no delay.
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_millis() as i64);
        let settled = (batch.entries().iter()).take_while(|entry| entry.offset < next_offset);
        let timestamps_ms = settled.map(|entry| entry.timestamp_ms);
        for timestamp_ms in timestamps_ms.flatten() {
            let delay_ms = now_ms.saturating_sub(timestamp_ms).max(0);
            let delay = &self.progress.metrics.record_delay;
            delay.observe(delay_ms as f64 / 1000.0);
        }
    }
}
