//! The workers of a run, and what became of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use local_stack::install;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use test_support::wait::until;
use test_support::worker::Worker;

use crate::checker::{Exit, WorkerRun};
use crate::pulse::Pulse;

const MIB: u64 = 1024 * 1024;
/// How long a worker stands and runs in turns that is throttled: a period of a quota is 100 ms.
const STANDS: Duration = Duration::from_millis(90);
const RUNS: Duration = Duration::from_millis(10);
/// What a process needs beyond its budget (docs/operations.md).
const BESIDES_BYTES: u64 = 64 * MIB;
/// What a worker says that was asked to stop and could not write what it held by its drain
/// deadline.
const DRAIN_DEADLINE_PASSED: &str = "not everything under way was written before the deadline";
/// What the workers are given; the default is larger.
pub const BUDGET_BYTES: u64 = 256 * MIB;

/// One worker.
pub struct Member {
    /// `worker 3`: counted through the run.
    pub name: String,
    /// The process.
    pub worker: Worker,
    pulse: Pulse,
    throttle: Option<JoinHandle<()>>,
    peak_bytes: u64,
}

impl Member {
    /// SIGSTOP and SIGCONT in turns for so long, so that it has a tenth of the CPU.
    pub fn throttle(&mut self, lasts: Duration) {
        self.pulse.excuse();
        let pid = self.worker.server().pid().expect("it runs");
        let pid = Pid::from_raw(pid as i32).expect("a process");
        self.throttle = Some(std::thread::spawn(move || {
            let end = Instant::now() + lasts;
            while Instant::now() < end {
                // It has not ended: nobody but this fault strikes workers now.
                for (signal, lasts) in [(Signal::STOP, STANDS), (Signal::CONT, RUNS)] {
                    kill_process(pid, signal).expect("signalled");
                    std::thread::sleep(lasts);
                }
            }
        }));
    }

    /// Waits until that is over.
    pub fn throttle_no_more(&mut self) {
        if let Some(throttle) = self.throttle.take() {
            throttle.join().expect("no panic");
        }
        self.pulse.expect();
    }

    /// SIGSTOP: it need not answer until it is thawed.
    pub fn freeze(&mut self) {
        self.pulse.excuse();
        self.worker.server().freeze().expect("frozen");
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.worker.server().thaw().expect("thawed");
        self.pulse.expect();
    }

    fn look(&mut self) {
        let pid = self.worker.server().pid();
        let status =
            pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let kib = status.as_deref().and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        self.peak_bytes = self.peak_bytes.max(kib.unwrap_or(0) * 1024);
    }

    /// Prints what an end that nobody asked for left in the log.
    fn tell(&self, exit: &Exit) {
        if let Exit::Unexpected(status) = exit {
            let log = tail(&self.worker.log());
            eprintln!("{} ended: {status}\n{log}", self.name);
        }
    }

    fn ended(self, exit: Exit) -> WorkerRun {
        let heard = self.pulse.end();
        WorkerRun {
            silence: heard.silence,
            denied: heard.denied,
            name: self.name,
            peak_bytes: self.peak_bytes,
            budget_bytes: BUDGET_BYTES + BESIDES_BYTES,
            exit,
        }
    }
}

/// All of them.
pub struct Fleet {
    /// What each starts with.
    pub environment: BTreeMap<String, String>,
    /// How many there should be.
    pub wanted: usize,
    /// Those that run.
    pub members: Vec<Member>,
    /// Those that have ended.
    pub ended: Vec<WorkerRun>,
    started: usize,
    /// What is compiled for them.
    libraries: TempDir,
}

impl Fleet {
    /// `wanted` workers with this environment.
    pub fn start(environment: BTreeMap<String, String>, wanted: usize) -> Fleet {
        let mut fleet = Fleet {
            environment,
            wanted,
            members: Vec::new(),
            ended: Vec::new(),
            started: 0,
            libraries: tempfile::tempdir().expect("a directory"),
        };
        fleet.top_up();
        fleet
    }

    /// Starts as many as are missing.
    pub fn top_up(&mut self) {
        while self.members.len() < self.wanted {
            self.start_with(&[]);
        }
    }

