//! A script that a page has somebody run can be run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The scripts with which the indented lines of a page begin.
fn scripts(page: &str) -> impl Iterator<Item = &str> {
    let commands = page.lines().filter_map(|line| line.strip_prefix("    "));
    let first = commands.filter_map(|command| command.split_whitespace().next());
    first.filter(|word| word.contains('/') && word.ends_with(".sh"))
}

#[test]
fn a_script_that_a_page_runs_is_executable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let is_page = |path: &PathBuf| path.extension().is_some_and(|end| end == "md");
    let mut found = 0;
    for page in docs.filter(is_page).chain([root.join("README.md")]) {
        for script in scripts(&fs::read_to_string(&page).unwrap()) {
            let mode = fs::metadata(root.join(script));
            let mode = mode.unwrap_or_else(|error| panic!("{}: {script}: {error}", page.display()));
            assert_ne!(
                mode.permissions().mode() & 0o111,
                0,
                "{}: {script}",
                page.display()
            );
            found += 1;
        }
    }
    assert!(found >= 3, "{found}");
}
