//! Files that change all at once, and their checksums.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest, Sha256};

/// `remap.json` → `remap.EXTENSION`.
pub(crate) fn beside(file: &Path, extension: &str) -> PathBuf {
    file.with_extension(extension)
}

/// What a file's name has behind it while the file is written.
const PARTIAL: &str = ".partial";

/// A file on its way into another one's place. One that a killed run has left is removed by the next
/// one: the lock says that there are not two at once.
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Partial {
    /// An empty one, with the mode of the file that is there.
    pub(crate) fn of(target: &Path) -> Result<Partial> {
        let mut path = target.to_owned().into_os_string();
        path.push(PARTIAL);
        let path = PathBuf::from(path);
        let open = || {
            // Its mode is not that of a new one, perhaps.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = File::create_new(&path)?;
            match fs::metadata(target) {
                Ok(known) => file.set_permissions(known.permissions())?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            Ok(file)
        };
        let file = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Partial {
            file,
            path,
            target: target.to_owned(),
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes its bytes last.
    pub(crate) fn sync(&self) -> Result<()> {
        Ok(self.file.sync_all()?)
    }

    /// Puts it in place.
    pub(crate) fn persist(self) -> Result<()> {
        self.sync()?;
        fs::rename(&self.path, &self.target)?;
        Ok(File::open(folder_of(&self.target))?.sync_all()?)
    }
}

impl Drop for Partial {
    /// It is not left beside what it was for. Once it is in place there is none of this name.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Partial {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Puts bytes in a file's place, all at once.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = Partial::of(file)?;
    partial.write_all(bytes)?;
    partial.persist()
}

/// The folder that a file is in.
fn folder_of(file: &Path) -> &Path {
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
    writer: &mut BufWriter<Partial>,
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
    writer.get_ref().file.set_len(end_before)?;
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
