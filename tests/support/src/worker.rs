//! The service as a process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;

use jiff::Timestamp;
use local_stack::Server;
use rustix::process::Signal;
use serde_json::Value;

use crate::http;
use crate::wait::{DEADLINE, until};

/// The binary under test, which `cargo test` builds; `WORKFLOWS_SINK` names another one, such as a
/// mutant.
pub fn binary() -> PathBuf {
    let named = |name| std::env::var_os(name).filter(|path| !path.is_empty());
    named("WORKFLOWS_SINK")
        .or_else(|| named("CARGO_BIN_EXE_workflows-sink"))
        .map(PathBuf::from)
        .expect("run by `cargo test`, or with the path of the binary in WORKFLOWS_SINK")
}

/// The command of a worker.
pub fn command() -> [OsString; 2] {
    [binary().into_os_string(), "run".into()]
}

/// Runs a command of the binary to its end: exit code, standard output, standard error.
pub async fn run(
    environment: &BTreeMap<String, String>,
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let command = tokio::process::Command::new(binary())
        .args(arguments)
        .env_clear()
        .envs(environment)
        .output();
    let output = tokio::time::timeout(DEADLINE, command)
        .await
        .expect("the command ends")
        .expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// One worker process.
pub struct Worker {
    server: Server,
}

impl Worker {
    /// Starts `workflows-sink run` with this environment and no other setting.
    pub fn start(environment: BTreeMap<String, String>) -> Worker {
        Worker::start_by(command(), environment)
    }

    /// As [`Worker::start`], by a command that ends in [`command`], or by another binary.
    pub fn start_by(
        command: impl IntoIterator<Item = OsString>,
        environment: BTreeMap<String, String>,
    ) -> Worker {
        let mut server = Server::new("workflows-sink").expect("a directory");
        server.command(command);
        for (name, value) in environment {
            server.env(&name, &value);
        }
        server.start().expect("a worker");
        Worker { server }
    }

    /// One that was started some other way.
    pub fn of(server: Server) -> Worker {
        Worker { server }
    }

    /// The process, to kill, freeze, stop or wait for.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.server.log()).unwrap_or_default()
    }

    /// The lines of its log that are JSON.
    pub fn lines(&self) -> Vec<Value> {
        let log = self.log();
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The lines of its log whose message contains `text`.
    pub fn lines_with(&self, text: &str) -> Vec<Value> {
        let contains =
            |line: &Value| (line["message"].as_str()).is_some_and(|message| message.contains(text));
        let mut lines = self.lines();
        lines.retain(contains);
        lines
    }

    /// When it logged `message`, each time.
    pub fn times(&self, message: &str) -> Vec<Timestamp> {
        let lines = self.lines();
        let matching = lines.iter().filter(|line| line["message"] == message);
        let time = |line: &Value| {
            let time = line["timestamp"].as_str().expect("a time");
            time.parse().expect("a time")
        };
        matching.map(time).collect()
    }

    /// How many of its lines of `level` begin with `message`.
    pub fn count(&self, level: &str, message: &str) -> usize {
        let begins = |line: &&Value| {
            line["level"] == level
                && line["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(message))
        };
        self.lines().iter().filter(begins).count()
    }

    /// Waits until its log holds `text`.
    pub async fn logs(&self, text: &str) {
        until(&format!("the worker logs {text:?}"), || async {
            self.log().contains(text)
        })
        .await;
    }

    /// Where its health server listens, once it does.
    pub fn address(&self) -> Option<String> {
        http::listening(&self.log())
    }

    /// Status and body of a GET, or `None` while nothing answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        http::get(&self.address()?, path)
    }

    /// The sum of a metric over the series whose line contains `labels`; `None` if there is none.
    pub fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics")?;
        let series = body.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && line.contains(labels)
        });
        let values: Vec<f64> = series
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// How many partitions it says to have.
    pub fn assigned(&self) -> i64 {
        self.metric("workflows_sink_assigned_partitions", "")
            .map_or(0, |count| count as i64)
    }

    /// Whether `/readyz` says yes.
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self) {
        until("the worker is ready", || async { self.is_ready() }).await;
    }

    /// SIGTERM, and its exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        self.server.signal(Signal::TERM).expect("a running worker");
        self.exit().await
    }

    /// Waits until it has ended by itself.
    pub async fn exit(&mut self) -> Option<i32> {
        self.ended().await.code()
    }

    /// The same, with the signal that may have ended it.
    pub async fn ended(&mut self) -> ExitStatus {
        self.server.wait(DEADLINE).await.expect("the worker ends")
    }
}

impl Drop for Worker {
    /// What a failed test needs most.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the worker's log ends:\n{}", self.server.log_tail());
        }
    }
}

/// Waits until `partitions` are shared among `workers`, none with two more than another.
pub async fn share(workers: &[&Worker], partitions: i64) {
    until("each worker has its share", || async {
        let shares: Vec<i64> = workers.iter().map(|worker| worker.assigned()).collect();
        let (min, max) = (shares.iter().min(), shares.iter().max());
        shares.iter().sum::<i64>() == partitions
            && max.zip(min).is_some_and(|(max, min)| max - min <= 1)
    })
    .await;
}
