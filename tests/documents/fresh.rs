//! Pages that are written from the code.

use std::{env, fs, path::Path};

/// What writes them.
pub const RENEW: &str = "RENEW=1 cargo test --test documents";

/// Fails where the file at `path` is not `text`; writes it first, where that is asked for.
pub fn is_fresh(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let found = || fs::read_to_string(&path).unwrap_or_default();
    // Other tests read it meanwhile.
    if env::var_os("RENEW").is_some() && found() != text {
        fs::write(&path, text).unwrap();
    }
    assert!(
        found() == text,
        "{} is stale; renew it with: {RENEW}",
        path.display()
    );
}

/// As [`is_fresh`], of the part of a page that is written from `source`.
pub fn is_part_fresh(path: &str, source: &str, part: &str) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let begin = format!("<!-- Generated from {source}; renew with:\n{RENEW} -->\n");
    let end = "<!-- as far as here -->\n";
    let (before, rest) = text.split_once(&begin).expect("where the part begins");
    let (_, after) = rest.split_once(end).expect("where it ends");
    is_fresh(path, &[before, &begin, part, end, after].concat());
}
