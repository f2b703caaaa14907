//! The batch that is filled while another is written: when it may grow, when it is ready, and what
//! it costs.

use std::time::Duration;

use tokio::time::Instant;

use super::budget::Loan;
use super::slots::{SMALL_BYTES_MAX, Slot};
use super::spare::Spare;
use crate::record::DOCUMENT_BYTES_MAX;
use crate::record::Record;
use crate::record::batch::Batch;

/// How long a batch with a slot waits at most for more of a log that continues: librdkafka's queue
/// holds half a batch, and the fuller a transaction, the more states fold and the less a record
/// costs.
const FILL_DEADLINE: Duration = Duration::from_millis(20);

/// What a batch costs while it is written, in times its encoded size: its own copy, and what its
/// largest command costs.
pub(super) const COPIES: usize = 3;

/// What a record costs that is a command by itself: the batch's copy, the command, and the driver's
/// three (it clones the command, serialises it, and assembles the message).
pub(super) const LARGE_COPIES: usize = 5;

/// How much larger than its JSON a small record's encoded form may be when it is admitted; once it
/// is taken in, its real size counts.
const ENCODED_FACTOR: usize = 2;

/// From this size on, in bytes, a record is scanned before it is admitted.
const LARGE_BYTES: usize = 64 * 1024;

/// By how much one element of an array grows at the most, in bytes: `1.,` to a type, seven digits
/// of index, a NUL and a double.
const ELEMENT_GROWTH_BYTES: usize = 14;

/// The batch that is filled while another is written.
pub(super) struct Filling {
    pub(super) batch: Batch,
    pub(super) loan: Loan,
    pub(super) slot: Option<Slot>,
    /// Whether it must not grow any more.
    pub(super) full: bool,
    /// Until when it may wait for more.
    pub(super) fill_until: Instant,
}

impl Filling {
    pub(super) fn new(batch: Batch, loan: Loan) -> Self {
        Filling {
            batch,
            loan,
            slot: None,
            full: false,
            fill_until: Instant::now(),
        }
    }

    /// Moves the batch into the memory of an earlier large one; returns what held it so far.
    pub(super) fn enlarge(&mut self, slot: Slot) -> Spare {
        let spare = slot.enlarge(&mut self.batch);
        self.slot = Some(slot);
        self.fill_until = Instant::now() + FILL_DEADLINE;
        spare
    }

    /// Whether another record may be taken in.
    pub(super) fn has_room(&self) -> bool {
        !self.full && !self.needs_slot()
    }

    /// Whether it is too large to be written, or to grow, without a slot.
    pub(super) fn needs_slot(&self) -> bool {
        self.slot.is_none() && self.batch.is_larger_than(SMALL_BYTES_MAX)
    }

    /// Whether it is to be written; `at_end`: there is no more of the log.
    pub(super) fn is_ready(&self, at_end: bool) -> bool {
        if self.batch.is_empty() || self.needs_slot() {
            return false;
        }
        self.slot.is_none() || self.full || at_end || Instant::now() >= self.fill_until
    }
}

/// The bytes that must be lent before a record joins a batch that holds `held` bytes.
pub(super) fn admission(record: &Record<'_>, held: usize) -> usize {
    held + record.bytes() + record.value.map_or(0, written_bytes_max)
}

/// How many bytes a value may cost as BSON while it is written.
fn written_bytes_max(json: &[u8]) -> usize {
    if json.len() < LARGE_BYTES {
        return json.len() * ENCODED_FACTOR * COPIES;
    }
    // Each is counted some bytes at a time; both at once would stop at each place.
    let count = |byte| memchr::memchr_iter(byte, json).count();
    let elements = count(b',') + count(b'[');
    let encoded_max = (json.len() + elements * ELEMENT_GROWTH_BYTES).min(DOCUMENT_BYTES_MAX);
    encoded_max * LARGE_COPIES
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::super::Slots;
    use super::*;
    use crate::record::entity::{Decoder, Tombstones};
    use crate::record::mapping::Mapping;

    /// Adds an entity with a text of so many bytes.
    pub(in crate::lane) fn push(batch: &mut Batch, offset: i64, text_bytes: usize) {
        let mut decoder = Decoder::new(Arc::new(Mapping::builtin()), Tombstones::Ignore);
        let text = "a".repeat(text_bytes);
        let json = format!(r#"{{"id":"1","kind":"Dataset","text":"{text}"}}"#);
        let record = Record {
            offset,
            key: Some(b"1"),
            value: Some(json.as_bytes()),
            ..Record::default()
        };
        assert!(batch.push(&mut decoder, record));
    }

    fn filling(texts: &[usize]) -> Filling {
        let mut batch = Batch::new(0);
        for (offset, text_bytes) in (0..).zip(texts) {
            push(&mut batch, offset, *text_bytes);
        }
        Filling::new(batch, Loan::default())
    }

    #[test]
    fn a_small_batch_waits_for_nothing() {
        assert!(!filling(&[]).is_ready(false), "there is nothing to write");
        let small = filling(&[10]);
        assert!(small.is_ready(false) && small.is_ready(true));
        assert!(small.has_room());
    }

    #[test]
    fn a_large_batch_waits_for_its_slot() {
        let mut large = filling(&[10, SMALL_BYTES_MAX]);
        assert!(large.needs_slot() && !large.has_room());
        assert!(!large.is_ready(true));
        large.enlarge(Slots::new(1, 0).try_take().unwrap());
        assert!(!large.needs_slot() && large.has_room());
    }

    #[test]
    fn with_its_slot_it_waits_a_moment_for_more_of_a_log_that_goes_on() {
        let mut large = filling(&[10, SMALL_BYTES_MAX]);
        large.enlarge(Slots::new(1, 0).try_take().unwrap());
        large.fill_until = Instant::now() + Duration::from_secs(600);
        assert!(!large.is_ready(false));
        assert!(large.is_ready(true), "there is no more");
        large.full = true;
        assert!(large.is_ready(false), "no more fits");
        large.full = false;
        large.fill_until = Instant::now();
        assert!(large.is_ready(false), "it has waited");
    }

    #[test]
    fn a_list_of_numbers_is_admitted_as_what_it_grows_to() {
        let list = |count: usize| format!("[{}7]", "7,".repeat(count - 1));
        let (growing, large) = (list(100_000), list(10_000_000));
        assert!(written_bytes_max(growing.as_bytes()) >= 100_000 * 13 * LARGE_COPIES);
        assert_eq!(
            written_bytes_max(large.as_bytes()),
            DOCUMENT_BYTES_MAX * LARGE_COPIES
        );
        let text = format!(r#""{}""#, "a".repeat(1_000_000));
        assert_eq!(
            written_bytes_max(text.as_bytes()),
            text.len() * LARGE_COPIES
        );
    }
}
