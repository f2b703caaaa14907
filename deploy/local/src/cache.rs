//! What was downloaded, shared by every clone of this user:
//! `${XDG_CACHE_HOME:-~/.cache}/workflows-sink/NAME`.
//!
//! A name carries version and checksum, and an entry appears by a rename, so one that exists is
//! whole and verified.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fd_lock::RwLock;
use sha2::{Digest, Sha256};

/// The folder of all entries.
pub fn root() -> Result<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    match (
        set("XDG_CACHE_HOME").filter(|path| path.is_absolute()),
        set("HOME"),
    ) {
        (Some(cache), _) => Ok(cache.join("workflows-sink")),
        (None, Some(home)) => Ok(home.join(".cache/workflows-sink")),
        (None, None) => bail!("no cache folder: set HOME or XDG_CACHE_HOME"),
    }
}

/// The path of the entry `name`, made by `build` in an empty folder if it does not exist yet.
///
/// One process builds, others wait for it; a build that fails or is killed leaves no entry.
pub fn entry(name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    entry_in(&root()?, name, build)
}

fn entry_in(root: &Path, name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = root.join(name);
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
    let mut lock = RwLock::new(File::create(root.join(format!("{name}.lock")))?);
    let _guard = lock.write()?;
    if path.exists() {
        return Ok(path);
    }
    let partial = root.join(format!("{name}.partial"));
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir(&partial)?,
    }
    build(&partial).with_context(|| format!("cannot fill the cache entry {}", path.display()))?;
    fs::rename(&partial, &path)?;
    Ok(path)
}

/// Fails unless the file has this SHA-256.
pub fn verify(file: &Path, sha256: &str) -> Result<()> {
    let found = checksum(file)?;
    ensure!(
        found == sha256,
        "{} has the checksum {found}, expected {sha256}",
        file.display()
    );
    Ok(())
}

/// Fails unless the files of `directory` (names and contents) have this SHA-256: that of `sha256sum
/// *`'s output.
pub fn verify_all(directory: &Path, sha256: &str) -> Result<()> {
    let mut names = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    let mut all = Sha256::new();
    for name in names {
        all.update(format!("{}  {name}\n", checksum(&directory.join(&name))?));
    }
    let found = hex::encode(all.finalize());
    ensure!(
        found == sha256,
        "the files of {} have the checksum {found}, expected {sha256}",
        directory.display()
    );
    Ok(())
}

fn checksum(file: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    let mut file = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hex::encode(digest.finalize())),
            read => digest.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_built_once_and_a_failed_build_leaves_none() {
        let root = tempfile::tempdir().unwrap();
        let build = |path: &Path| Ok(fs::write(path.join("file"), "whole")?);
        let failing = |path: &Path| {
            fs::write(path.join("half"), "")?;
            bail!("no network")
        };
        let error = entry_in(root.path(), "tool-1", failing).unwrap_err();
        assert!(format!("{error:#}").ends_with("no network"), "{error:#}");
        assert!(!root.path().join("tool-1").exists());

        let path = entry_in(root.path(), "tool-1", build).unwrap();
        let again = entry_in(root.path(), "tool-1", |_| bail!("built twice")).unwrap();
        assert_eq!(path, again);
        let names: Vec<_> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["file"]);
    }

    #[test]
    fn racing_clones_build_an_entry_once() {
        let root = tempfile::tempdir().unwrap();
        let builds = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let build = |path: &Path| {
                        builds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        Ok(fs::write(path.join("file"), "whole")?)
                    };
                    let path = entry_in(root.path(), "tool-1", build).unwrap();
                    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "whole");
                });
            }
        });
        assert_eq!(builds.into_inner(), 1);
    }

    #[test]
    fn a_changed_download_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        fs::write(&file, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(&file, expected).unwrap();
        fs::write(&file, "abd").unwrap();
        assert!(
            verify(&file, expected)
                .unwrap_err()
                .to_string()
                .contains(expected)
        );
        assert!(verify_all(directory.path(), expected).is_err());
    }
}
