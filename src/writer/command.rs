//! Write commands as raw BSON, built in place: each document is copied once. Pure.

use bson::{Document, RawDocumentBuf, doc};

use crate::record::fold::Write;
use crate::record::fold::WriteMode;

#[cfg(test)]
mod tests;

/// The most bytes of documents in one command; a command is itself a document of at most 16 MiB,
/// and one larger document still gets a command of its own.
pub const COMMAND_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The most writes in one command: neither `maxTimeMS` nor `killSessions` ends an `update` of
/// single documents before its last one in MongoDB 6.0.
pub const COMMAND_WRITES_MAX: usize = 100;

/// The most ids in one `delete`: it is one statement, which does end.
pub const COMMAND_IDS_MAX: usize = 2_000;

/// The most top-level names that are written with `$set`. For each of them MongoDB walks through
/// the fields of the document, and neither `maxTimeMS` nor `killSessions` ends that. More names are
/// merged by an expression, whose time grows with the fields only.
///
/// Measured with MongoDB 6.0.5, in milliseconds, for a new document and for one that has the same
/// names with other values:
///
/// | names | `$set` | expression |
/// |---|---|---|
/// | 20 | 0.034, 0.030 | 0.031, 0.034 |
/// | 50 | 0.062, 0.059 | 0.046, 0.058 |
/// | 100 | 0.117, 0.115 | 0.068, 0.089 |
/// | 1,000 | 3.1, 3.2 | 0.4, 0.6 |
/// | 10,000 | 270, 280 | 4, 8 |
/// | 30,000 | 3,200, 2,900 | 15, 32 |
/// | 200,000 | minutes | 120, 310 |
///
/// So `$set` of so many takes 3 s at the worst, over a document of 1.6 million fields, and an
/// expression 1.3 s; `$set` of 1,000 would take 28 s, more than [`STATEMENT_MS_MAX`].
pub const SET_NAMES_MAX: usize = 100;

/// The server's limit for one statement and for the commit, in milliseconds; below the lifetime of
/// a transaction, which is a minute.
pub const STATEMENT_MS_MAX: i64 = 15_000;

/// Cuts writes into runs that fit one command each; in order, none empty.
pub fn runs<'w, 'a>(writes: &'w [Write<'a>]) -> impl Iterator<Item = &'w [Write<'a>]> {
    cut(writes, COMMAND_WRITES_MAX, |write| {
        write.document.len() + write.id.len()
    })
}

/// Cuts ids into runs that fit one command each; in order, none empty.
pub fn id_runs<'i, 'a>(ids: &'i [&'a str]) -> impl Iterator<Item = &'i [&'a str]> {
    cut(ids, COMMAND_IDS_MAX, |id| id.len())
}

fn cut<T>(
    items: &[T],
    count_max: usize,
    bytes_of: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(count_max).take_while(|item| {
            bytes += bytes_of(item);
            bytes <= COMMAND_BYTES_MAX
        });
        let (run, tail) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = tail;
        (!run.is_empty()).then_some(run)
    })
}

/// The `update` command that upserts `writes` into `collection`, in order, stopping at the first
/// that fails. `time_ms_max` is the server's limit for it.
pub fn update(
    collection: &str,
    writes: &[Write<'_>],
    mode: WriteMode,
    time_ms_max: i64,
) -> RawDocumentBuf {
    let bytes: usize = writes.iter().map(statement_bytes).sum();
    let mut command = Builder::update(collection, bytes);
    let mut index = itoa::Buffer::new();
    for (i, write) in writes.iter().enumerate() {
        command.begin(DOCUMENT, index.format(i));
        command.upsert(write, mode);
        command.end();
    }
    command.finish_update(time_ms_max)
}

/// The statements of one lane's writes into one collection, to share a command with those of
/// others.
#[derive(Debug)]
pub struct Statements {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Statements {
    /// The statements that upsert `writes`, in order.
    pub fn new(writes: &[Write<'_>], mode: WriteMode) -> Self {
        let bytes = writes.iter().map(statement_bytes).sum();
        let mut statements = Builder {
            bytes: Vec::with_capacity(bytes),
            open: Vec::with_capacity(DEPTH),
        };
        let mut ends = Vec::with_capacity(writes.len());
        for write in writes {
            statements.open();
            statements.upsert(write, mode);
            statements.end();
            ends.push(statements.bytes.len());
        }
        let bytes = statements.bytes;
        Statements { bytes, ends }
    }

    /// How many statements there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Their size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Each statement, as a BSON document.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(from, to)| &self.bytes[from..*to])
    }
}

/// As [`runs`], of statements that are built already.
pub fn statement_runs<'s, 'a>(statements: &'s [&'a [u8]]) -> impl Iterator<Item = &'s [&'a [u8]]> {
    cut(statements, COMMAND_WRITES_MAX, |statement| statement.len())
}

/// As [`update`], of statements that are built already.
pub fn update_all(collection: &str, statements: &[&[u8]], time_ms_max: i64) -> RawDocumentBuf {
    let bytes: usize = statements.iter().map(|statement| statement.len() + 8).sum();
    let mut command = Builder::update(collection, bytes);
    let mut index = itoa::Buffer::new();
    for (i, statement) in statements.iter().enumerate() {
        command.document(index.format(i), statement);
    }
    command.finish_update(time_ms_max)
}

/// The most bytes that a statement takes.
fn statement_bytes(write: &Write<'_>) -> usize {
    let merge = if write.names > SET_NAMES_MAX { 96 } else { 0 };
    write.document.len() + write.id.len() + 96 + merge
}

