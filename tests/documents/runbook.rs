//! Codes, the lines that have them, and docs/runbook.md are in step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A message shorter than this before its first variable part is all variable.
const FIXED_CHARS_MIN: usize = 12;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Every variant of `Code`, with its name as it is shown.
fn codes() -> BTreeMap<String, String> {
    let text = read("src/telemetry/code.rs");
    let variants = text.lines().filter_map(|line| {
        let (name, number) = line.trim().strip_suffix(',')?.split_once(" = ")?;
        let number: u16 = number.parse().ok()?;
        Some((name.to_owned(), format!("WS-{number:03}")))
    });
    variants.collect()
}

/// The entries of the runbook: their text by code.
fn entries() -> BTreeMap<String, String> {
    let text = read("docs/runbook.md");
    let mut entries = BTreeMap::new();
    for entry in text.split("\n## ").skip(1) {
        let entry = entry.split("\n# ").next().unwrap();
        if let Some((code, _)) = entry.split_once(" · ") {
            let words: Vec<&str> = entry.split_whitespace().collect();
            let before = entries.insert(code.to_owned(), words.join(" "));
            assert_eq!(before, None, "{code} stands twice");
        }
    }
    entries
}

/// One `warn!` or `error!` of the sources.
struct Line {
    place: String,
    call: String,
}

impl Line {
    /// The variant of `Code` that it has.
    fn variant(&self) -> Option<&str> {
        let (_, rest) = self.call.split_once("Code::")?;
        rest.split(|c: char| !c.is_alphanumeric()).next()
    }

    /// The first clause of its message, without what differs from line to line.
    fn message(&self) -> Option<String> {
        let (before, _) = self
            .call
            .trim_end_matches([')', ';', ' ', '\n', ','])
            .rsplit_once('"')?;
        let text = self.call[before.rfind('"').map_or(0, |at| at + 1)..before.len()].to_owned();
        let words: Vec<&str> = text
            .split(['\\', ' ', '\n'])
            .filter(|word| !word.is_empty())
            .collect();
        let fixed = words
            .join(" ")
            .split(['{', ':', ';', '('])
            .next()
            .unwrap()
            .trim()
            .to_owned();
        (fixed.chars().count() >= FIXED_CHARS_MIN).then_some(fixed)
    }
}

/// Every file of `src/`, by its path.
fn sources() -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                sources.push((path, text));
            }
        }
    }
    sources
}

/// Each call that logs a warning or an error, without those of tests.
fn lines() -> Vec<Line> {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        for level in ["tracing::warn!(", "tracing::error!("] {
            for (at, _) in code.match_indices(level) {
                let call = &code[at + level.len()..];
                let end = closing(call);
                let line = code[..at].lines().count();
                found.push(Line {
                    place: format!("{}:{line}", path.display()),
                    call: call[..end].to_owned(),
                });
            }
        }
    }
    found
}

/// Where the parenthesis that is open before `call` closes; quoted ones do not count.
fn closing(call: &str) -> usize {
    let (mut open, mut quoted) = (1, false);
    let mut before = ' ';
    for (at, c) in call.char_indices() {
        match c {
            '"' if before != '\\' => quoted = !quoted,
            '(' if !quoted => open += 1,
            ')' if !quoted => open -= 1,
            _ => {}
        }
        if open == 0 {
            return at;
        }
        before = c;
    }
    panic!("not closed: {call}");
}

#[test]
fn every_code_has_an_entry_that_says_what_it_means_how_to_see_it_and_what_to_do() {
    let (codes, entries) = (codes(), entries());
    assert!(codes.len() > 30, "only {} codes were found", codes.len());
    let text = read("docs/runbook.md");
    let alerts: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    let shown: BTreeSet<&String> = codes.values().collect();
    for code in &shown {
        assert!(
            entries.contains_key(*code),
            "docs/runbook.md has no entry {code}"
        );
    }
    for (code, entry) in &entries {
        for part in ["**Means.**", "**See.**", "**Do.**"] {
            assert_eq!(entry.matches(part).count(), 1, "{code} needs one {part}");
        }
        let of_an_alert = alerts.iter().any(|row| row.contains(code));
        assert!(
            shown.contains(code) || of_an_alert,
            "nothing has the code {code}"
        );
    }
}

#[test]
fn every_warning_has_a_code_and_its_entry_has_the_words() {
    let (codes, entries, lines) = (codes(), entries(), lines());
    assert!(lines.len() > 40, "only {} lines were found", lines.len());
    let mut faults = Vec::new();
    for line in &lines {
        let Some(variant) = line.variant() else {
            // `code` may come from what stopped or ended.
            if !line.call.contains("%stop.code") && !line.call.contains("%code") {
                faults.push(format!("{}: no code", line.place));
            }
            continue;
        };
        let code = &codes[variant];
        let entry = entries.get(code).map_or("", |entry| entry);
        if let Some(message) = line.message()
            && !entry.contains(&message)
        {
            faults.push(format!(
                "{}: {code} has not the words {message:?}",
                line.place
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_code_is_used() {
    let mut unused = codes();
    for (_, text) in sources() {
        unused.retain(|variant, _| !text.contains(&format!("Code::{variant}")));
    }
    assert!(unused.is_empty(), "no line has {unused:?}");
}
