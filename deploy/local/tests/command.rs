//! The command: what it starts ends with it, however it ends.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(60);

struct Up {
    child: Child,
    addresses: Vec<String>,
    directories: Vec<PathBuf>,
}

impl Up {
    /// Runs `local-stack up` with its temporary files in a folder of their own.
    fn start(temporary: &tempfile::TempDir) -> Up {
        let mut command = Command::new(env!("CARGO_BIN_EXE_local-stack"));
        let command = command.arg("up").env("TMPDIR", temporary.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let exports: Vec<_> = lines
            .take_while(|line| !line.contains("until Ctrl-C"))
            .collect();
        let addresses = exports.iter().filter_map(|line| {
            let start = line.find("127.0.0.1:")?;
            let address = &line[start..];
            Some(address[..address.find(['/', '\'']).unwrap_or(address.len())].to_owned())
        });
        let directories = std::fs::read_dir(temporary.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let up = Up {
            addresses: addresses.collect(),
            directories: directories.collect(),
            child,
        };
        assert!(
            exports
                .iter()
                .any(|line| line.contains("workflows-sink@127.0.0.1")),
            "{exports:?}"
        );
        assert!(
            up.addresses.len() >= 2
                && up
                    .addresses
                    .iter()
                    .all(|address| TcpStream::connect(address).is_ok())
        );
        assert_eq!(up.directories.len(), 2, "{:?}", up.directories);
        up
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn assert_nothing_is_left(&self) {
        let end = Instant::now() + DEADLINE;
        let listening = || {
            self.addresses
                .iter()
                .any(|address| TcpStream::connect(address).is_ok())
        };
        while listening() || self.directories.iter().any(|directory| directory.exists()) {
            assert!(
                Instant::now() < end,
                "left: {:?} {:?}",
                self.addresses,
                self.directories
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn interrupted_or_killed_it_leaves_no_server_and_no_file() {
    let temporary = tempfile::tempdir().unwrap();
    for (signal, code) in [
        (Signal::INT, Some(130)),
        (Signal::TERM, Some(143)),
        (Signal::KILL, None),
    ] {
        let mut up = Up::start(&temporary);
        up.signal(signal);
        assert_eq!(up.child.wait().unwrap().code(), code);
        up.assert_nothing_is_left();
    }
}

#[test]
fn a_service_that_does_not_start_ends_the_demo_with_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let sink = directory.path().join("sink");
    let script =
        "#!/bin/sh\necho \"$1 $DYFF_WORKFLOWS_SINK__MONGODB__DATABASE: no such role\"\nexit 78\n";
    std::fs::write(&sink, script).unwrap();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "chmod +x \"$0\" && exec \"$@\"",
        sink.to_str().unwrap(),
        env!("CARGO_BIN_EXE_local-stack"),
    ]);
    command.args([
        "demo",
        "--entities",
        "10",
        "--states",
        "20",
        "--sink",
        sink.to_str().unwrap(),
    ]);
    let output = command.env("TMPDIR", directory.path()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("exit status: 78") && error.contains("run workflows: no such role"),
        "{error}"
    );
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["sink"]);
}

#[test]
fn generated_entities_are_lines_of_id_and_json() {
    let arguments = [
        "generate",
        "--seed",
        "3",
        "--entities",
        "5",
        "--states",
        "20",
    ];
    let run = || {
        Command::new(env!("CARGO_BIN_EXE_local-stack"))
            .args(arguments)
            .output()
            .unwrap()
            .stdout
    };
    let text = String::from_utf8(run()).unwrap();
    assert_eq!(text.lines().count(), 20);
    for line in text.lines() {
        let (id, json) = line.split_once('\t').unwrap();
        assert!(
            id.len() == 32 && json.contains(id) && json.starts_with('{') && json.ends_with('}'),
            "{line}"
        );
    }
    assert_eq!(run(), text.as_bytes());
}
