//! The remap file, `{old path: new id}`: taken in as it is, only added to, refused once edited.
//!
//! Beside `remap.json` are `remap.json.sha256`, for `sha256sum -c`, and `remap.migration.json`,
//! which says what this migration has done with it. All three change one after the other, and a run
//! that was killed between two of them is finished by the next one.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use datastore_export::Key;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use sha2::{Digest, Sha256};

use crate::convert::{Ids, shapes};
use crate::files::{Hashed, Partial, beside, copy_open, hex, hex_of_file, replace};
use crate::id::{Fingerprint, NewId};
use crate::mapping::Mapping;
use crate::state::State;

/// What the file with the state ends in.
const STATE: &str = "migration.json";

/// The id that stands for none in the contract.
const SKIPPED: NewId = NewId(0);

/// A remap file. In memory a path is 16 bytes, as its id is, and so is each shape of it: some 220
/// bytes an entity in all.
pub struct Remap {
    file: PathBuf,
    ids: HashMap<Fingerprint, NewId>,
    taken: HashSet<NewId>,
    shapes: HashSet<Fingerprint>,
    sha256: Option<String>,
    /// What this migration has done.
    pub state: State,
    // Held as long as this is: two runs would not know of each other's ids.
    _lock: File,
}

impl Ids for Remap {
    fn id(&self, path: Fingerprint) -> Option<NewId> {
        self.ids.get(&path).copied()
    }

    fn looks_like_one(&self, value: Fingerprint) -> bool {
        self.shapes.contains(&value)
    }
}

impl Remap {
    /// Opens a remap file for this migration alone, and checks that nobody has edited it.
    ///
    /// # Errors
    /// Where it is missing, edited, or used by another run.
    pub fn open(file: &Path, mapping: &Mapping) -> Result<Remap> {
        ensure!(
            file.exists(),
            "{} does not exist: `datastore-migrate ids EXPORT --out {}` makes it",
            file.display(),
            file.display()
        );
        let remap = Remap::open_or_new(file, mapping)?;
        ensure!(
            remap.state.remap_sha256.is_some(),
            "{} is not this migration's yet: `datastore-migrate ids EXPORT --out {}` takes it in",
            file.display(),
            file.display()
        );
        Ok(remap)
    }

    /// As [`Remap::open`]; a file that this migration does not know yet is taken in, and a missing
    /// one is empty.
    ///
    /// # Errors
    /// As there, and where a file has an entry that cannot be meant.
    pub fn open_or_new(file: &Path, mapping: &Mapping) -> Result<Remap> {
        let lock = lock(file)?;
        let state = State::load(&beside(file, STATE))?;
        let mut remap = Remap {
            file: file.to_owned(),
            ids: HashMap::new(),
            taken: HashSet::new(),
            shapes: HashSet::new(),
            sha256: None,
            state,
            _lock: lock,
        };
        remap.read(mapping)?;
        remap.check()?;
        Ok(remap)
    }

