//! What happens on a machine that lacks a package, or has one that lacks what is used of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

const JAVA: &str = "echo openjdk 17.0.15 2025-04-15";

/// A machine whose PATH has nothing but what a test puts there, `sed` and an `apt-get` that writes
/// down how it is called.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new(user_id: u32) -> Machine {
        let machine = Machine {
            directory: tempfile::tempdir().unwrap(),
        };
        machine.command(
            "apt-get",
            &format!("echo \"$@\" >>{}", machine.calls().display()),
        );
        machine.command("id", &format!("echo {user_id}"));
        machine.command("flock", "");
        machine.command("sed", "exec /bin/sed \"$@\"");
        machine
    }

    fn calls(&self) -> PathBuf {
        self.directory.path().join("calls")
    }

    fn command(&self, name: &str, body: &str) {
        self.executable(name, &format!("#!/bin/sh\n{body}\n"));
    }

    /// Its `apt-get` brings this command, and nothing else.
    fn installs(&self, name: &str, body: &str) {
        let command = self.directory.path().join(name);
        let body = format!(
            "echo \"$@\" >>{}\ncase $* in *install*)\n\
             printf '#!/bin/sh\\n%s\\n' '{body}' >{command}; /bin/chmod +x {command} ;; esac",
            self.calls().display(),
            command = command.display(),
        );
        self.command("apt-get", &body);
    }

    fn executable(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs the script; what it ended with, and how apt-get was called.
    fn ensure(&self, packages: &[&str]) -> (Output, Vec<String>) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/ensure.sh");
        let output = Command::new("/bin/sh")
            .arg(script)
            .args(packages)
            .env("PATH", self.directory.path())
            .output()
            .unwrap();
        let calls = fs::read_to_string(self.calls()).unwrap_or_default();
        (output, calls.lines().map(str::to_owned).collect())
    }
}

#[test]
fn what_works_is_not_installed() {
    let machine = Machine::new(0);
    machine.command("java", JAVA);
    machine.command("git", "");
    let (output, calls) = machine.ensure(&["default-jre-headless", "git"]);
    assert!(
        output.status.success() && calls.is_empty(),
        "{output:?} {calls:?}"
    );
}

#[test]
fn root_gets_it_from_the_updated_index() {
    let machine = Machine::new(0);
    machine.command("git", "");
    machine.installs("java", JAVA);
    let (output, calls) = machine.ensure(&["default-jre-headless", "git"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[0].ends_with("update"), "{calls:?}");
    assert!(
        calls[1].contains(" install -y ") && calls[1].ends_with(" default-jre-headless"),
        "{calls:?}"
    );
}

/// Debian's perl-base brings a `perl` without the modules that OpenSSL's Configure needs.
#[test]
fn a_command_that_lacks_what_is_used_of_it_is_installed_whole() {
    let machine = Machine::new(0);
    machine.command("perl", "case $* in *FindBin*) exit 2 ;; esac");
    machine.installs("perl", "");
    let (output, calls) = machine.ensure(&["perl"]);
    assert!(
        output.status.success() && calls.len() == 2,
        "{output:?} {calls:?}"
    );
}

#[test]
fn a_package_that_does_not_bring_what_is_used_of_it_is_an_error() {
    let machine = Machine::new(0);
    machine.installs("java", "echo openjdk 11.0.27 2025-04-15");
    let (output, calls) = machine.ensure(&["default-jre-headless"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{error}");
    assert!(
        error.contains("still incomplete: default-jre-headless"),
        "{error}"
    );
    assert_eq!(calls.len(), 2, "{calls:?}");
}

#[test]
fn others_are_told_the_line_to_type() {
    let (output, calls) = Machine::new(1000).ensure(&["default-jre-headless"]);
    assert_eq!(output.status.code(), Some(69));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("sudo apt-get update && sudo apt-get install -y default-jre-headless"),
        "{error}"
    );
    assert!(calls.is_empty(), "{calls:?}");
}
