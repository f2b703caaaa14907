//! The files of given paths.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::Reader;
use crate::metadata::{OF_KIND, OVERALL, named_kinds, named_outputs};

/// Folders within folders that are walked; a link to a folder above would have no end.
const FOLDER_DEPTH_MAX: usize = 16;
/// What the name of a file of entities begins with.
const OUTPUT: &str = "output-";
/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

/// A file with entities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path; `-` is standard input.
    pub path: PathBuf,
    /// Its length as it is stored, in bytes; none if it is no ordinary file.
    pub bytes: Option<u64>,
}

/// What an export's metadata says of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The name of the kind's metadata.
    pub name: String,
    /// The files with its entities.
    pub files: Vec<PathBuf>,
    /// How many entities these have.
    pub entities: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The files, in their order.
    pub files: Vec<Source>,
    /// How many entities there have to be.
    pub counted: Vec<Counted>,
    /// What could not be held against the metadata, so that something may be missing: a sentence each.
    pub unchecked: Vec<String>,
}

/// Finds the files of the given paths, in the order of the paths. A path is a file, a folder of an
/// export or one that holds such folders, or `-` for standard input.
///
/// A folder's files are those called `output-N`. Folders go by name and files by number. What the
/// metadata of an export or of a kind names has to be there.
///
/// # Errors
///
/// A path that cannot be read; a kind or a file that the metadata names and that is missing; a
/// folder in which there is neither an `output-N` nor an `.overall_export_metadata`, so that it is
/// no export; a file or `-` that is given twice.
pub fn sources(paths: &[PathBuf]) -> Result<Sources> {
    let mut found: Vec<Source> = vec![];
    let (mut counted, mut unchecked) = (vec![], vec![]);
    for path in paths {
        if path.as_os_str() == STANDARD_INPUT {
            found.push(Source {
                path: path.clone(),
                bytes: None,
            });
            continue;
        }
        let kind = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if kind.is_dir() {
            let of_folder = folder(path)?;
            found.extend(of_folder.files);
            counted.extend(of_folder.counted);
            unchecked.extend(of_folder.unchecked);
        } else {
            found.push(source(path, &kind));
        }
    }
    let mut sorted: Vec<PathBuf> = found.iter().map(|source| normal(&source.path)).collect();
    sorted.sort();
    if let Some([twice, _]) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("{} is given twice; give it once", twice.display());
    }
    Ok(Sources {
        files: found,
        counted,
        unchecked,
    })
}

impl Source {
    /// Opens the file and looks what form it is in.
    ///
    /// # Errors
    ///
    /// A file that cannot be opened, or whose first bytes cannot be read.
    pub fn open(&self) -> Result<Reader> {
        let name = self.path.to_string_lossy();
        let open = || match &*name {
            STANDARD_INPUT => Reader::new(io::stdin(), &name),
            _ => Reader::new(File::open(&self.path)?, &name),
        };
        open().with_context(|| format!("cannot read {name}"))
    }
}

/// The number of a file of entities of an export, `output-N`.
pub(crate) fn output(file: &str) -> Option<u64> {
    let (_, name) = file.rsplit_once(['/', '\\']).unwrap_or(("", file));
    let digits = name.strip_prefix(OUTPUT)?;
    let all = digits.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| digits.parse().ok())?
}

fn source(path: &Path, metadata: &fs::Metadata) -> Source {
    Source {
        path: path.to_owned(),
        bytes: metadata.is_file().then_some(metadata.len()),
    }
}

fn folder(path: &Path) -> Result<Sources> {
    let mut walk = Walk::default();
    walk.folder(path, 0)?;
    ensure!(
        walk.export || !walk.found.files.is_empty(),
        "{} is no export: it has neither NAME{OVERALL} nor output-0; give the folder that the export \
         made, or files of JSON by their names",
        path.display()
    );
    if !walk.export {
        let why = format!(
            "{} has no file NAME{OVERALL}: whether a kind is missing as a whole was not checked",
            path.display()
        );
        walk.found.unchecked.push(why);
    }
    Ok(walk.found)
}

