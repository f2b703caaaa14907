//! Files as they are, of gzip or of zstd, told apart by their first bytes.

use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Bytes that say what a file is: a log's first header.
pub(crate) const MAGIC_BYTES: usize = 7;

/// Bytes that a frame of zstd may refer back to, as of its own `--long`: what is kept in memory.
const WINDOW_BYTES_MAX: u64 = 128 << 20;

const ZSTD_FRAME: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a file's inflated bytes are read from.
pub(crate) type Input = Box<dyn BufRead + Send>;

/// The inflated bytes of a file. Reading them fails where the file is damaged or cut.
pub(crate) fn inflated(raw: impl Read + Send + 'static) -> io::Result<Input> {
    let mut raw = BufReader::with_capacity(BUFFER_BYTES, raw);
    let magic = peek(&mut raw)?;
    let raw = Cursor::new(magic.clone()).chain(raw);
    Ok(match *magic {
        // A log may begin with any checksum: of gzip more than two bytes are asked.
        [0x1f, 0x8b, 8, flags, ..] if flags < 0x20 => {
            let inflated = MultiGzDecoder::new(raw);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, inflated))
        }
        [a, b, c, d, ..] if [a, b, c, d] == ZSTD_FRAME || is_skippable([a, b, c, d]) => {
            let inflated = Zstd::new(Box::new(raw));
            Box::new(BufReader::with_capacity(BUFFER_BYTES, inflated))
        }
        _ => Box::new(raw),
    })
}

/// The first bytes, as many as there are of [`MAGIC_BYTES`], taken out of the input.
pub(crate) fn peek(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut magic = Vec::with_capacity(MAGIC_BYTES);
    input.take(MAGIC_BYTES as u64).read_to_end(&mut magic)?;
    Ok(magic)
}

fn is_skippable(magic: [u8; 4]) -> bool {
    u32::from_le_bytes(magic) & !0xf == 0x184d_2a50
}

/// The frames of a file of zstd, one after the other, each held against its checksum.
struct Zstd {
    raw: Input,
    decoder: FrameDecoder,
    /// Whether a frame has begun that has not ended.
    within: bool,
}

impl Zstd {
    fn new(raw: Input) -> Zstd {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        Zstd {
            raw,
            decoder,
            within: false,
        }
    }

    /// Begins the next frame, or passes over one that holds nothing.
    fn begin(&mut self) -> io::Result<()> {
        match self.decoder.reset(&mut self.raw) {
            Ok(()) => self.within = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let mut rest = (&mut self.raw).take(length.into());
                if io::copy(&mut rest, &mut io::sink())? < u64::from(length) {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(damaged(error)),
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.within = false;
        let said = self.decoder.get_checksum_from_data();
        match said.is_none() || said == self.decoder.get_calculated_checksum() {
            true => Ok(()),
            false => Err(damaged("a zstd frame with another checksum than its own")),
        }
    }
}

impl Read for Zstd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.within {
                if self.raw.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.begin()?;
                continue;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.raw, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(damaged)?;
            }
            let bytes = self.decoder.read(buffer)?;
            if bytes > 0 {
                return Ok(bytes);
            }
            self.end()?;
        }
    }
}

fn damaged(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

/// Counts the bytes that are read of a file.
pub(crate) struct Counted<R> {
    pub input: R,
    pub bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.input.read(buffer)?;
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}