/// The `update` command that puts `documents` into `collection`, each in place of one with the same
/// `_id`. `time_ms_max` is the server's limit for it.
///
/// # Panics
/// Where the `_id` of one of the `documents` is not a document.
pub fn put(collection: &str, documents: &[RawDocumentBuf], time_ms_max: i64) -> RawDocumentBuf {
    let bytes: usize = documents.iter().map(|d| d.as_bytes().len()).sum();
    let mut command = Builder::update(collection, bytes + 512 * documents.len());
    let mut index = itoa::Buffer::new();
    for (i, document) in documents.iter().enumerate() {
        command.begin(DOCUMENT, index.format(i));
        command.begin(DOCUMENT, "q");
        let id = document.get_document("_id");
        let id = id.expect("the _id of what is put is a document");
        command.document("_id", id.as_bytes());
        command.end();
        command.document("u", document.as_bytes());
        command.bool("upsert", true);
        command.end();
    }
    command.finish_update(time_ms_max)
}

/// The `delete` command that removes the entities `ids` from `collection`. `time_ms_max` is the
/// server's limit for it.
pub fn delete(collection: &str, ids: &[&str], time_ms_max: i64) -> RawDocumentBuf {
    raw(&doc! {
        "delete": collection,
        "deletes": [{ "q": { "_id": { "$in": ids } }, "limit": 0 }],
        "maxTimeMS": time_ms_max,
    })
}

/// A document of our own as raw BSON.
///
/// # Panics
/// Where a field name in it has a zero byte.
pub fn raw(document: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(document).expect("field names of our own have no zero byte")
}

const STRING: u8 = 0x02;
const DOCUMENT: u8 = 0x03;
const ARRAY: u8 = 0x04;
const BOOL: u8 = 0x08;
const INT64: u8 = 0x12;

/// How many documents of a command are open at a time.
const DEPTH: usize = 8;

/// Writes BSON front to back. The length of a document is filled in when the document ends.
struct Builder {
    bytes: Vec<u8>,
    open: Vec<usize>,
}

impl Builder {
    fn with_capacity(bytes: usize) -> Self {
        let mut builder = Builder {
            bytes: Vec::with_capacity(bytes),
            open: Vec::with_capacity(DEPTH),
        };
        builder.open();
        builder
    }

    /// An `update` command up to its statements, which take `statements_bytes` at most.
    fn update(collection: &str, statements_bytes: usize) -> Self {
        let mut command = Builder::with_capacity(statements_bytes + 128);
        command.string("update", collection);
        command.begin(ARRAY, "updates");
        command
    }

    /// What follows the statements of an `update` command.
    fn finish_update(mut self, time_ms_max: i64) -> RawDocumentBuf {
        self.end();
        self.bool("ordered", true);
        self.int64("maxTimeMS", time_ms_max);
        self.finish()
    }

    fn open(&mut self) {
        self.open.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
    }

    fn name(&mut self, kind: u8, name: &str) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
    }

    fn begin(&mut self, kind: u8, name: &str) {
        self.name(kind, name);
        self.open();
    }

    fn end(&mut self) {
        self.bytes.push(0);
        let from = self.open.pop().expect("what ends was begun");
        let len = length(self.bytes.len() - from);
        self.bytes[from..from + 4].copy_from_slice(&len);
    }

    fn string(&mut self, name: &str, value: &str) {
        self.name(STRING, name);
        self.bytes.extend_from_slice(&length(value.len() + 1));
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
    }

    fn document(&mut self, name: &str, document: &[u8]) {
        self.name(DOCUMENT, name);
        self.bytes.extend_from_slice(document);
    }

    fn bool(&mut self, name: &str, value: bool) {
        self.name(BOOL, name);
        self.bytes.push(u8::from(value));
    }

    fn int64(&mut self, name: &str, value: i64) {
        self.name(INT64, name);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// The fields of the statement that upserts a document.
    fn upsert(&mut self, write: &Write<'_>, mode: WriteMode) {
        self.begin(DOCUMENT, "q");
        self.string("_id", write.id);
        self.end();
        match mode {
            WriteMode::Set if write.names > SET_NAMES_MAX => self.merge(&write.document),
            WriteMode::Set => {
                self.begin(DOCUMENT, "u");
                self.document("$set", &write.document);
                self.end();
            }
            WriteMode::Replace => self.document("u", &write.document),
        }
        self.bool("upsert", true);
    }

    /// The update that comes to the same as `$set` of `document`: the stored document, or in an
    /// upsert its `_id`, with the fields of `document`. `$literal`: nothing in it is interpreted.
    fn merge(&mut self, document: &[u8]) {
        self.begin(ARRAY, "u");
        self.begin(DOCUMENT, "0");
        self.begin(DOCUMENT, "$replaceWith");
        self.begin(ARRAY, "$mergeObjects");
        self.string("0", "$$ROOT");
        self.begin(DOCUMENT, "1");
        self.document("$literal", document);
        for _ in 0..5 {
            self.end();
        }
    }

    /// The finished document. Only its frame is checked, with the length of the whole: its contents
    /// were made here.
    fn finish(mut self) -> RawDocumentBuf {
        self.end();
        RawDocumentBuf::from_bytes(self.bytes)
            .expect("a command is far below 2 GiB, and framed here")
    }
}

/// A length as BSON has it. It fits if that of the whole command does, which [`Builder::finish`]
/// checks.
fn length(bytes: usize) -> [u8; 4] {
    (bytes as i32).to_le_bytes()
}
