//! Writes exports, for demos and tests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::Entity;
use crate::log::frames::{BLOCK_BYTES, FIRST, FULL, HEADER_BYTES, LAST, MIDDLE, checksum};
use crate::metadata::{OF_KIND, OVERALL, Written, of_kind, write_overall};

mod encode;

pub use encode::encode;

/// Entities of one file, if nothing else is said.
const FILE_ENTITIES: u64 = 10_000;
/// Kinds of one export; each has an open file.
const KINDS_MAX: usize = 500;

/// Writes an export's folder as Datastore does, with files of `output-N` that hold the same. The
/// files of metadata name what has to be there, and give no times.
#[derive(Debug)]
pub struct ExportWriter {
    folder: PathBuf,
    name: String,
    file_entities: u64,
    kinds: BTreeMap<String, Kind>,
}

#[derive(Debug)]
struct Kind {
    folder: PathBuf,
    log: LogWriter<BufWriter<File>>,
    /// Entities of this file.
    entities: u64,
    /// Files that are done.
    files: u64,
}

impl ExportWriter {
    /// Begins an export with this name in a folder, which is made if need be.
    ///
    /// # Errors
    ///
    /// A folder that cannot be made.
    pub fn create(folder: &Path, name: &str) -> Result<ExportWriter> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(ExportWriter {
            folder: folder.to_owned(),
            name: name.to_owned(),
            file_entities: FILE_ENTITIES,
            kinds: BTreeMap::new(),
        })
    }

    /// Begins a new file of a kind after this many entities.
    #[must_use]
    pub fn file_entities(mut self, entities: u64) -> ExportWriter {
        self.file_entities = entities.max(1);
        self
    }

    /// Writes an entity to its kind's folder.
    ///
    /// # Errors
    ///
    /// Those of [`encode`]; a file that cannot be written; more kinds than 500.
    pub fn add(&mut self, entity: &Entity) -> Result<()> {
        let record = encode(entity)?;
        let name = entity.key.kind();
        if !self.kinds.contains_key(name) {
            ensure!(self.kinds.len() < KINDS_MAX, "more than {KINDS_MAX} kinds");
            let kind = Kind::create(&self.folder, name)?;
            self.kinds.insert(name.to_owned(), kind);
        }
        let kind = self.kinds.get_mut(name).expect("inserted above");
        if kind.entities == self.file_entities {
            kind.log.flush()?;
            kind.files += 1;
            kind.entities = 0;
            kind.log = output(&kind.folder, kind.files)?;
        }
        kind.entities += 1;
        kind.log.add(&record)?;
        Ok(())
    }

    /// Writes what is left, and the files of metadata.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn finish(self) -> Result<()> {
        let mut written = vec![];
        for (_, mut kind) in self.kinds {
            kind.log.flush()?;
            let folder = kind.folder.file_name().unwrap_or_default().display();
            let name = format!("all_namespaces_{folder}{OF_KIND}");
            let files = kind.files + 1;
            fs::write(kind.folder.join(&name), of_kind(&self.name, files))?;
            let mut bytes = 0;
            for number in 0..files {
                bytes += fs::metadata(kind.folder.join(format!("output-{number}")))?.len();
            }
            written.push(Written {
                file: format!("all_namespaces/{folder}/{name}"),
                entities: kind.files * self.file_entities + kind.entities,
                bytes,
            });
        }
        let file = File::create(self.folder.join(format!("{}{OVERALL}", self.name)))?;
        write_overall(file, &written)?;
        Ok(())
    }
}

impl Kind {
    fn create(export: &Path, name: &str) -> Result<Kind> {
        // A kind may hold what no folder's name can.
        let name = name.replace('%', "%25").replace('/', "%2F");
        let folder = export.join("all_namespaces").join(format!("kind_{name}"));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Kind {
            log: output(&folder, 0)?,
            folder,
            entities: 0,
            files: 0,
        })
    }
}

fn output(folder: &Path, number: u64) -> Result<LogWriter<BufWriter<File>>> {
    let path = folder.join(format!("output-{number}"));
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(LogWriter::new(BufWriter::new(file)))
}

/// Writes a log as LevelDB does: blocks of 32 KiB, and records in them.
#[derive(Debug)]
pub struct LogWriter<W> {
    output: W,
    /// Bytes of the block that are written.
    at: usize,
}

impl<W: Write> LogWriter<W> {
    /// Begins a log.
    pub fn new(output: W) -> LogWriter<W> {
        LogWriter { output, at: 0 }
    }

    /// Writes a record.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn add(&mut self, record: &[u8]) -> io::Result<()> {
        let mut rest = record;
        let mut first = true;
        loop {
            if BLOCK_BYTES - self.at < HEADER_BYTES {
                self.fill()?;
            }
            let (data, after) = rest.split_at(rest.len().min(BLOCK_BYTES - self.at - HEADER_BYTES));
            let kind = match (first, after.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            let length = u16::try_from(data.len()).expect("less than a block");
            self.output.write_all(&checksum(kind, data).to_le_bytes())?;
            self.output.write_all(&length.to_le_bytes())?;
            self.output.write_all(&[kind])?;
            self.output.write_all(data)?;
            self.at += HEADER_BYTES + data.len();
            rest = after;
            first = false;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Fills the rest of the block with zeros, as Google's writers of records do at a flush.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn fill(&mut self) -> io::Result<()> {
        if self.at > 0 {
            self.output.write_all(&vec![0; BLOCK_BYTES - self.at])?;
            self.at = 0;
        }
        Ok(())
    }

    /// Flushes the output.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// The output, with all records.
    pub fn into_inner(self) -> W {
        self.output
    }
}
