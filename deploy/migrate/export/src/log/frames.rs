//! The framing of LevelDB's logs: blocks, and the fragments of records in them.
//!
//! The rules are those of LevelDB's `doc/log_format.md`: a block has 32 KiB; a fragment has a
//! header of 7 bytes (a masked CRC-32C of type and data, a length, a type) and lies in one block;
//! what is left of a block and too short for a header is filled with zeros. Google's writers of
//! records also fill the rest of a block with zeros at a flush.

use std::io::{self, ErrorKind, Read};
use std::mem;
use std::ops::Range;

use crate::{ENTITY_BYTES_MAX, Fault};

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 32 << 10;
/// Bytes of a fragment's header.
pub(crate) const HEADER_BYTES: usize = 7;

pub(crate) const FULL: u8 = 1;
pub(crate) const FIRST: u8 = 2;
pub(crate) const MIDDLE: u8 = 3;
pub(crate) const LAST: u8 = 4;

/// The checksum of a fragment, masked as LevelDB does: a checksum of data that holds checksums
/// would be weak.
pub(crate) fn checksum(kind: u8, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// The records of a log. One block and one record are in memory.
///
/// After a damaged fragment the rest of its block is left out, as its length cannot be believed;
/// reading goes on with the next record that begins. All that is left out together is one fault.
#[derive(Debug)]
pub(crate) struct Frames<R> {
    input: R,
    /// One block, or less at the file's end.
    block: Vec<u8>,
    /// Where the next fragment begins in the block.
    at: usize,
    /// Offset of the block in the file, in bytes.
    block_from: u64,
    failed: Option<io::Error>,
    partial: Option<Partial>,
    damage: Option<Damage>,
    ended: bool,
}

/// A record whose last fragment has not come.
#[derive(Debug)]
struct Partial {
    from: u64,
    data: Vec<u8>,
    oversize: bool,
}

#[derive(Debug)]
struct Damage {
    from: u64,
    why: &'static str,
}

/// What stands at a place of a block.
enum Next {
    Fragment {
        kind: u8,
        data: Range<usize>,
    },
    /// Zeros up to the block's end.
    Filling,
    Damaged(&'static str),
    /// A fragment that goes on behind the file's end.
    Cut,
    End,
}

impl<R: Read> Frames<R> {
    pub(crate) fn new(input: R) -> Frames<R> {
        Frames {
            input,
            block: Vec::with_capacity(BLOCK_BYTES),
            at: 0,
            block_from: 0,
            failed: None,
            partial: None,
            damage: None,
            ended: false,
        }
    }

    /// The next record, or what is wrong at its place.
    pub(crate) fn next(&mut self) -> Option<Result<Vec<u8>, Fault>> {
        while !self.ended {
            if self.at == self.block.len() {
                self.read_block();
            }
            let from = self.offset();
            let outcome = match self.look() {
                Next::Fragment { kind, data } => self.fragment(kind, data, from),
                Next::Filling => {
                    if self.partial.is_some() {
                        self.damaged(from, "zeros within a record");
                    }
                    self.at = self.block.len();
                    None
                }
                Next::Damaged(why) => {
                    self.damaged(from, why);
                    self.at = self.block.len();
                    None
                }
                Next::Cut => self.cut(from),
                Next::End => self.end(from),
            };
            if outcome.is_some() {
                return outcome;
            }
        }
        None
    }

    /// The offset of the next fragment in the file.
    fn offset(&self) -> u64 {
        self.block_from + self.at as u64
    }

    /// The next block in place of this one; an empty one at the file's end.
    fn read_block(&mut self) {
        self.block_from = self.offset();
        self.at = 0;
        self.block.clear();
        if self.failed.is_some() {
            return;
        }
        self.block.resize(BLOCK_BYTES, 0);
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.input.read(&mut self.block[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        self.block.truncate(filled);
    }

    fn look(&self) -> Next {
        let rest = &self.block[self.at..];
        if rest.is_empty() {
            return Next::End;
        }
        let zeros = || rest.iter().all(|byte| *byte == 0);
        if BLOCK_BYTES - self.at < HEADER_BYTES {
            return match zeros() {
                true => Next::Filling,
                false => Next::Damaged("the filling of a block is not zeros"),
            };
        }
        let Some((header, data)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Next::Cut;
        };
        let [a, b, c, d, low, high, kind] = *header;
        let length = usize::from(u16::from_le_bytes([low, high]));
        if *header == [0; HEADER_BYTES] && zeros() {
            return match self.at {
                0 => Next::Damaged("a whole block of zeros"),
                _ => Next::Filling,
            };
        }
        if !(FULL..=LAST).contains(&kind) {
            return Next::Damaged("a fragment of no known type");
        }
        if self.at + HEADER_BYTES + length > BLOCK_BYTES {
            return Next::Damaged("a fragment that is longer than its block");
        }
        let Some(data) = data.get(..length) else {
            return Next::Cut;
        };
        if checksum(kind, data) != u32::from_le_bytes([a, b, c, d]) {
            return Next::Damaged("a fragment with another checksum than its own");
        }
        let begin = self.at + HEADER_BYTES;
        Next::Fragment {
            kind,
            data: begin..begin + length,
        }
    }

    fn fragment(
        &mut self,
        kind: u8,
        data: Range<usize>,
        from: u64,
    ) -> Option<Result<Vec<u8>, Fault>> {
        if matches!(kind, FULL | FIRST) {
            if self.partial.is_some() {
                self.damaged(from, "a record without its end");
            }
            if let Some(damage) = self.damage.take() {
                // The fragment is looked at again.
                return Some(Err(damage.fault(from)));
            }
        } else if self.partial.is_none() {
            self.damaged(from, "a record without its beginning");
        }
        self.at = data.end;
        let bytes = &self.block[data];
        match kind {
            FULL => return Some(Ok(bytes.to_vec())),
            FIRST => {
                self.partial = Some(Partial {
                    from,
                    data: bytes.to_vec(),
                    oversize: false,
                });
                return None;
            }
            _ => self.partial.as_mut()?.push(bytes),
        }
        if kind == MIDDLE {
            return None;
        }
        let partial = self.partial.take()?;
        Some(match partial.oversize {
            true => Err(Fault::Oversize),
            false => Ok(partial.data),
        })
    }

    /// Begins a damaged region, if there is none yet, with the record that it tears apart.
    fn damaged(&mut self, from: u64, why: &'static str) {
        let from = self.partial.take().map_or(from, |partial| partial.from);
        self.damage.get_or_insert(Damage { from, why });
    }

    fn cut(&mut self, from: u64) -> Option<Result<Vec<u8>, Fault>> {
        self.at = self.block.len();
        if self.failed.is_some() || self.damage.is_some() {
            return None;
        }
        let from = self.partial.take().map_or(from, |partial| partial.from);
        Some(Err(Fault::Truncated { from }))
    }

    fn end(&mut self, from: u64) -> Option<Result<Vec<u8>, Fault>> {
        if let Some(damage) = self.damage.take() {
            return Some(Err(damage.fault(from)));
        }
        self.ended = true;
        let partial = self.partial.take();
        if let Some(error) = self.failed.take() {
            return Some(Err(Fault::Io(error)));
        }
        let from = partial?.from;
        Some(Err(Fault::Truncated { from }))
    }
}

impl Partial {
    fn push(&mut self, bytes: &[u8]) {
        if self.oversize || self.data.len() + bytes.len() > ENTITY_BYTES_MAX {
            self.oversize = true;
            drop(mem::take(&mut self.data));
        } else {
            self.data.extend_from_slice(bytes);
        }
    }
}

impl Damage {
    fn fault(self, to: u64) -> Fault {
        Fault::Damaged {
            from: self.from,
            to,
            why: self.why,
        }
    }
}
