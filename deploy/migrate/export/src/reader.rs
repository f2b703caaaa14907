//! The entities of one file, whatever its form.

use std::fmt;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::compressed::{Counted, Input, inflated, peek};
use crate::{Entity, Fault, Lines, Log, Place, read_lines, read_log};

/// The entities of one file, each with its place, and its faults. After a fault of the file itself
/// ([`Fault::Io`], [`Fault::Truncated`]) there is nothing more.
pub struct Reader {
    form: Form,
    bytes_read: Arc<AtomicU64>,
}

enum Form {
    Log(Log<Input>),
    Lines(Lines<Input>),
}

impl Reader {
    /// Reads an input that may be compressed with gzip or zstd. `file` is its name in each place.
    /// If the name is that of an export's log, such as `output-0`, the input is one; otherwise its
    /// first bytes tell whether it is.
    ///
    /// # Errors
    ///
    /// The input's own, for its first bytes.
    pub fn new(input: impl Read + Send + 'static, file: &str) -> io::Result<Reader> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let mut input = inflated(Counted {
            input,
            bytes: Arc::clone(&bytes_read),
        })?;
        let begin = peek(&mut input)?;
        let log = crate::source::output(file).is_some() || !begin.iter().all(is_text);
        let input: Input = Box::new(Cursor::new(begin).chain(input));
        let form = match log {
            true => Form::Log(read_log(input, file)),
            false => Form::Lines(read_lines(input, file)),
        };
        Ok(Reader { form, bytes_read })
    }

    /// The bytes that were read of the file as it is stored, so perhaps compressed. They may run
    /// ahead of the entities by some buffers.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

/// Whether JSON may have this byte. A log has one of 1 to 4 at its seventh place: the type.
fn is_text(byte: &u8) -> bool {
    *byte >= b' ' || byte.is_ascii_whitespace()
}

impl Iterator for Reader {
    type Item = (Place, Result<Entity, Fault>);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.form {
            Form::Log(log) => log.next(),
            Form::Lines(lines) => lines.next(),
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("bytes_read", &self.bytes_read)
            .finish_non_exhaustive()
    }
}