    fn read(&mut self, mapping: &Mapping) -> Result<()> {
        let file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", self.file.display()));
            }
        };
        let mut hashed = Hashed {
            inner: file,
            digest: Sha256::new(),
        };
        let name = self.file.display().to_string();
        let mut reader = BufReader::new(&mut hashed);
        let mut json = serde_json::Deserializer::from_reader(&mut reader);
        let entries = Entries(|path: String, id: String| {
            let id = id.parse().with_context(|| format!("for {path}"))?;
            self.insert(&path, id, mapping)
        });
        let read = entries.deserialize(&mut json).and_then(|()| json.end());
        read.with_context(|| format!("{name} is no remap file, {{\"old path\": \"new id\"}}"))?;
        drop(reader);
        self.sha256 = Some(hex(hashed.digest));
        Ok(())
    }

    /// Fails unless the file is as this migration left it.
    fn check(&mut self) -> Result<()> {
        let file = self.file.display();
        let Some(known) = &self.state.remap_sha256 else {
            if let (Some(found), Some(next)) = (&self.sha256, &self.state.next_sha256) {
                // The first run was killed right behind this file.
                ensure!(
                    found == next,
                    "{file} is not what a run that was killed had written: it has the checksum {found}, \
                     not {next}. Bring that one back; or, where this file is to be taken in as it is and \
                     nothing has been moved yet, remove {}",
                    beside(&self.file, STATE).display()
                );
                return self.settle();
            }
            // A file of others is taken in; a checksum beside it has to be that of the file.
            if let (Some(found), Ok(beside)) = (&self.sha256, fs::read_to_string(self.sum_file())) {
                ensure!(
                    beside.split_whitespace().next() == Some(found),
                    "{file} differs from {}: bring back the file that the checksum is of",
                    self.sum_file().display()
                );
            }
            return Ok(());
        };
        let found = self.sha256.as_ref().with_context(|| {
            format!(
                "{file} is gone, and this migration has used it: bring it back, with the checksum \
                 {known}"
            )
        })?;
        if found != known {
            ensure!(
                self.state.next_sha256.as_ref() == Some(found),
                "{file} has been edited since this migration used it: it has the checksum {found}, \
                 not {known}. Ids must not change once data has moved: bring the file back"
            );
            self.settle()?;
        }
        Ok(())
    }

    /// Notes that a path has an id.
    fn insert(&mut self, path: &str, id: NewId, mapping: &Mapping) -> Result<()> {
        let key: Key = path.parse().with_context(|| {
            format!("{path:?} is no path such as Account:public/Evaluation:5634161670881280")
        })?;
        // Otherwise its entity would look as if it had no id, and get another one.
        let written = key.to_string();
        ensure!(
            written == path,
            "{path:?} is not as a path is written here, which is {written:?}: correct it"
        );
        ensure!(
            id != SKIPPED,
            "{path} has the id {id}, and the service skips an entity with that: give it another one"
        );
        let fingerprint = Fingerprint::of(path);
        ensure!(
            !self.ids.contains_key(&fingerprint),
            "{path} is there twice: leave the one that was used"
        );
        ensure!(
            self.taken.insert(id),
            "{path} has the id {id}, and so has another path: two entities would become one"
        );
        self.ids.insert(fingerprint, id);
        self.shapes.extend(shapes(&key, mapping));
        Ok(())
    }

    /// How many paths have an id.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The file's SHA-256, once there is a file.
    pub fn sha256(&self) -> Option<&str> {
        self.sha256.as_deref()
    }

    /// Where the file is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn sum_file(&self) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(".sha256");
        name.into()
    }

    /// Begins to add: [`Addition::finish`] makes it last, all at once.
    ///
    /// # Errors
    /// Where the file cannot be copied.
    pub fn add(&mut self) -> Result<Addition<'_>> {
        let mut writer = BufWriter::new(Partial::of(&self.file)?);
        let is_empty = self.is_empty();
        match is_empty {
            true => writer.write_all(b"{")?,
            false => copy_open(&self.file, self.sha256.as_deref(), &mut writer)?,
        }
        Ok(Addition {
            remap: self,
            writer,
            is_empty,
            added: 0,
        })
    }

    /// Notes beside the file what it is now.
    fn settle(&mut self) -> Result<()> {
        let sha256 = self.sha256.clone().context("no file was read")?;
        let name = self
            .file
            .file_name()
            .context("the remap file has no name")?;
        let line = format!("{sha256}  {}\n", name.to_string_lossy());
        replace(&self.sum_file(), line.as_bytes())?;
        self.state.remap_sha256 = Some(sha256);
        self.state.next_sha256 = None;
        self.save_state()
    }

    /// Holds the mapping against the one with which entities or accounts were moved before; the first
    /// one counts.
    ///
    /// # Errors
    /// Where it is another one, unless `is_new` says that this is meant.
    pub fn hold(&mut self, mapping: &Mapping, is_new: bool) -> Result<()> {
        match &self.state.mapping_sha256 {
            Some(known) if *known != mapping.sha256 && !is_new => bail!(
                "this is another mapping than entities were moved with, or accounts: name that one with \
                 --mapping, or say --new-mapping to `verify` if this one counts from now on"
            ),
            Some(known) if *known == mapping.sha256 => Ok(()),
            _ => {
                // What was verified, was verified by the other one.
                self.state.entities_verified = None;
                self.state.objects_verified = None;
                self.state.mapping_sha256 = Some(mapping.sha256.clone());
                self.save_state()
            }
        }
    }

    /// Keeps [`Remap::state`].
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn save_state(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.state)?;
        replace(&beside(&self.file, STATE), &text)
    }
}

