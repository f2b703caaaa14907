//! Secrets in files: `DIR/[NAMESPACE/]SECRET/KEY`. Each Secret is a directory that changes all at
//! once ([`volume`]), so that the service can read its own as it reads a mounted one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretSlice};

use super::volume::{self, Readers};
use super::{Change, Data, Held, Version};
use crate::admin::Failure;
use crate::admin::table::SecretName;
use crate::config::volume::{Files, read_one_state};

/// The file that says when the password changed; no key can have this name.
const CHANGED_AT: &str = "..changed-at";

/// How long to wait for another writer.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);
/// How often to try for its lock.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// How often to look at a Secret for a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A directory of Secrets.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The directory is created with the first Secret.
    pub fn new(root: PathBuf) -> Directory {
        Directory { root }
    }

    /// The directory of a Secret.
    pub fn path(&self, name: &SecretName) -> PathBuf {
        let folder = match &name.namespace {
            Some(namespace) => self.root.join(namespace),
            None => self.root.clone(),
        };
        folder.join(&name.name)
    }

    pub(super) async fn get(&self, name: &SecretName) -> Result<Option<Held>, Failure> {
        let path = self.path(name);
        blocking(move || get(&path)).await
    }

    pub(super) async fn apply(
        &self,
        name: &SecretName,
        held: Option<&Held>,
        change: Change,
    ) -> Result<(), Failure> {
        let (path, seen) = (self.path(name), held.map(|held| held.version.clone()));
        blocking(move || {
            let _lock = lock(&path)?;
            let now = get(&path)?;
            if now.as_ref().map(|now| &now.version) != seen.as_ref() {
                return Ok(Applied::Conflict);
            }
            let changed_at = change
                .changed_at
                .or(now.as_ref().and_then(|now| now.changed_at));
            let mut data = now.map_or_else(Data::new, |now| now.data);
            data.retain(|key, _| !change.remove.contains(key));
            data.extend(change.set);
            let changed_at = changed_at.map(|at| at.to_string());
            let mut files: BTreeMap<String, &[u8]> = (data.iter())
                .map(|(key, value)| (key.clone(), value.expose_secret()))
                .collect();
            if let Some(changed_at) = &changed_at {
                files.insert(CHANGED_AT.to_owned(), changed_at.as_bytes());
            }
            volume::publish(&path, &files, Readers::Owner).map_err(at(&path))?;
            Ok(Applied::Written)
        })
        .await
        .and_then(|applied| match applied {
            Applied::Written => Ok(()),
            Applied::Conflict => Err(Failure::Conflict),
        })
    }

    pub(super) async fn changed(&self, name: &SecretName, held: Option<&Version>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // the next look says what is wrong with a directory that cannot be read
            let state = Files::of(&self.path(name)).map_or(None, |files| files.state());
            // files that nobody publishes as a whole have no state
            if state.unwrap_or_default() != held.map_or("", |version| &version.resource) {
                return;
            }
        }
    }
}

enum Applied {
    Written,
    /// It was not what the writer had seen; nothing was written.
    Conflict,
}

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(job).await {
        Ok(done) => done.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {
                Failure::Transient(error.to_string())
            }
            _ => Failure::Permanent(error.to_string()),
        }),
        Err(error) => Err(Failure::Transient(format!(
            "a file operation ended: {error}"
        ))),
    }
}

/// `error` with the path that it is about.
fn at(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn get(path: &Path) -> io::Result<Option<Held>> {
    let held = read_one_state(path, |files| match (files, files.state()) {
        (Files::Linked(folder), Some(state)) => {
            let files = volume::read(folder).map_err(at(path))?;
            Ok(Some(held(state, files)))
        }
        _ => created_by_hand(path),
    });
    let unsteady = format!("{} changes all the time", path.display());
    held.map_err(at(path))?
        .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::Interrupted, unsteady)))
}

/// Plain files that somebody put there, with the values of a Secret.
fn created_by_hand(path: &Path) -> io::Result<Option<Held>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(at(path))?,
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(at(path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().map_err(at(path))?.is_file() && !name.starts_with('.') {
            files.insert(name, fs::read(entry.path()).map_err(at(&entry.path()))?);
        }
    }
    Ok((!files.is_empty()).then(|| held(String::new(), files)))
}

