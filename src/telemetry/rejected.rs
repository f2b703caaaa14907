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

/// The most of a kind that is shown, in characters: a producer can write anything there.
const KIND_CHARS_MAX: usize = 80;

/// What was rejected and is not logged yet.
#[derive(Debug, Default)]
pub struct RejectedLog(Mutex<BTreeMap<Reason, Tally>>);

#[derive(Debug)]
struct Tally {
    logged: Instant,
    records: u64,
    /// The latest of them.
    last: Option<(Partition, i64)>,
    kinds: BTreeMap<String, u64>,
}

impl RejectedLog {
    /// Notes a rejected record, and logs it where it is the first for a while. `kind` is what the
    /// record says that it is, where it can be read.
    pub fn note(&self, reason: Reason, partition: &Partition, offset: i64, kind: Option<String>) {
        let mut tallies = self.0.lock();
        if let Some(tally) = tallies.get_mut(&reason) {
            tally.records += 1;
            tally.last = Some((partition.clone(), offset));
            tally.add(kind);
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
        let kind = kind.map(|kind| cut(&kind, KIND_CHARS_MAX));
        tracing::warn!(
            code = %Code::Rejected, reason = reason.as_str(), %partition, offset, kind,
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
            let Some((partition, offset)) = tally.last.take() else {
                // The next one is a first one again.
                return false;
            };
            let kinds: Vec<String> = (tally.kinds.iter())
                .map(|(kind, count)| format!("{kind} ({count})"))
                .collect();
            let kinds = (!kinds.is_empty()).then(|| kinds.join(", "));
            tracing::warn!(
                code = %Code::Rejected, reason = reason.as_str(), records = tally.records, kinds, %partition, offset,
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
        let Some(kind) = kind.map(|kind| cut(&kind, KIND_CHARS_MAX)) else {
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
        for offset in 0..500 {
            let kind = format!("Kind{}", offset % 20);
            log.note(Reason::UnknownKind, &partition, offset, Some(kind));
        }
        let of = |log: &RejectedLog| {
            let tallies = log.0.lock();
            let tally = tallies.get(&Reason::UnknownKind)?;
            Some((tally.records, tally.last.clone(), tally.kinds.len()))
        };
        let last = Some((partition.clone(), 499));
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
