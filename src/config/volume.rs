//! Reads a directory whose files change all at once, in the way of the kubelet: `..data` is a link
//! to the folder that holds them, and is swapped. `admin` writes such directories too.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The link that is swapped.
pub const DATA: &str = "..data";

/// How often the files are read while they are replaced under the reader.
const READS_MAX: usize = 10;

/// Where the files of a directory are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// In the directory itself, which has no [`DATA`].
    Plain,
    /// In the folder that [`DATA`] leads to: one state of all files.
    Linked(PathBuf),
    /// Nowhere: [`DATA`] leads to a folder that is gone.
    Gone,
}

impl Files {
    /// Where the files of `directory` are now.
    ///
    /// # Errors
    /// The file system's. That the directory itself is missing is none: it is `Plain`.
    pub fn of(directory: &Path) -> io::Result<Files> {
        let link = directory.join(DATA);
        match fs::canonicalize(&link) {
            Ok(folder) => Ok(Files::Linked(folder)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Err(_) if fs::symlink_metadata(&link).is_ok() => Ok(Files::Gone),
            Err(_) => Ok(Files::Plain),
        }
    }

    /// The name of the linked folder: another state has another name. None for other files.
    pub fn state(&self) -> Option<String> {
        let Files::Linked(folder) = self else {
            return None;
        };
        let name = folder.file_name()?;
        Some(name.to_string_lossy().into_owned())
    }
}

/// What `read` makes of the files of `directory`, all of one state. `None` where they were gone or
/// replaced each time that they were read.
///
/// # Errors
/// The file system's, while it is asked where the files are.
pub fn read_one_state<T>(directory: &Path, read: impl Fn(&Files) -> T) -> io::Result<Option<T>> {
    for _ in 0..READS_MAX {
        let files = Files::of(directory)?;
        if files == Files::Gone {
            continue;
        }
        let found = read(&files);
        if Files::of(directory)? == files {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
