//! Writes a directory whose files change all at once, in the way of the kubelet: the files are in a
//! hidden folder with a time for a name, `..data` is a link to it that is swapped by a rename, and
//! each key is a link through `..data`. `config::volume` reads it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use jiff::Timestamp;

use crate::config::volume::DATA;

const DATA_NEW: &str = "..data_new";

/// The names of what is not a value begin like this.
const HIDDEN: &str = "..";

/// Who may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// The owner, who may also write.
    Owner,
    /// Owner and group, for a volume that containers share.
    Group,
}

impl Readers {
    fn file_mode(self) -> u32 {
        match self {
            Readers::Owner => 0o600,
            Readers::Group => 0o440,
        }
    }

    fn directory_mode(self) -> u32 {
        match self {
            Readers::Owner => 0o700,
            Readers::Group => 0o750,
        }
    }
}

/// The files of a folder, by name.
pub fn read(folder: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, fs::read(entry.path())?);
    }
    Ok(files)
}

/// Makes the directory show exactly `files`, all at once and durably: at any moment a reader sees
/// the files of one state. Removes what a killed call left behind. One writer at a time.
pub fn publish(
    directory: &Path,
    files: &BTreeMap<String, &[u8]>,
    readers: Readers,
) -> io::Result<()> {
    create(directory, readers)?;
    let state = create_state(directory, readers)?;
    for (name, value) in files {
        let path = directory.join(&state).join(name);
        let mut file = (OpenOptions::new().write(true).create_new(true))
            .mode(0o600)
            .open(path)?;
        file.write_all(value)?;
        file.set_permissions(Permissions::from_mode(readers.file_mode()))?;
        file.sync_all()?;
    }
    File::open(directory.join(&state))?.sync_all()?;

    remove_if_there(&directory.join(DATA_NEW))?;
    symlink(&state, directory.join(DATA_NEW))?;
    fs::rename(directory.join(DATA_NEW), directory.join(DATA))?;

    link_values(directory, files)?;
    clean_up(directory, files, &state)?;
    File::open(directory)?.sync_all()
}

fn is_shown(name: &str, files: &BTreeMap<String, &[u8]>) -> bool {
    files.contains_key(name) && !name.starts_with(HIDDEN)
}

fn link_values(directory: &Path, files: &BTreeMap<String, &[u8]>) -> io::Result<()> {
    for name in files.keys().filter(|name| is_shown(name, files)) {
        let (link, target) = (directory.join(name), Path::new(DATA).join(name));
        if fs::read_link(&link).ok().as_ref() != Some(&target) {
            remove_if_there(&link)?;
            symlink(target, link)?;
        }
    }
    Ok(())
}

/// Removes other states, and links to values that are gone.
fn clean_up(directory: &Path, files: &BTreeMap<String, &[u8]>, state: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_link = entry.file_type()?.is_symlink();
        if name.starts_with(HIDDEN) {
            if !is_link && name != state {
                fs::remove_dir_all(entry.path())?;
            }
        } else if is_link && !is_shown(&name, files) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Creates a directory and those above it; one that exists keeps its mode.
pub fn create(directory: &Path, readers: Readers) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(readers.directory_mode());
    builder.create(directory)
}

/// Creates the folder of a new state, and returns its name.
fn create_state(directory: &Path, readers: Readers) -> io::Result<String> {
    loop {
        let now = Timestamp::now().as_nanosecond();
        let state = format!("{HIDDEN}{now}");
        match fs::DirBuilder::new()
            .mode(0o700)
            .create(directory.join(&state))
        {
            Ok(()) => {
                let mode = Permissions::from_mode(readers.directory_mode());
                fs::set_permissions(directory.join(&state), mode)?;
                return Ok(state);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::volume::{Files, read_one_state};

    fn files<'a>(pairs: &[(&str, &'a str)]) -> BTreeMap<String, &'a [u8]> {
        (pairs.iter())
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes()))
            .collect()
    }

    fn shown(directory: &Path) -> Vec<(String, String)> {
        let mut shown: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with(HIDDEN))
            .map(|name| {
                let value = fs::read_to_string(directory.join(&name)).unwrap();
                (name, value)
            })
            .collect();
        shown.sort();
        shown
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn keys_come_change_and_go_and_nothing_is_left_behind() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("volume");
        assert_eq!(Files::of(&directory).unwrap(), Files::Plain);
        publish(
            &directory,
            &files(&[("A", "1"), ("..at", "x")]),
            Readers::Group,
        )
        .unwrap();
        assert_eq!(shown(&directory), [pair("A", "1")]);
        let Files::Linked(first) = Files::of(&directory).unwrap() else {
            panic!("published files are linked")
        };
        assert_eq!(read(&first).unwrap().len(), 2);

        publish(
            &directory,
            &files(&[("A", "2"), ("B", "3")]),
            Readers::Group,
        )
        .unwrap();
        assert_eq!(shown(&directory), [pair("A", "2"), pair("B", "3")]);
        publish(&directory, &files(&[("B", "4")]), Readers::Group).unwrap();
        assert_eq!(shown(&directory), [pair("B", "4")]);
        assert!(!first.exists());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 3);
    }

    #[test]
    fn files_are_for_those_who_may_read_them() {
        let root = tempfile::tempdir().unwrap();
        for (readers, file, directory) in [
            (Readers::Owner, 0o600, 0o700),
            (Readers::Group, 0o440, 0o750),
        ] {
            let volume = root.path().join(format!("{readers:?}"));
            publish(&volume, &files(&[("A", "1")]), readers).unwrap();
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&volume.join("A")), file);
            assert_eq!(mode(&volume.join(DATA)), directory);
        }
    }

    #[test]
    fn what_a_killed_writer_left_is_repaired_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path();
        publish(volume, &files(&[("A", "1")]), Readers::Owner).unwrap();
        // what each moment of a killed writer leaves
        fs::create_dir(volume.join("..17")).unwrap();
        fs::write(volume.join("..17/A"), "half").unwrap();
        symlink("..17", volume.join(DATA_NEW)).unwrap();
        symlink("..data/GONE", volume.join("GONE")).unwrap();
        fs::write(volume.join("B"), "somebody's own file").unwrap();
        assert_eq!(fs::read(volume.join("A")).unwrap(), b"1");

        publish(volume, &files(&[("A", "2"), ("B", "3")]), Readers::Owner).unwrap();
        assert_eq!(shown(volume), [pair("A", "2"), pair("B", "3")]);
        assert!(!volume.join("..17").exists() && !volume.join(DATA_NEW).exists());
    }

    #[test]
    fn a_reader_never_sees_two_states_at_once() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path();
        publish(volume, &files(&[("A", "0"), ("B", "0")]), Readers::Owner).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..200 {
                    let text = round.to_string();
                    let state = files(&[("A", &text), ("B", &text)]);
                    publish(volume, &state, Readers::Owner).unwrap();
                }
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let seen = read_one_state(volume, |files| match files {
                    Files::Linked(folder) => read(folder),
                    other => panic!("{other:?}: published files are linked"),
                });
                if let Some(seen) = seen.unwrap() {
                    let seen = seen.unwrap();
                    assert_eq!(seen["A"], seen["B"]);
                }
            }
        });
    }
}
