//! The files of `src/`, their lines of code, and what these import.

use std::fs;
use std::path::Path;

/// One file.
pub struct Source {
    /// From the repository's root: `src/lane/claim.rs`.
    pub path: String,
    /// Its folder below `src`, or its own name where it stands there.
    pub room: String,
    /// As a path of the crate: `lane::claim`; empty for the root.
    pub module: String,
    text: String,
}

/// Every file but those that hold only tests.
pub fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    collect(&root.join("src"), root, &mut sources);
    assert!(
        sources.len() > 80,
        "only {} files were found",
        sources.len()
    );
    sources
}

fn collect(folder: &Path, root: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                collect(&path, root, sources);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs")
            && path.file_name().is_some_and(|name| name != "tests.rs")
        {
            let text = fs::read_to_string(&path).unwrap();
            let path = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            sources.push(Source::new(path, text));
        }
    }
}

impl Source {
    fn new(path: String, text: String) -> Source {
        let inner = path
            .strip_prefix("src/")
            .unwrap()
            .strip_suffix(".rs")
            .unwrap();
        let room = inner.split('/').next().unwrap().to_owned();
        let module = inner.strip_suffix("/mod").unwrap_or(inner);
        let module = match module {
            "lib" | "main" => String::new(),
            module => module.replace('/', "::"),
        };
        let (path, module) = (path.clone(), module);
        Source {
            path,
            room,
            module,
            text,
        }
    }

    /// Number and text of each line.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Number and text of each line of code, up to the file's own tests; comments are left out.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines()
            .take_while(|(_, text)| !text.ends_with("mod tests {"))
            .map(|(number, text)| (number, text.split("//").next().unwrap_or_default()))
            .filter(|(_, text)| !text.trim().is_empty())
    }

    /// The rooms that are named, each with its line.
    pub fn rooms_used(&self) -> Vec<(usize, String)> {
        let root = match &*self.room {
            "main" => "workflows_sink::",
            _ => "crate::",
        };
        let mut rooms = Vec::new();
        for (line, text) in self.code() {
            for (at, _) in text.match_indices(root) {
                let room = first_name(&text[at + root.len()..]);
                if !room.is_empty() {
                    rooms.push((line, room));
                }
            }
        }
        rooms
    }

    /// The folder it stands in.
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The files that its `use` lines name, as indexes of `all`.
    pub fn files_used(&self, all: &[Source]) -> Vec<usize> {
        let parent = self
            .module
            .rsplit_once("::")
            .map_or("", |(parent, _)| parent);
        let roots = [("crate", ""), ("self", &*self.module), ("super", parent)];
        let mut files = Vec::new();
        for (_, text) in self.code() {
            let bare = text.trim_start().trim_start_matches("pub ");
            let Some(path) = bare.strip_prefix("use ") else {
                continue;
            };
            let path = path.split(['{', ';']).next().unwrap_or_default();
            let rooted = roots
                .iter()
                .find(|(root, _)| path.starts_with(&format!("{root}::")));
            if let Some((root, base)) = rooted {
                let named = format!("{base}{}::", path[root.len()..].trim_end_matches(':'));
                let holders = all.iter().enumerate().filter(|(_, source)| {
                    named
                        .trim_start_matches("::")
                        .starts_with(&format!("{}::", source.module))
                });
                let nearest = holders.max_by_key(|(_, source)| source.module.len());
                files.extend(nearest.map(|(file, _)| file));
            }
        }
        files
    }
}

fn first_name(text: &str) -> String {
    let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    text.chars().take_while(is_name).collect()
}
