//! The sidecar as a process, and what it publishes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use local_stack::Server;
use test_support::http;
use test_support::wait::{DEADLINE, until};
use test_support::worker::binary;

use crate::scene::{SINK, Scene};

/// The setting that says how often it looks, in seconds.
pub const INTERVAL: &str = "DYFF_WORKFLOWS_SINK_ADMIN__RECONCILE_INTERVAL_SECONDS";

/// Starts `admin …`, whose output can be read while it runs.
pub fn start(scene: &Scene, arguments: &[&str]) -> Server {
    let mut server = Server::new("admin").expect("a directory");
    let binary = binary();
    let own = [binary.to_str().expect("UTF-8"), "admin"];
    server.command([own.as_slice(), arguments].concat());
    for (name, value) in &scene.environment {
        server.env(name, value);
    }
    server.start().expect("a process");
    server
}

/// `admin serve`.
pub struct Sidecar {
    server: Server,
}

impl Sidecar {
    /// Starts `admin serve` with these arguments as well, for the sink's user.
    pub fn start(scene: &Scene, arguments: &[&str]) -> Sidecar {
        let own = ["serve", "--user", SINK];
        let server = start(scene, &[own.as_slice(), arguments].concat());
        Sidecar { server }
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.server.log()).unwrap_or_default()
    }

    /// Where it listens, once it does.
    pub fn address(&self) -> Option<String> {
        http::listening(&self.log())
    }

    /// Status and body of a GET; none while nothing answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        http::get(&self.address()?, path)
    }

    /// A metric of the sink's user whose line holds `label`.
    pub fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics")?;
        let start = format!("workflows_sink_admin_{name}{{");
        let line = body
            .lines()
            .find(|line| line.starts_with(&start) && line.contains(label))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until the startup probe says yes.
    pub async fn started(&self) {
        until("the sidecar has started", || async {
            self.get("/startupz")
                .is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// Waits until its log holds `text` `times`.
    pub async fn logs(&self, text: &str, times: usize) {
        until(&format!("the sidecar logs {text:?}"), || async {
            self.log().matches(text).count() >= times
        })
        .await;
    }

    /// SIGTERM; its exit code, and all it has printed goes to the scene.
    pub async fn stop(mut self, scene: &Scene) -> Option<i32> {
        scene.hide_values().await;
        scene.keep(
            &self
                .get("/metrics")
                .map(|(_, body)| body)
                .unwrap_or_default(),
        );
        self.server
            .signal(rustix::process::Signal::TERM)
            .expect("it runs");
        let ended = self.server.wait(DEADLINE).await.expect("it ends");
        scene.keep(&self.log());
        ended.code()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the sidecar's log ends:\n{}", self.server.log_tail());
        }
    }
}

/// What a directory shows, by key.
pub fn published(directory: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return BTreeMap::new();
    };
    let visible = entries.filter_map(|entry| {
        let path: PathBuf = entry.ok()?.path();
        let name = path.file_name()?.to_str()?.to_owned();
        (!name.starts_with('.')).then_some((name, std::fs::read_to_string(path).ok()?))
    });
    visible.collect()
}
