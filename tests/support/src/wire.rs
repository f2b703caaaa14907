//! Record batches made by hand and sent by the wire protocol: what no usual client makes, and a
//! broker takes all the same. Written after the formats of the Kafka protocol guide (record batch
//! 2, Produce 7).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long the broker may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// The codec of a batch's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// The records as they are.
    None = 0,
    /// Zstandard.
    Zstd = 4,
}

/// One record; its offset is its place in the batch plus `skipped`.
#[derive(Clone, Debug, Default)]
pub struct WireRecord {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Names and values of any bytes.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Milliseconds after the batch's base timestamp; may be negative.
    pub timestamp_delta: i64,
}

/// One batch.
#[derive(Clone, Debug)]
pub struct WireBatch {
    /// The records, encoded and, by `codec`, compressed.
    pub payload: Vec<u8>,
    /// How many records it says it has.
    pub count: i32,
    /// How the payload is compressed.
    pub codec: Codec,
    /// Milliseconds since 1970; -1 for none.
    pub base_timestamp: i64,
}

impl WireBatch {
    /// An uncompressed batch of these records.
    pub fn of(records: &[WireRecord], base_timestamp: i64) -> WireBatch {
        let mut payload = Vec::new();
        for (delta, record) in (0..).zip(records) {
            record.encode(delta, &mut payload);
        }
        WireBatch {
            payload,
            count: records.len() as i32,
            codec: Codec::None,
            base_timestamp,
        }
    }

    /// A batch of one record, in a zstd frame whose value is `bytes` times the letter `a` between
    /// `head` and `tail`: so many bytes take four for each 128 KiB on the wire.
    pub fn expanding(key: &[u8], head: &[u8], bytes: usize, tail: &[u8]) -> WireBatch {
        WireBatch::all_expanding(&[Expanding {
            key,
            head,
            bytes,
            tail,
        }])
    }

    /// [`WireBatch::expanding`], of several records.
    pub fn all_expanding(records: &[Expanding<'_>]) -> WireBatch {
        let (mut blocks, mut unpacked_bytes) = (Vec::new(), 0);
        for (delta, record) in (0..).zip(records) {
            unpacked_bytes += record.encode(delta, &mut blocks);
        }
        // The last block, which is empty.
        blocks.extend(block_header(1, 0, 0));
        let mut payload = 0xfd2f_b528_u32.to_le_bytes().to_vec();
        payload.extend_from_slice(&[0xc0, 0x38]);
        payload.extend_from_slice(&(unpacked_bytes as u64).to_le_bytes());
        payload.extend(blocks);
        WireBatch {
            payload,
            count: records.len() as i32,
            codec: Codec::Zstd,
            base_timestamp: 0,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut rest = (self.codec as i16).to_be_bytes().to_vec();
        rest.extend((self.count - 1).to_be_bytes());
        rest.extend(self.base_timestamp.to_be_bytes());
        rest.extend(self.base_timestamp.to_be_bytes());
        // No idempotent producer: its id, its epoch, the first sequence number.
        rest.extend((-1_i64).to_be_bytes());
        rest.extend((-1_i16).to_be_bytes());
        rest.extend((-1_i32).to_be_bytes());
        rest.extend(self.count.to_be_bytes());
        rest.extend_from_slice(&self.payload);
        // The leader's epoch, which the broker writes, the format's version, the checksum.
        let mut tail = (-1_i32).to_be_bytes().to_vec();
        tail.push(2);
        tail.extend(crc32c(&rest).to_be_bytes());
        tail.extend(rest);
        let mut batch = 0_i64.to_be_bytes().to_vec();
        batch.extend((tail.len() as i32).to_be_bytes());
        batch.extend(tail);
        batch
    }

    /// Sends it to the partition's leader at `address`; the offset of its first record.
    ///
    /// # Errors
    /// The code that the broker refused it with.
    pub fn send(&self, address: &str, topic: &str, partition: i32) -> Result<i64, i16> {
        let batch = self.encode();
        let mut request = Vec::new();
        request.extend(0_i16.to_be_bytes());
        request.extend(7_i16.to_be_bytes());
        request.extend(1_i32.to_be_bytes());
        string("by hand", &mut request);
        request.extend((-1_i16).to_be_bytes());
        request.extend((-1_i16).to_be_bytes());
        request.extend(30_000_i32.to_be_bytes());
        request.extend(1_i32.to_be_bytes());
        string(topic, &mut request);
        request.extend(1_i32.to_be_bytes());
        request.extend(partition.to_be_bytes());
        request.extend((batch.len() as i32).to_be_bytes());
        request.extend(batch);

        let mut broker = TcpStream::connect(address).unwrap();
        broker.set_read_timeout(Some(ANSWER_DEADLINE)).unwrap();
        broker
            .write_all(&(request.len() as i32).to_be_bytes())
            .unwrap();
        broker.write_all(&request).unwrap();
        let mut len = [0; 4];
        broker.read_exact(&mut len).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(len) as usize];
        broker.read_exact(&mut answer).unwrap();
        // Correlation, topics, the topic's name, partitions, the partition's index.
        let at = 4 + 4 + 2 + topic.len() + 4 + 4;
        let code = i16::from_be_bytes(*answer[at..].first_chunk().unwrap());
        let offset = i64::from_be_bytes(*answer[at + 2..].first_chunk().unwrap());
        if code == 0 { Ok(offset) } else { Err(code) }
    }
}

/// A record whose value is `bytes` times the letter `a` between `head` and `tail`.
#[derive(Clone, Copy, Debug)]
pub struct Expanding<'a> {
    /// The key.
    pub key: &'a [u8],
    /// What the value begins with.
    pub head: &'a [u8],
    /// How many letters follow.
    pub bytes: usize,
    /// What the value ends with.
    pub tail: &'a [u8],
}

