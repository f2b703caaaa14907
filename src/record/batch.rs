//! What one lane gathers while its previous write is under way: records in the order of their
//! offsets, decoded, within limits. Pure; no runtime.

use std::ops::Range;

use super::entity::{Decoded, Decoder};
use super::{Header, Position, Record};

#[cfg(test)]
mod tests;

/// What a header costs beyond its bytes, at most: in memory as in a dead letter.
const HEADER_BYTES: usize = 64;

/// One record of a [`Batch`]: its offset, where its bytes are, and what it was decoded to.
#[derive(Debug)]
pub struct Entry {
    /// The record's offset.
    pub offset: i64,
    /// The epoch of the leader that wrote the record; `None` where the broker tells none.
    pub leader_epoch: Option<i32>,
    /// The record's own time in milliseconds since 1970, where it has one.
    pub timestamp_ms: Option<i64>,
    /// The record's headers.
    pub headers: Vec<Header>,
    /// What decoding said; the document's range points into the batch's encoded bytes.
    pub decoded: Decoded,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

impl Entry {
    /// The bytes of the headers, with what is needed to hold them.
    pub fn header_bytes(&self) -> usize {
        self.headers
            .iter()
            .map(|(name, value)| HEADER_BYTES + name.len() + value.as_ref().map_or(0, Vec::len))
            .sum()
    }
}

/// Records of one partition, in order, that one transaction is to apply.
///
/// A batch covers the offsets from `start` to `end` without a gap, though there may be fewer
/// records than that: compaction and control records leave holes, and the checkpoint steps over
/// them.
#[derive(Debug)]
pub struct Batch {
    start: i64,
    end: i64,
    /// Of what stands before `end`.
    end_epoch: Option<i32>,
    entries: Vec<Entry>,
    originals: Vec<u8>,
    encoded: Vec<u8>,
    header_bytes: usize,
}

impl Batch {
    /// An empty batch that begins at offset `start`: where the checkpoint stands.
    pub fn new(start: i64) -> Self {
        Batch {
            start,
            end: start,
            end_epoch: None,
            entries: Vec::new(),
            originals: Vec::new(),
            encoded: Vec::new(),
            header_bytes: 0,
        }
    }

    /// The first offset that this batch covers.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// The offset after the last one that this batch covers: the next checkpoint.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// The records, in the order of their offsets.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether writing this batch would change nothing, not even the checkpoint.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes that this batch holds while it is written: originals with their headers, and
    /// `copies` of the encoded documents.
    pub fn held_bytes(&self, copies: usize) -> usize {
        self.originals.len() + self.header_bytes + self.encoded.len() * copies
    }

    /// Whether its documents, or the records as they came with their headers, are more than
    /// `bytes`.
    pub fn is_larger_than(&self, bytes: usize) -> bool {
        let originals = self.originals.len() + self.header_bytes;
        self.encoded.len().max(originals) > bytes
    }

    /// Decodes a record and takes it in; its bytes are copied, unless it is skipped. Records come
    /// in the order of their offsets; one that this batch already covers is not taken: `false`.
    pub fn push(&mut self, decoder: &mut Decoder, record: Record<'_>) -> bool {
        if record.offset < self.end {
            return false;
        }
        let decoded = decoder.decode(record.key, record.value, &mut self.encoded);
        let keep = !matches!(decoded, Decoded::Skipped(_));
        let mut copy = |bytes: Option<&[u8]>| {
            let bytes = bytes.filter(|_| keep)?;
            let from = self.originals.len();
            self.originals.extend_from_slice(bytes);
            Some(from..self.originals.len())
        };
        let (key, value) = (copy(record.key), copy(record.value));
        self.end = record.offset + 1;
        self.end_epoch = record.leader_epoch;
        let entry = Entry {
            offset: record.offset,
            leader_epoch: record.leader_epoch,
            timestamp_ms: record.timestamp_ms,
            headers: if keep { record.headers } else { Vec::new() },
            decoded,
            key,
            value,
        };
        self.header_bytes += entry.header_bytes();
        self.entries.push(entry);
        true
    }

