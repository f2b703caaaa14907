//! The tables of `docs/capacity.md` are what the formula and the simulation say.

use std::path::Path;
use std::{env, fs};

use benches::capacity::page::sections;

const RENEW: &str = "RENEW=1 cargo test -p benches --test capacity";

#[test]
fn the_tables_of_the_page_on_capacity_are_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/capacity.md");
    let page = fs::read_to_string(&path).expect("the page");
    let mut fresh = page.clone();
    for section in sections() {
        let begin = format!(
            "<!-- {}: generated; renew with: {RENEW} -->\n",
            section.name
        );
        let end = "<!-- as far as here -->\n";
        let (before, rest) = fresh.split_once(&begin).expect(&begin);
        let (_, after) = rest.split_once(end).expect("where the table ends");
        fresh = [before, &begin, &section.table, end, after].concat();
    }
    if env::var_os("RENEW").is_some() && fresh != page {
        fs::write(&path, &fresh).expect("written");
        return;
    }
    assert!(
        fresh == page,
        "docs/capacity.md is stale; renew it with: {RENEW}"
    );
}

#[test]
fn the_simulated_bounds_are_those_of_the_service() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (file, line) in [
        (
            "src/writer/group.rs",
            "GROUP_BYTES_MAX: usize = 1024 * 1024;",
        ),
        ("src/writer/group.rs", "GROUP_WRITES_MAX: u64 = 2_000;"),
        ("src/writer/group.rs", "GROUP_SHARES_MAX: usize = 256;"),
        ("src/writer/command.rs", "COMMAND_WRITES_MAX: usize = 100;"),
        (
            "src/lane/filling.rs",
            "Duration = Duration::from_millis(20);",
        ),
        (
            "src/lane/consuming.rs",
            "CHECKPOINT_LOOK_EVERY: Duration = Duration::from_secs(10);",
        ),
    ] {
        let text = fs::read_to_string(root.join(file)).expect(file);
        assert!(text.contains(line), "{file} no longer says {line}");
    }
}