fn held(state: String, mut files: BTreeMap<String, Vec<u8>>) -> Held {
    let changed_at = files.remove(CHANGED_AT);
    let changed_at = changed_at.and_then(|at| String::from_utf8(at).ok()?.parse().ok());
    // a state that somebody else published has no time for a name
    let created = state.trim_start_matches('.').parse::<i128>().ok();
    Held {
        data: (files.into_iter())
            .map(|(key, value)| (key, SecretSlice::from(value)))
            .collect(),
        changed_at,
        created_at: created.and_then(|at| Timestamp::from_nanosecond(at).ok()),
        immutable: false,
        owned: BTreeSet::new(),
        version: Version {
            uid: String::new(),
            resource: state,
        },
    }
}

/// Keeps other writers away until it is dropped.
fn lock(path: &Path) -> io::Result<File> {
    let (folder, name) =
        (path.parent().zip(path.file_name())).expect("the path of a Secret ends with its name");
    volume::create(folder, Readers::Owner).map_err(at(folder))?;
    let name = name.to_string_lossy();
    let lock = folder.join(format!(".{name}.lock"));
    let file = (OpenOptions::new().write(true).create(true).truncate(false))
        .mode(0o600)
        .open(&lock)
        .map_err(at(&lock))?;
    let end = Instant::now() + LOCK_DEADLINE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(LOCK_POLL),
            Err(error) => return Err(at(&lock)(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> SecretName {
        SecretName {
            namespace: None,
            name: "a".to_owned(),
        }
    }

    fn change(key: &str, value: &str) -> Change {
        let mut change = Change::default();
        change.set(key, value);
        change
    }

    #[tokio::test]
    async fn a_writer_that_looked_before_another_wrote_writes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path().join("secrets"));
        assert!(store.get(&name()).await.unwrap().is_none());
        store.apply(&name(), None, change("A", "1")).await.unwrap();
        assert_eq!(
            store.apply(&name(), None, change("A", "2")).await,
            Err(Failure::Conflict)
        );
        let seen = store.get(&name()).await.unwrap().unwrap();
        let apply = async |change| store.apply(&name(), Some(&seen), change).await;
        apply(change("B", "2")).await.unwrap();
        assert_eq!(apply(change("B", "3")).await, Err(Failure::Conflict));
        let now = store.get(&name()).await.unwrap().unwrap();
        let text = |key| now.text(key).map(|text| text.expose_secret().to_owned());
        assert_eq!((text("A"), text("B")), (Some("1".into()), Some("2".into())));
        assert!(now.changed_at.is_none() && now.created_at.is_some());
    }

    #[tokio::test]
    async fn plain_files_that_a_person_put_there_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path().to_owned());
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/A"), "by hand").unwrap();
        let held = store.get(&name()).await.unwrap();
        store
            .apply(&name(), held.as_ref(), change("B", "2"))
            .await
            .unwrap();
        let held = store.get(&name()).await.unwrap().unwrap();
        assert_eq!(held.text("A").unwrap().expose_secret(), "by hand");
        assert_eq!(
            fs::read_to_string(root.path().join("a/A")).unwrap(),
            "by hand"
        );
        assert!(
            fs::symlink_metadata(root.path().join("a/A"))
                .unwrap()
                .is_symlink()
        );
    }

    #[tokio::test]
    async fn of_writers_at_the_same_time_one_writes() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path().to_owned());
        let wrote = futures_util::future::join_all((0..8).map(|writer| {
            let store = store.clone();
            async move {
                let text = writer.to_string();
                store.apply(&name(), None, change("A", &text)).await.is_ok()
            }
        }))
        .await;
        assert_eq!(wrote.iter().filter(|wrote| **wrote).count(), 1);
    }

    #[tokio::test]
    async fn a_change_keeps_the_other_keys_and_the_time_of_the_password() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::new(root.path().to_owned());
        let mut first = change("A", "1");
        first.changed_at = Some(Timestamp::UNIX_EPOCH);
        store.apply(&name(), None, first).await.unwrap();
        let held = store.get(&name()).await.unwrap().unwrap();
        let mut second = change("B", "2");
        second.remove.push("A".to_owned());
        store.apply(&name(), Some(&held), second).await.unwrap();
        let held = store.get(&name()).await.unwrap().unwrap();
        assert_eq!(held.data.keys().collect::<Vec<_>>(), ["B"]);
        assert_eq!(held.changed_at, Some(Timestamp::UNIX_EPOCH));
    }
}