    /// Takes everything out of `other` into this batch, which must have just been made or
    /// [restarted](Batch::restart).
    pub fn take_over(&mut self, other: &mut Batch) {
        debug_assert!(
            self.entries.is_empty() && self.originals.is_empty() && self.encoded.is_empty()
        );
        (self.start, self.end) = (other.start, other.end);
        self.end_epoch = other.end_epoch;
        self.header_bytes = std::mem::take(&mut other.header_bytes);
        self.entries.append(&mut other.entries);
        self.originals.append(&mut other.originals);
        self.encoded.append(&mut other.encoded);
        other.start = other.end;
    }

    /// Moves the end on to `position`, past offsets that hold no record for us (control records,
    /// aborted transactions, compacted ones); never back.
    pub fn reach(&mut self, position: Position) {
        if position.offset > self.end {
            (self.end, self.end_epoch) = (position.offset, position.leader_epoch);
        }
    }

    /// Takes the last record out again, as the first of the batch that follows: it did not fit.
    pub fn split_last(&mut self) -> Option<Batch> {
        let entry = self.entries.pop()?;
        let mut next = Batch::new(entry.offset);
        (next.end, next.end_epoch) = (self.end, self.end_epoch);
        // The leader that wrote the record has all that stands before it.
        (self.end, self.end_epoch) = (entry.offset, entry.leader_epoch);
        next.header_bytes = entry.header_bytes();
        self.header_bytes -= next.header_bytes;
        let move_bytes = |range: &Option<Range<usize>>, to: &mut Vec<u8>| {
            range.clone().map(|range| {
                let from = to.len();
                to.extend_from_slice(&self.originals[range]);
                from..to.len()
            })
        };
        let key = move_bytes(&entry.key, &mut next.originals);
        let value = move_bytes(&entry.value, &mut next.originals);
        if let Some(first) = entry
            .key
            .iter()
            .chain(&entry.value)
            .map(|range| range.start)
            .min()
        {
            self.originals.truncate(first);
        }
        let decoded = match entry.decoded {
            Decoded::Accepted {
                collection,
                document,
                names,
            } => {
                next.encoded
                    .extend_from_slice(&self.encoded[document.clone()]);
                self.encoded.truncate(document.start);
                Decoded::Accepted {
                    collection,
                    document: 0..next.encoded.len(),
                    names,
                }
            }
            other => other,
        };
        next.entries.push(Entry {
            key,
            value,
            decoded,
            ..entry
        });
        Some(next)
    }

    /// The original key of one of this batch's records.
    pub fn key(&self, entry: &Entry) -> Option<&[u8]> {
        entry.key.clone().map(|range| &self.originals[range])
    }

    /// The original value of one of this batch's records.
    pub fn value(&self, entry: &Entry) -> Option<&[u8]> {
        entry.value.clone().map(|range| &self.originals[range])
    }

    /// The id of the entity that an accepted or deleting record speaks of: its key, which decoding
    /// has found to be UTF-8 and equal to the id.
    pub fn id(&self, entry: &Entry) -> &str {
        let key = self
            .key(entry)
            .expect("only records with a key are accepted");
        std::str::from_utf8(key).expect("decoding found the key to be UTF-8")
    }

    /// The encoded bytes of this batch, which [`Decoded::Accepted`] points into.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The offset that a run of records starts at, and the position behind it, so that runs of a
    /// batch join without a gap; a run that takes the last record reaches to the batch's end.
    pub fn span(&self, records: Range<usize>) -> (i64, Position) {
        let after = |records: usize| match records.checked_sub(1) {
            Some(last) => Position {
                offset: self.entries[last].offset + 1,
                leader_epoch: self.entries[last].leader_epoch,
            },
            None => self.start.into(),
        };
        let to = if records.end == self.entries.len() {
            Position {
                offset: self.end,
                leader_epoch: self.end_epoch,
            }
        } else {
            after(records.end)
        };
        (after(records.start).offset, to)
    }

    /// Forgets everything and begins again at `start`, keeping the buffers' memory up to
    /// `keep_bytes_max` each.
    pub fn restart(&mut self, start: i64, keep_bytes_max: usize) {
        self.start = start;
        self.end = start;
        self.end_epoch = None;
        self.entries.clear();
        self.header_bytes = 0;
        for buffer in [&mut self.originals, &mut self.encoded] {
            buffer.clear();
            buffer.shrink_to(keep_bytes_max);
        }
    }
}
