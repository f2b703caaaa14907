//! The pure parts take as many instructions for a record as `instructions.txt` says: a count that
//! does not depend on how busy the machine is. Only a release build has anything to say.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use benches::pure::{RECORDS, Work};
use local_stack::left_out;

/// Another compiler or C library moves it by a few percent.
const TOLERANCE: f64 = 0.05;
/// What more rounds cost is what the part costs; the rest is the start.
const ROUNDS: [u64; 2] = [2, 6];

fn instructions(part: &str, rounds: u64) -> u64 {
    let directory = tempfile::tempdir().expect("a directory");
    let counted = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!(
            "--callgrind-out-file={}",
            directory.path().join("out").display()
        ))
        .arg(env!("CARGO_BIN_EXE_instructions"))
        .args([part, &rounds.to_string()])
        .output()
        .expect("valgrind, which `make instructions` installs");
    let said = String::from_utf8_lossy(&counted.stderr);
    let count = said
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1));
    let count = count.unwrap_or_else(|| panic!("no count: {said}"));
    count.trim().parse().expect("a count")
}

#[test]
fn the_pure_parts_take_no_more_instructions_than_before_nor_fewer() {
    if cfg!(debug_assertions) {
        left_out("only a release build's instructions are counted: make instructions");
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt");
    let mut taken = String::from("# Instructions a record, of a batch of 1,000; by callgrind.\n");
    let mut now = Vec::new();
    for (part, _) in Work::PARTS {
        let [few, many] = ROUNDS.map(|rounds| instructions(part, rounds));
        let count = (many - few) / (ROUNDS[1] - ROUNDS[0]) / RECORDS as u64;
        writeln!(taken, "{part} {count}").expect("a string");
        now.push((part, count));
    }
    eprint!("{taken}");
    if std::env::var_os("RENEW").is_some_and(|renew| !renew.is_empty()) {
        std::fs::write(&path, taken).expect("written");
        return;
    }
    let file = std::fs::read_to_string(&path).expect("instructions.txt");
    let mut moved = Vec::new();
    for (part, count) in now {
        let line = file
            .lines()
            .find_map(|line| line.strip_prefix(part)?.trim().parse::<u64>().ok());
        let before = line.unwrap_or_else(|| panic!("instructions.txt says nothing of {part}"));
        let change = count as f64 / before as f64 - 1.0;
        if change.abs() > TOLERANCE {
            moved.push(format!(
                "{part}: {before} → {count} ({:+.1} %)",
                100.0 * change
            ));
        }
    }
    assert!(
        moved.is_empty(),
        "{}\nIf that is meant, `make instructions RENEW=1` rewrites the file.",
        moved.join("\n")
    );
}
