//! What a worker and the server hold, at one moment.

use std::fs;

use bson::{Document, doc};
use mongodb::Database;
use test_support::worker::Worker;

/// The series that are watched, with the rise that counts as none, in the unit of each.
pub const SERIES: [(&str, f64); 8] = [
    ("resident memory (MiB)", 12.0),
    ("file descriptors", 8.0),
    ("threads", 4.0),
    ("tasks", 8.0),
    ("connections", 6.0),
    ("server sessions", 30.0),
    ("server connections", 30.0),
    ("lag (records)", 200.0),
];

/// One value for each of [`SERIES`].
pub type Sample = [f64; SERIES.len()];

/// Looks at a worker and the server; `None` where one of them does not answer just now.
pub async fn sample(worker: &mut Worker, admin: &Database, lag: Option<i64>) -> Option<Sample> {
    let pid = worker.server().pid()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let descriptors: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .collect();
    let is_socket = |entry: &&fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    let tasks = worker.metric("workflows_sink_tasks", "")?;
    let status_of_server = admin.run_command(doc! { "serverStatus": 1 }).await.ok()?;
    Some([
        number("VmRSS:")? / 1024.0,
        descriptors.len() as f64,
        number("Threads:")?,
        tasks,
        descriptors.iter().filter(is_socket).count() as f64,
        of(
            &status_of_server,
            "logicalSessionRecordCache",
            "activeSessionsCount",
        )?,
        of(&status_of_server, "connections", "current")?,
        lag? as f64,
    ])
}

fn of(status: &Document, section: &str, name: &str) -> Option<f64> {
    let value = status.get_document(section).ok()?.get(name)?;
    value
        .as_i32()
        .map(f64::from)
        .or(value.as_i64().map(|n| n as f64))
}
