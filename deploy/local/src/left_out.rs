//! What tests do not try on this machine.

use std::fs::File;
use std::io::Write as _;

/// Says that a test leaves this out here. Cargo shows nothing of tests that pass, so the line also
/// goes to the file that `LEFT_OUT` names, which `make test` shows at its end.
///
/// # Panics
/// Where that file cannot be written.
pub fn left_out(what: &str) {
    let line = format!("LEFT OUT: {what}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("LEFT_OUT") {
        let file = File::options().create(true).append(true).open(path);
        // In one piece: other tests write to it at the same time.
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.expect("the file that LEFT_OUT names");
    }
}