impl Expanding<'_> {
    /// Adds the record as blocks of a zstd frame; how many bytes they unpack to.
    fn encode(&self, offset_delta: i64, blocks: &mut Vec<u8>) -> usize {
        const BLOCK_BYTES_MAX: usize = 128 * 1024;
        let mut before = vec![0];
        varint(0, &mut before);
        varint(offset_delta, &mut before);
        field(Some(self.key), &mut before);
        let value_bytes = self.head.len() + self.bytes + self.tail.len();
        varint(value_bytes as i64, &mut before);
        before.extend_from_slice(self.head);
        let mut after = self.tail.to_vec();
        varint(0, &mut after);
        let mut start = Vec::new();
        let record_bytes = before.len() + self.bytes + after.len();
        varint(record_bytes as i64, &mut start);
        start.extend_from_slice(&before);

        blocks.extend(block_header(0, 0, start.len()));
        blocks.extend_from_slice(&start);
        let mut left = self.bytes;
        while left > 0 {
            let size = left.min(BLOCK_BYTES_MAX);
            blocks.extend(block_header(0, 1, size));
            blocks.push(b'a');
            left -= size;
        }
        blocks.extend(block_header(0, 0, after.len()));
        blocks.extend_from_slice(&after);
        start.len() + self.bytes + after.len()
    }
}

/// The header of a zstd block: raw (0), or of one byte that is repeated (1).
fn block_header(last: usize, kind: usize, size: usize) -> [u8; 3] {
    let header = (last | kind << 1 | size << 3) as u32;
    let [a, b, c, _] = header.to_le_bytes();
    [a, b, c]
}

impl WireRecord {
    fn encode(&self, offset_delta: i64, out: &mut Vec<u8>) {
        let mut body = vec![0];
        varint(self.timestamp_delta, &mut body);
        varint(offset_delta, &mut body);
        field(self.key.as_deref(), &mut body);
        field(self.value.as_deref(), &mut body);
        varint(self.headers.len() as i64, &mut body);
        for (name, value) in &self.headers {
            field(Some(name), &mut body);
            field(value.as_deref(), &mut body);
        }
        varint(body.len() as i64, out);
        out.extend(body);
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn field(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => {
            varint(bytes.len() as i64, out);
            out.extend_from_slice(bytes);
        }
        None => varint(-1, out),
    }
}

/// A number in zigzag form, seven bits a byte.
fn varint(number: i64, out: &mut Vec<u8>) {
    let mut rest = (number << 1 ^ number >> 63) as u64;
    while rest > 0x7f {
        out.push(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// CRC-32C (Castagnoli), as batches are checked with.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}
