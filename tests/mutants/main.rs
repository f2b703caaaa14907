//! The mutants that `make test-mutants` lets the fault harness look for can still be made.

use std::path::{Path, PathBuf};
use std::process::Command;

fn patches() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(root.join("tests/mutants")).expect("a directory");
    let mut patches: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "patch"))
        .collect();
    patches.sort();
    patches
}

#[test]
fn each_patch_applies_to_the_source_as_it_is() {
    let patches = patches();
    assert!(!patches.is_empty());
    let mut stale = Vec::new();
    for patch in &patches {
        let tried = Command::new("git")
            .args(["apply", "--check"])
            .arg(patch)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("git");
        if !tried.status.success() {
            let why = String::from_utf8_lossy(&tried.stderr).into_owned();
            stale.push(format!("{}:\n{why}", patch.display()));
        }
    }
    assert!(
        stale.is_empty(),
        "renew these (make the change by hand, then `git diff`):\n{}",
        stale.join("\n")
    );
}

#[test]
fn each_patch_says_what_it_breaks_and_what_finds_it() {
    for patch in patches() {
        let text = std::fs::read_to_string(&patch).expect("UTF-8");
        let head: Vec<&str> = text.lines().take(2).collect();
        assert!(head[0].ends_with('.'), "{}: {head:?}", patch.display());
        let found_by = head[1].strip_prefix("Found by: ").unwrap_or_default();
        let is_found = match found_by.strip_prefix("TEST=\"") {
            Some(test) => exists(test.trim_end_matches('"')),
            None => found_by.starts_with("SEED="),
        };
        assert!(is_found, "{}: {head:?}", patch.display());
    }
}

/// Whether there is a test of this target and name: `exactly_once claims::a_claim_…`.
fn exists(test: &str) -> bool {
    let (target, name) = test.split_once(' ').expect("a target and a name");
    let (file, name) = name.split_once("::").expect("a module and a name");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let path = tests.join(target).join(format!("{file}.rs"));
    let source = std::fs::read_to_string(path).unwrap_or_default();
    source.contains(&format!("fn {name}("))
}