/// Paths that are being added to a remap file.
pub struct Addition<'a> {
    remap: &'a mut Remap,
    writer: BufWriter<Partial>,
    is_empty: bool,
    added: u64,
}

impl Addition<'_> {
    /// The id of a path, if it has one already.
    pub fn id(&self, path: &str) -> Option<NewId> {
        self.remap.id(Fingerprint::of(path))
    }

    /// Gives a path an id.
    ///
    /// # Errors
    /// Where it or its id is taken.
    pub fn insert(&mut self, path: &str, id: NewId, mapping: &Mapping) -> Result<()> {
        self.remap.insert(path, id, mapping)?;
        let comma = if self.is_empty { "" } else { "," };
        let path = serde_json::to_string(path)?;
        write!(self.writer, "{comma}\n  {path}: \"{id}\"")?;
        (self.is_empty, self.added) = (false, self.added + 1);
        Ok(())
    }

    /// Notes the project that the paths are of: it is kept together with them.
    pub fn note_project(&mut self, project: Option<String>) {
        self.remap.state.project = project;
    }

    /// Puts the new file in place of the old one, and gives how many paths were added.
    ///
    /// # Errors
    /// Where it cannot be written; then the old one is still there.
    pub fn finish(mut self) -> Result<u64> {
        let known = self.remap.state.remap_sha256.is_some();
        if self.added == 0 && known && self.remap.sha256.is_some() {
            return Ok(0);
        }
        self.writer.write_all(b"\n}\n")?;
        let partial = self
            .writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        partial.sync()?;
        let remap = self.remap;
        if self.added == 0 && remap.sha256.is_some() {
            // A file of others is taken in to the byte.
            remap.settle()?;
            return Ok(0);
        }
        let sha256 = hex_of_file(partial.path())?;
        remap.state.next_sha256 = Some(sha256.clone());
        remap.state.remap_sha256 = remap.sha256.clone();
        remap.save_state()?;
        partial.persist()?;
        remap.sha256 = Some(sha256);
        remap.settle()?;
        Ok(self.added)
    }
}

fn lock(file: &Path) -> Result<File> {
    let path = beside(file, "lock");
    let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => {
            bail!("another run uses {}: wait for its end", file.display())
        }
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Gives each path of a remap file, and its id, to a function.
///
/// # Errors
/// Where it cannot be read, and those of the function.
pub fn each_entry(file: &Path, mut each: impl FnMut(String, NewId) -> Result<()>) -> Result<()> {
    let reader = BufReader::new(File::open(file)?);
    let mut json = serde_json::Deserializer::from_reader(reader);
    Ok(Entries(|path, id: String| each(path, id.parse()?)).deserialize(&mut json)?)
}

/// Gives each member of a JSON object to a function, without keeping any.
struct Entries<F>(F);

impl<'de, F: FnMut(String, String) -> Result<()>> DeserializeSeed<'de> for Entries<F> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(String, String) -> Result<()>> Visitor<'de> for Entries<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of old paths and new ids")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((path, id)) = map.next_entry()? {
            (self.0)(path, id).map_err(|error| serde::de::Error::custom(format!("{error:#}")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
