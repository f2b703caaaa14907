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
