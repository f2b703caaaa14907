//! `/metrics`, `/livez`, `/readyz`.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use super::metrics::Metrics;

/// A loop that has not turned for this long is stuck.
const STUCK_MS: u64 = 30_000;

/// MongoDB has to have answered within this, whatever it was asked.
const LATELY_MS: u64 = 60_000;

/// A loop whose standstill means that the process has to be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// The thread that polls Kafka.
    Poll,
    /// The runtime that the lanes run on.
    Runtime,
}

impl Loop {
    const ALL: [(Loop, &'static str); 2] =
        [(Loop::Poll, "poll thread"), (Loop::Runtime, "runtime")];
}

/// How the process stands, told by its parts and asked by the probes. Never blocks.
#[derive(Debug)]
pub struct Health {
    began: Instant,
    joined: AtomicBool,
    /// Milliseconds since `began` of the last answer; 0 after a failure and before the first.
    mongodb_ms: AtomicU64,
    /// Milliseconds since `began` of each loop's last turn; 0 before the first.
    turned_ms: [AtomicU64; Loop::ALL.len()],
}

impl Default for Health {
    fn default() -> Self {
        Health {
            began: Instant::now(),
            joined: AtomicBool::new(false),
            mongodb_ms: AtomicU64::new(0),
            turned_ms: Default::default(),
        }
    }
}

impl Health {
    /// A loop has turned. To be called far more often than every 30 s, from when it begins.
    pub fn turned(&self, which: Loop) {
        self.turned_ms[which as usize].store(self.now_ms(), Relaxed);
    }

    /// Whether the worker is in the group; having no partition there is ready too.
    pub fn set_joined(&self, joined: bool) {
        self.joined.store(joined, Relaxed);
    }

    /// MongoDB has answered: a write or a ping. To be called at least every minute.
    pub fn mongodb_answered(&self) {
        self.mongodb_ms.store(self.now_ms(), Relaxed);
    }

    /// MongoDB has not answered, or not as it should.
    pub fn mongodb_failed(&self) {
        self.mongodb_ms.store(0, Relaxed);
    }

    /// The loops that are stuck: only a restart helps. Never about a dependency.
    pub fn stuck(&self) -> Vec<&'static str> {
        self.stuck_at(self.now_ms())
    }

    /// What keeps the worker from working.
    pub fn missing(&self) -> Vec<&'static str> {
        self.missing_at(self.now_ms())
    }

    fn stuck_at(&self, now_ms: u64) -> Vec<&'static str> {
        let stands = |which: Loop| {
            let turned_ms = self.turned_ms[which as usize].load(Relaxed);
            turned_ms > 0 && now_ms.saturating_sub(turned_ms) > STUCK_MS
        };
        let stuck = Loop::ALL.iter().filter(|(which, _)| stands(*which));
        stuck.map(|(_, name)| *name).collect()
    }

    fn missing_at(&self, now_ms: u64) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.joined.load(Relaxed) {
            missing.push("not in the consumer group");
        }
        match self.mongodb_ms.load(Relaxed) {
            0 => missing.push("MongoDB does not answer"),
            answered_ms if now_ms.saturating_sub(answered_ms) > LATELY_MS => {
                missing.push("MongoDB has not answered lately");
            }
            _ => {}
        }
        missing
    }

    /// Never 0, which stands for never.
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }
}

/// Serves until `shutdown` is done and the requests in flight are answered.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let live = health.clone();
    let router = Router::new()
        .route(
            "/metrics",
            get(|| async move { exposition(metrics.render()) }),
        )
        .route(
            "/livez",
            get(|| async move { answer("alive", live.stuck()) }),
        )
        .route(
            "/readyz",
            get(|| async move { answer("ready", health.missing()) }),
        );
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

/// Metrics in the text format, as an answer.
pub(crate) fn exposition(text: String) -> impl IntoResponse {
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, text)
}

/// The answer to a probe: yes, or 503 with what is the matter.
pub(crate) fn answer<F: AsRef<str>>(good: &str, faults: Vec<F>) -> impl IntoResponse + use<F> {
    let faults: Vec<&str> = faults.iter().map(AsRef::as_ref).collect();
    match faults.is_empty() {
        true => (StatusCode::OK, format!("{good}\n")),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not {good}: {}\n", faults.join("; ")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
        time::timeout,
    };

    use super::*;

    #[test]
    fn a_dependency_never_makes_the_process_look_dead() {
        let health = Health::default();
        health.turned(Loop::Poll);
        health.turned(Loop::Runtime);
        health.mongodb_failed();
        health.set_joined(false);
        assert!(health.stuck_at(STUCK_MS).is_empty());
        assert_eq!(
            health.missing_at(1),
            ["not in the consumer group", "MongoDB does not answer"]
        );
    }

    #[test]
    fn a_loop_that_stands_still_is_named() {
        let health = Health::default();
        assert!(
            health.stuck_at(10 * STUCK_MS).is_empty(),
            "not begun is not stuck"
        );
        health.turned(Loop::Poll);
        assert_eq!(health.stuck_at(10 * STUCK_MS), ["poll thread"]);
        health.turned(Loop::Runtime);
        assert_eq!(health.stuck_at(10 * STUCK_MS), ["poll thread", "runtime"]);
        assert!(health.stuck().is_empty());
    }

    #[test]
    fn ready_is_in_the_group_with_a_mongodb_that_answered_lately() {
        let health = Health::default();
        health.set_joined(true);
        health.mongodb_answered();
        assert!(health.missing().is_empty());
        assert_eq!(
            health.missing_at(2 * LATELY_MS),
            ["MongoDB has not answered lately"]
        );
        health.mongodb_failed();
        assert_eq!(health.missing(), ["MongoDB does not answer"]);
    }

    async fn fetch(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_probes_and_the_metrics_are_served_until_the_shutdown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Arc::new(Health::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(
            listener,
            Arc::new(Metrics::new()),
            health.clone(),
            async {
                let _ = stopped.await;
            },
        ));

        let metrics = fetch(address, "/metrics").await;
        assert!(
            metrics.starts_with("HTTP/1.1 200")
                && metrics.contains("\nworkflows_sink_fenced_total 0\n")
        );
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"));
        assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let unready = fetch(address, "/readyz").await;
        assert!(unready.starts_with("HTTP/1.1 503"), "{unready}");
        assert!(
            unready.ends_with("not ready: not in the consumer group; MongoDB does not answer\n")
        );
        health.set_joined(true);
        health.mongodb_answered();
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));

        stop.send(()).unwrap();
        timeout(Duration::from_secs(10), server)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
