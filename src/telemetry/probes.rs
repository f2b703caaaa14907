//! What both long-running processes, the service and the sidecar, serve: `/metrics` and the probes.

use std::{fmt, future::Future, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use super::http;

/// A question that Kubernetes asks the process.
pub struct Probe {
    path: &'static str,
    answer: Arc<dyn Fn() -> (StatusCode, String) + Send + Sync>,
}

impl Probe {
    /// `/livez`. `faults`: why only a restart helps.
    pub fn live<F: AsRef<str>>(faults: impl Fn() -> Vec<F> + Send + Sync + 'static) -> Probe {
        Probe::new("/livez", "alive", faults)
    }

    /// `/readyz`. `faults`: what keeps the process from its work.
    pub fn ready<F: AsRef<str>>(faults: impl Fn() -> Vec<F> + Send + Sync + 'static) -> Probe {
        Probe::new("/readyz", "ready", faults)
    }

    /// `/startupz`. `faults`: what has to happen before the process has started.
    pub fn started<F: AsRef<str>>(faults: impl Fn() -> Vec<F> + Send + Sync + 'static) -> Probe {
        Probe::new("/startupz", "started", faults)
    }

    /// Adds lines to the answer's text, whatever the answer is.
    pub fn with_notes(self, notes: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Probe {
        let Probe { path, answer } = self;
        let answer = Arc::new(move || {
            let (status, mut text) = answer();
            for note in notes() {
                text.push_str(&note);
                text.push('\n');
            }
            (status, text)
        });
        Probe { path, answer }
    }

    fn new<F: AsRef<str>>(
        path: &'static str,
        good: &'static str,
        faults: impl Fn() -> Vec<F> + Send + Sync + 'static,
    ) -> Probe {
        let answer = Arc::new(move || answer(good, &faults()));
        Probe { path, answer }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Probe({})", self.path)
    }
}

/// Serves `/metrics`, in the text format 0.0.4, and `probes`, until `shutdown` is done and the
/// requests that have begun are answered, or two seconds have passed.
pub async fn serve(
    listener: TcpListener,
    metrics: impl Fn() -> String + Clone + Send + Sync + 'static,
    probes: Vec<Probe>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut router = Router::new().route("/metrics", get(async move || exposition(metrics())));
    for Probe { path, answer } in probes {
        router = router.route(path, get(async move || answer()));
    }
    http::serve(listener, router, shutdown).await;
}

fn exposition(text: String) -> impl IntoResponse {
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, text)
}

/// 200 where there is no fault, else 503 with all of them.
fn answer<F: AsRef<str>>(good: &str, faults: &[F]) -> (StatusCode, String) {
    if faults.is_empty() {
        return (StatusCode::OK, format!("{good}\n"));
    }
    let faults: Vec<&str> = faults.iter().map(AsRef::as_ref).collect();
    let text = format!("not {good}: {}\n", faults.join("; "));
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        time::Duration,
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
        time::timeout,
    };

    use super::*;

    async fn fetch(address: SocketAddr, path: &str) -> String {
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
        let is_ready = Arc::new(AtomicBool::new(false));
        let ready = Arc::clone(&is_ready);
        let faults = move || match ready.load(Relaxed) {
            true => vec![],
            false => vec!["no partition", "no answer"],
        };
        let probes = vec![Probe::live(Vec::<String>::new), Probe::ready(faults)];
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let metrics = || "records_total 7\n".to_owned();
        let server = tokio::spawn(serve(listener, metrics, probes, shutdown));

        let metrics = fetch(address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.ends_with("records_total 7\n"));
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"));
        assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let unready = fetch(address, "/readyz").await;
        assert!(unready.starts_with("HTTP/1.1 503"), "{unready}");
        assert!(unready.ends_with("not ready: no partition; no answer\n"));
        is_ready.store(true, Relaxed);
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let unknown = fetch(address, "/startupz").await;
        assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");

        stop.send(()).unwrap();
        timeout(Duration::from_secs(10), server)
            .await
            .unwrap()
            .unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
