//! Standard output, whose reader may have seen enough before the command has come to its verdict.

use std::io::{self, ErrorKind, Write};

/// Once its reader has closed it, what is written goes nowhere, so that the exit code is the one
/// that the whole output would have had. Only `flush` says that it is closed.
#[derive(Debug)]
pub struct Output<W> {
    inner: W,
    is_closed: bool,
}

impl<W> Output<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Output<W> {
        Output {
            inner,
            is_closed: false,
        }
    }

    fn noted(&mut self, error: io::Error) -> Option<io::Error> {
        self.is_closed |= error.kind() == ErrorKind::BrokenPipe;
        (!self.is_closed).then_some(error)
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_closed {
            return Ok(bytes.len());
        }
        let written = self.inner.write(bytes);
        written.or_else(|error| self.noted(error).map_or(Ok(bytes.len()), Err))
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.is_closed {
            self.inner
                .flush()
                .or_else(|error| self.noted(error).map_or(Ok(()), Err))?;
        }
        match self.is_closed {
            true => Err(ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }
}
