//! What happens on a machine that lacks a command.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// Runs the script with nothing on the PATH but `apt-get` (which writes down how it is called), `id` and `flock`.
fn ensure(user_id: u32, commands: &[&str]) -> (Output, String) {
    let directory = tempfile::tempdir().unwrap();
    let calls = directory.path().join("calls");
    let stub = |name: &str, body: &str| {
        let path = directory.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    stub("apt-get", &format!("echo \"$@\" >>{}", calls.display()));
    stub("id", &format!("echo {user_id}"));
    stub("flock", "");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ensure.sh");
    let output = Command::new("/bin/sh")
        .arg(script)
        .args(commands)
        .env("PATH", directory.path())
        .output()
        .unwrap();
    (output, fs::read_to_string(calls).unwrap_or_default())
}

#[test]
fn what_is_there_is_not_installed() {
    let (output, calls) = ensure(0, &["id:coreutils"]);
    assert!(
        output.status.success() && calls.is_empty(),
        "{output:?} {calls}"
    );
}

#[test]
fn root_gets_it_from_the_updated_index() {
    let (output, calls) = ensure(
        0,
        &["java:default-jre-headless", "id:coreutils", "mvn:maven"],
    );
    assert!(output.status.success(), "{output:?}");
    let calls: Vec<_> = calls.lines().collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[0].ends_with("update"), "{calls:?}");
    assert!(
        calls[1].contains(" install -y ") && calls[1].ends_with(" default-jre-headless maven"),
        "{calls:?}"
    );
}

#[test]
fn others_are_told_the_line_to_type() {
    let (output, calls) = ensure(1000, &["java:default-jre-headless"]);
    assert_eq!(output.status.code(), Some(69));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("sudo apt-get update && sudo apt-get install -y default-jre-headless"),
        "{error}"
    );
    assert!(calls.is_empty(), "{calls}");
}
