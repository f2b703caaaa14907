//! `docs/contract.md` names the tests that hold it: in each row of a table at least one, and all of
//! them exist.

use std::fs;
use std::path::Path;

/// A test that a page names as `file.rs::name` or `file.rs::module::name`.
#[derive(Debug, PartialEq)]
struct Named<'a> {
    file: &'a str,
    name: &'a str,
}

impl<'a> Named<'a> {
    fn parse(code: &'a str) -> Option<Self> {
        let (file, path) = code.split_once("::")?;
        let name = path.rsplit("::").next()?;
        file.ends_with(".rs").then_some(Named { file, name })
    }

    /// Every test between backticks in `text`.
    fn all(text: &'a str) -> impl Iterator<Item = Self> {
        text.split('`').skip(1).step_by(2).filter_map(Self::parse)
    }

    fn exists(&self) -> bool {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.file);
        fs::read_to_string(path).is_ok_and(|source| is_test(&source, self.name))
    }
}

/// Whether `source` has a test of this name that is run.
fn is_test(source: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let mut attributes: Vec<&str> = Vec::new();
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            attributes.push(line);
            continue;
        }
        if line.trim_start_matches("async ").starts_with(&function) {
            let has = |start: &str| attributes.iter().any(|line| line.starts_with(start));
            return (has("#[test]") || has("#[tokio::test")) && !has("#[ignore");
        }
        attributes.clear();
    }
    false
}

/// The rows of all tables of a page, without heads and the lines beneath them.
fn rows(page: &str) -> impl Iterator<Item = &str> {
    let is_rule = |line: &str| line.starts_with("|---");
    let next_lines = page.lines().skip(1).chain([""]);
    (page.lines().zip(next_lines))
        .filter(move |(line, next)| line.starts_with('|') && !is_rule(line) && !is_rule(next))
        .map(|(line, _)| line)
}

/// What a page gets wrong: tests that do not exist, rows that name none, or no names at all.
fn faults(page: &str) -> Vec<String> {
    let missing = Named::all(page)
        .filter(|named| !named.exists())
        .map(|named| format!("there is no test {} in {}", named.name, named.file));
    let unheld = rows(page)
        .filter(|row| Named::all(row).next().is_none())
        .map(|row| format!("no test holds the row {row}"));
    let empty = Named::all(page).next().is_none();
    let empty = empty.then(|| "the page names no test".to_owned());
    missing.chain(unheld).chain(empty).collect()
}

#[test]
fn the_tests_that_the_contract_names_exist() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/contract.md");
    let page = fs::read_to_string(path).expect("the contract is a page of the repository");
    let faults = faults(&page);
    assert!(
        faults.is_empty(),
        "docs/contract.md:\n{}",
        faults.join("\n")
    );
}

#[test]
fn faults_of_a_page_are_found() {
    let held = "`tests/documents/contract.rs::tests::faults_of_a_page_are_found`";
    let page = |cell: &str| {
        format!("# Page\n\n| rule | held by |\n|---|---|\n| a | {held} |\n| b | {cell} |\n")
    };
    assert_eq!(faults(&page(held)), [""; 0]);
    assert_eq!(faults(&page("`x`")), ["no test holds the row | b | `x` |"]);
    for absent in [
        "tests/documents/contract.rs::no_such_test",
        "tests/no_such_file.rs::faults",
    ] {
        assert_eq!(faults(&page(&format!("`{absent}`"))).len(), 1, "{absent}");
    }
    assert_eq!(faults("# Page\n"), ["the page names no test"]);
}

#[test]
fn a_test_is_what_is_run_as_one() {
    for (source, is_one) in [
        ("#[test]\nfn a() {}", true),
        (
            "    #[tokio::test(flavor = \"multi_thread\")]\n    async fn a() {}",
            true,
        ),
        ("fn a() {}", false),
        ("#[test]\nfn b() {}\nfn a() {}", false),
        ("#[test]\n#[ignore = \"slow\"]\nfn a() {}", false),
        ("// #[test]\nfn a() {}", false),
    ] {
        assert_eq!(is_test(source, "a"), is_one, "{source}");
    }
}
