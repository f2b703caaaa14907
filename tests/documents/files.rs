//! The list of files in `docs/architecture.md`: what each of them says of itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::fresh::is_part_fresh;

/// The rooms in the order of `src/lib.rs`; what is in none stands first.
fn rooms() -> Vec<String> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let room = |line: &str| {
        Some(
            line.strip_prefix("pub mod ")?
                .trim_end_matches(';')
                .to_owned(),
        )
    };
    lib.lines().filter_map(room).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            files(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// The first sentence of a file about itself.
fn sentence(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let comment = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<&str> = comment
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let paragraph = paragraph.join(" ");
    assert!(
        !paragraph.is_empty(),
        "{} says nothing of itself",
        file.display()
    );
    match paragraph.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => paragraph,
    }
}

#[test]
fn the_list_of_files_is_what_they_say_of_themselves() {
    let (src, mut found) = (root().join("src"), Vec::new());
    files(&src, &mut found);
    found.sort();
    let mut by_room: BTreeMap<String, String> = BTreeMap::new();
    for file in &found {
        let path = file.strip_prefix(&src).unwrap().to_string_lossy();
        let room = path.split(['/', '.']).next().unwrap().to_owned();
        let line = format!("| `{path}` | {} |\n", sentence(file).replace('|', "\\|"));
        *by_room.entry(room).or_default() += &line;
    }
    let mut list = "| file | what |\n|---|---|\n".to_owned();
    for room in ["main".to_owned(), "lib".to_owned()]
        .into_iter()
        .chain(rooms())
    {
        list += &by_room.remove(&room).unwrap_or_default();
    }
    assert!(by_room.is_empty(), "in no room: {by_room:?}");
    is_part_fresh("docs/architecture.md", "the files of src/", &list);
}