    /// One more, with more in its environment.
    pub fn start_with(&mut self, more: &[(&str, &str)]) {
        self.started += 1;
        let mut environment = self.environment.clone();
        for (name, value) in more {
            environment.insert((*name).to_owned(), (*value).to_owned());
        }
        let mut worker = match previous_release() {
            Some(binary) if self.started.is_multiple_of(2) => {
                Worker::start_by([binary.into_os_string(), "run".into()], environment)
            }
            _ => Worker::start(environment),
        };
        self.members.push(Member {
            name: format!("worker {}", self.started),
            pulse: Pulse::start(worker.server().log()),
            worker,
            throttle: None,
            peak_bytes: 0,
        });
    }

    /// One more whose clock is off by `offset`, as faketime has it: `+400d`.
    pub async fn start_with_clock(&mut self, offset: &str) {
        let library = tokio::task::spawn_blocking(install::faketime).await;
        let library = library.expect("no panic").expect("libfaketime");
        let libraries = format!("{}:{}", library.display(), self.waits().display());
        self.start_with(&[
            ("LD_PRELOAD", &libraries),
            ("FAKETIME", offset),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]);
    }

    /// The library that makes up for what libfaketime lacks, compiled.
    fn waits(&self) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/clock.c");
        let library = self.libraries.path().join("clock.so");
        let mut compiler = std::process::Command::new("cc");
        let compiler = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library);
        let status = compiler.arg(source).status().expect("a C compiler");
        assert!(status.success(), "clock.c is not compiled");
        library
    }

    /// SIGKILL.
    pub fn kill(&mut self, index: usize) {
        let mut member = self.members.remove(index);
        member.look();
        member.pulse.end();
        let exit = match member.worker.server().try_wait().expect("a process") {
            None => Exit::Asked,
            Some(status) => Exit::Unexpected(status.to_string()),
        };
        member.worker.server().kill().expect("killed");
        self.ended.push(member.ended(exit));
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self, index: usize) {
        let mut member = self.members.remove(index);
        // One that was just started does not know of signals yet.
        until("the worker listens, or has ended", || {
            let listens = member.worker.address().is_some();
            let ended = member.worker.server().try_wait().expect("a process");
            async move { listens || ended.is_some() }
        })
        .await;
        member.look();
        member.pulse.end();
        let exit = match member.worker.server().try_wait().expect("a process") {
            Some(status) => Exit::Unexpected(status.to_string()),
            None => {
                let signalled = member.worker.server().signal(Signal::TERM);
                signalled.expect("a running worker");
                let status = member.worker.ended().await;
                match status.code() {
                    Some(0) => Exit::Asked,
                    // Its deadline, while MongoDB took nothing: what it held is read again.
                    Some(1) if member.worker.log().contains(DRAIN_DEADLINE_PASSED) => Exit::Asked,
                    _ => Exit::Unexpected(format!("asked to stop: {status}")),
                }
            }
        };
        member.tell(&exit);
        self.ended.push(member.ended(exit));
    }

    /// Looks at memory, and for workers that have ended by themselves, which are not replaced in
    /// silence.
    pub fn look(&mut self) {
        for index in (0..self.members.len()).rev() {
            self.members[index].look();
            if let Some(status) = self.members[index]
                .worker
                .server()
                .try_wait()
                .expect("a process")
            {
                let member = self.members.remove(index);
                let exit = Exit::Unexpected(status.to_string());
                member.tell(&exit);
                self.ended.push(member.ended(exit));
            }
        }
    }

    /// Ends all of them, and says what became of each.
    pub async fn finish(mut self) -> Vec<WorkerRun> {
        self.look();
        while !self.members.is_empty() {
            self.stop(0).await;
        }
        self.ended
    }
}

/// The binary of the release before, of which every other worker is where `PREVIOUS` names one.
pub fn previous_release() -> Option<PathBuf> {
    let named = std::env::var_os("PREVIOUS").filter(|path| !path.is_empty());
    named.map(PathBuf::from)
}

/// The end of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