#[derive(Default)]
struct Walk {
    found: Sources,
    /// The files about kinds by their names, each with the files of entities beside it.
    kinds: Vec<(String, Vec<PathBuf>)>,
    export: bool,
}

impl Walk {
    fn folder(&mut self, path: &Path, depth: usize) -> Result<()> {
        ensure!(
            depth <= FOLDER_DEPTH_MAX,
            "{} is more than {FOLDER_DEPTH_MAX} folders deep; is there a link in a circle?",
            path.display()
        );
        let context = || format!("cannot read {}", path.display());
        let mut folders = vec![];
        let mut outputs = vec![];
        let mut named = BTreeSet::new();
        let mut overall = vec![];
        let kinds_before = self.kinds.len();
        let mut of_kinds = vec![];
        for entry in fs::read_dir(path).with_context(context)? {
            let entry = entry.with_context(context)?.path();
            let metadata =
                fs::metadata(&entry).with_context(|| format!("cannot read {}", entry.display()))?;
            let name = entry.file_name().unwrap_or_default().to_string_lossy();
            if metadata.is_dir() {
                folders.push(entry);
            } else if let Some(number) = output(&name) {
                outputs.push((number, source(&entry, &metadata)));
            } else if name.ends_with(OVERALL) {
                self.export = true;
                overall.push(entry);
            } else if name.ends_with(OF_KIND) {
                of_kinds.push(name.clone().into_owned());
                named.extend(self.outputs_of(&entry).with_context(context)?);
            }
        }
        for (number, _) in &outputs {
            named.remove(number);
        }
        if let Some(missing) = named.first() {
            bail!(
                "{} lacks {OUTPUT}{missing}, which its metadata names; copy it from the bucket",
                path.display()
            );
        }
        outputs.sort_by(|(a, left), (b, right)| (a, &left.path).cmp(&(b, &right.path)));
        let beside: Vec<PathBuf> = outputs.iter().map(|(_, file)| file.path.clone()).collect();
        let of_kinds = of_kinds.into_iter().map(|name| (name, beside.clone()));
        self.kinds.extend(of_kinds);
        let files = &mut self.found.files;
        files.extend(outputs.into_iter().map(|(_, source)| source));
        folders.sort();
        for folder in folders {
            self.folder(&folder, depth + 1)?;
        }
        overall
            .iter()
            .try_for_each(|file| self.check_kinds(file, kinds_before))
    }

    /// The numbers of files that a kind's metadata names.
    fn outputs_of(&mut self, file: &Path) -> io::Result<BTreeSet<u64>> {
        let named = named_outputs(file)?;
        if named.is_empty() {
            self.found.unchecked.push(format!(
                "{} names no {OUTPUT}N: whether one of them is missing was not checked",
                file.display()
            ));
        }
        Ok(named)
    }

    /// Holds what an export's metadata names against the kinds that were found below its folder.
    fn check_kinds(&mut self, file: &Path, since: usize) -> Result<()> {
        let named = named_kinds(file);
        let named = named.with_context(|| format!("cannot read {}", file.display()))?;
        let found = &self.kinds[since..];
        let is_there = |name: &String| found.iter().any(|(found, _)| found == name);
        if let Some(missing) = named.keys().find(|name| !is_there(name)) {
            bail!(
                "{missing} is missing, which {} names, and perhaps the whole folder of that kind; copy \
                 it from the bucket",
                file.display()
            );
        }
        if named.is_empty() {
            self.found.unchecked.push(format!(
                "{} names no kind: whether one is missing as a whole was not checked",
                file.display()
            ));
        }
        for (name, files) in found {
            // Two kinds in one folder share its files: then nobody can say whose they are.
            let sharing = found.iter().filter(|(_, others)| others == files).count();
            let is_shared = sharing > 1 && !files.is_empty();
            if let Some(Some(entities)) = named.get(name)
                && !is_shared
            {
                self.found.counted.push(Counted {
                    name: name.clone(),
                    files: files.clone(),
                    entities: *entities,
                });
            }
        }
        Ok(())
    }
}

/// The path without `.` in it.
fn normal(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

#[cfg(test)]
mod tests;
