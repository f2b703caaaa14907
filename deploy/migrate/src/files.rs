//! Files that change all at once, and their checksums.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// `remap.json` → `remap.EXTENSION`.
pub(crate) fn beside(file: &Path, extension: &str) -> PathBuf {
    file.with_extension(extension)
}

/// Puts bytes in a file's place, all at once.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = NamedTempFile::new_in(folder_of(file))?;
    partial.write_all(bytes)?;
    partial.as_file_mut().sync_all()?;
    partial.persist(file)?;
    sync_folder(file)
}

/// Makes a change of names in a file's folder last.
pub(crate) fn sync_folder(file: &Path) -> Result<()> {
    Ok(File::open(folder_of(file))?.sync_all()?)
}

/// The folder that a file is in.
pub(crate) fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// The SHA-256 of a file.
pub(crate) fn hex_of_file(file: &Path) -> Result<String> {
    let mut hashed = Hashed {
        inner: File::open(file)?,
        digest: Sha256::new(),
    };
    io::copy(&mut &mut hashed, &mut io::sink())?;
    Ok(hex(hashed.digest))
}

/// Copies a JSON object without the brace that ends it and what is behind its last member. Its
/// SHA-256 has to be this one.
pub(crate) fn copy_open(
    file: &Path,
    sha256: Option<&str>,
    writer: &mut BufWriter<NamedTempFile>,
) -> Result<()> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut hashed = Hashed {
        inner: opened,
        digest: Sha256::new(),
    };
    let mut reader = BufReader::new(&mut hashed);
    // Up to behind the last byte that is no space, and the one before it; and that last one.
    let (mut copied, mut end, mut end_before, mut last) = (0, 0, 0, 0);
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        for byte in bytes {
            copied += 1;
            if !byte.is_ascii_whitespace() {
                (end_before, end, last) = (end, copied, *byte);
            }
        }
        writer.write_all(bytes)?;
        let read = bytes.len();
        reader.consume(read);
    }
    drop(reader);
    ensure!(
        sha256 == Some(&*hex(hashed.digest)),
        "{} was edited while this ran",
        file.display()
    );
    ensure!(
        last == b'}',
        "{} does not end in a brace: bring it back",
        file.display()
    );
    writer.seek(SeekFrom::Start(end_before))?;
    writer.get_ref().as_file().set_len(end_before)?;
    Ok(())
}

/// A SHA-256 in hex digits.
pub(crate) fn hex(digest: Sha256) -> String {
    hex::encode(digest.finalize())
}

/// A file whose bytes are hashed while it is read.
pub(crate) struct Hashed {
    pub(crate) inner: File,
    pub(crate) digest: Sha256,
}

impl Read for &mut Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.digest.update(&buffer[..read]);
        Ok(read)
    }
}
