//! What a record is: its place in Kafka, and its bytes as they came.

pub mod batch;
pub mod detail;
mod document;
pub mod entity;
pub mod fold;
mod json;
pub mod mapping;
mod rejections;

pub use self::document::DOCUMENT_BYTES_MAX;
pub use self::rejections::Rejections;

use std::fmt;
use std::sync::Arc;

/// One partition of one topic: what a lane reads and a checkpoint covers.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number within the topic.
    pub number: i32,
}

impl Partition {
    /// The partition `number` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, number: i32) -> Self {
        Partition {
            topic: topic.into(),
            number,
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.number)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How far a log was read: all of it before an offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The first offset that was not read.
    pub offset: i64,
    /// The epoch of the leader that wrote what stands before it (KIP-101): offset and epoch
    /// together are in one log only. `None` where the broker tells no epochs.
    pub leader_epoch: Option<i32>,
}

impl From<i64> for Position {
    /// An offset whose leader epoch is not known.
    fn from(offset: i64) -> Self {
        Position {
            offset,
            leader_epoch: None,
        }
    }
}

/// One record header: a name, which is any bytes, and, unless null, its value.
pub type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record as Kafka delivered it, its bytes borrowed where they are.
#[derive(Clone, Debug, Default)]
pub struct Record<'a> {
    /// The record's offset in its partition.
    pub offset: i64,
    /// The epoch of the leader that wrote the record; `None` where the broker tells none.
    pub leader_epoch: Option<i32>,
    /// The record's own time in milliseconds since 1970, where it has one.
    pub timestamp_ms: Option<i64>,
    /// The key's bytes, `None` for a null key.
    pub key: Option<&'a [u8]>,
    /// The value's bytes, `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, in their order; empty for most records, and then without an allocation.
    pub headers: Vec<Header>,
}

impl Record<'_> {
    /// The bytes of key, value and headers together.
    pub fn bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len))
            .sum();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}
