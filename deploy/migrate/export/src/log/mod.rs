//! Entities of a log, one a record.

use std::io::Read;
use std::sync::Arc;

use crate::{Entity, Fault, Place, decode};

pub(crate) mod frames;

use frames::Frames;

/// The entities of one log, such as `output-0`, and its faults.
#[derive(Debug)]
pub struct Log<R> {
    frames: Frames<R>,
    file: Arc<str>,
    record: u64,
}

/// Reads a log that is not compressed. `file` is its name in each place.
///
/// It gives one fault for each damaged region, and goes on behind it; a file that ends within a
/// record gives one fault at its end. See [`Fault`].
pub fn read_log<R: Read>(input: R, file: &str) -> Log<R> {
    Log {
        frames: Frames::new(input),
        file: file.into(),
        record: 0,
    }
}

/// Reads the entity of one record, an `EntityProto` of App Engine's `datastore_v3`.
///
/// # Errors
///
/// A [`Fault`] that is not of a file but of the record.
pub fn decode_record(record: &[u8]) -> Result<Entity, Fault> {
    decode::record(record.to_vec())
}

impl<R: Read> Iterator for Log<R> {
    type Item = (Place, Result<Entity, Fault>);

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.frames.next()?;
        self.record += 1;
        let place = Place {
            file: Arc::clone(&self.file),
            record: self.record,
        };
        Some((place, found.and_then(decode::record)))
    }
}

#[cfg(test)]
mod tests;
