//! The log's lines about rejected records: one at the first, then a summary each minute while it
//! goes on. The dead letters have each of them in full.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::code::Code;
use super::cut::cut;
use crate::record::Partition;
use crate::record::entity::Reason;

/// Between two lines about one reason.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// The most kinds that one line names.
const KINDS_MAX: usize = 8;

/// The most of a kind or a field that is shown, in characters: a producer can write anything there.
const NAME_CHARS_MAX: usize = 80;

/// What was rejected and is not logged yet.
#[derive(Debug, Default)]
pub struct RejectedLog(Mutex<BTreeMap<Reason, Tally>>);

/// A rejected record, as far as it is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// The record's partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: i64,
    /// What it says that it is, where that can be read.
    pub kind: Option<String>,
    /// The path of the field at fault, if it is one field.
    pub field: Option<String>,
    /// MongoDB's error code, where that refuses it.
    pub error_code: Option<i32>,
    /// The trace that it belongs to, by its headers.
    pub trace_id: Option<String>,
}

#[derive(Debug)]
struct Tally {
    logged: Instant,
    records: u64,
    /// The latest of them.
    last: Option<RejectedRecord>,
    kinds: BTreeMap<String, u64>,
}

impl RejectedLog {
    /// Notes a rejected record, and logs it where it is the first for a while.
    pub fn note(&self, reason: Reason, rejected: RejectedRecord) {
        let rejected = RejectedRecord {
            kind: rejected.kind.map(|kind| cut(&kind, NAME_CHARS_MAX)),
            field: rejected.field.map(|field| cut(&field, NAME_CHARS_MAX)),
            ..rejected
        };
        let mut tallies = self.0.lock();
        if let Some(tally) = tallies.get_mut(&reason) {
            tally.records += 1;
            tally.add(rejected.kind.clone());
            tally.last = Some(rejected);
            return;
        }
        let tally = Tally {
            logged: Instant::now(),
            records: 0,
            last: None,
            kinds: BTreeMap::new(),
        };
        tallies.insert(reason, tally);
        drop(tallies);
        let RejectedRecord {
            partition,
            offset,
            kind,
            field,
            error_code,
            trace_id,
        } = rejected;
        tracing::warn!(
            code = %Code::Rejected, reason = reason.as_str(), %partition, offset, kind, field,
            error_code, trace_id,
            "a record is rejected and kept as a dead letter: see `dead-letters list`"
        );
    }

    /// Logs what has been rejected meanwhile, where a line is due. Call it every second.
    pub fn tick(&self) {
        self.tick_at(Instant::now());
    }

    fn tick_at(&self, now: Instant) {
        self.0.lock().retain(|reason, tally| {
            if now.duration_since(tally.logged) < LINE_EVERY {
                return true;
            }
            let Some(last) = tally.last.take() else {
                // The next one is a first one again.
                return false;
            };
            let kinds: Vec<String> = (tally.kinds.iter())
                .map(|(kind, count)| format!("{kind} ({count})"))
                .collect();
            let kinds = (!kinds.is_empty()).then(|| kinds.join(", "));
            tracing::warn!(
                code = %Code::Rejected, reason = reason.as_str(), records = tally.records, kinds,
                partition = %last.partition, offset = last.offset, field = last.field,
                error_code = last.error_code, trace_id = last.trace_id,
                "records are rejected and kept as dead letters; this is the latest of them"
            );
            (tally.logged, tally.records) = (now, 0);
            tally.kinds.clear();
            true
        });
    }
}

impl Tally {
    fn add(&mut self, kind: Option<String>) {
        let Some(kind) = kind else {
            return;
        };
        let kind = match self.kinds.len() < KINDS_MAX || self.kinds.contains_key(&kind) {
            true => kind,
            false => "others".to_owned(),
        };
        *self.kinds.entry(kind).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_of_rejections_is_one_line_and_a_quiet_one_ends_it() {
        let (log, partition) = (RejectedLog::default(), Partition::new("t", 3));
        let rejected = |offset: i64| RejectedRecord {
            partition: partition.clone(),
            offset,
            kind: Some(format!("Kind{}", offset % 20)),
            field: None,
            error_code: None,
            trace_id: None,
        };
        for offset in 0..500 {
            log.note(Reason::UnknownKind, rejected(offset));
        }
        let of = |log: &RejectedLog| {
            let tallies = log.0.lock();
            let tally = tallies.get(&Reason::UnknownKind)?;
            Some((tally.records, tally.last.clone(), tally.kinds.len()))
        };
        let last = Some(rejected(499));
        assert_eq!(of(&log), Some((499, last, KINDS_MAX + 1)));
        let now = Instant::now();
        log.tick_at(now);
        assert!(
            of(&log).is_some_and(|(records, ..)| records == 499),
            "not due"
        );
        log.tick_at(now + LINE_EVERY);
        assert_eq!(of(&log), Some((0, None, 0)));
        log.tick_at(now + 2 * LINE_EVERY);
        assert_eq!(of(&log), None);
    }
}
