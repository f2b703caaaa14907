//! An HTTP server that keeps few connections and waits for none of them long, whoever opens them.

use std::{collections::VecDeque, future::Future, pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, yield_now},
    time::{sleep, timeout},
};

/// The most connections at a time: a kubelet and those who collect metrics need a handful. For one
/// more, the oldest is closed. If it waited instead, whoever holds them all would keep the kubelet
/// out, which then ends the process.
const CONNECTIONS_MAX: usize = 128;

/// How long a connection may take for the head of a request: of the first one from its beginning,
/// of a later one from the answer before it.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// The most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long a shutdown waits for requests that have begun.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(2);

/// How long nothing is accepted after that has failed: with no descriptor left, it would fail again
/// at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `shutdown` is done and the requests that have begun are answered, or two
/// seconds have passed.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX);
    let service = TowerToHyperService::new(router);
    let requests = GracefulShutdown::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let stream = tokio::select! {
            stream = accept(&listener) => stream,
            () = &mut shutdown => break,
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        let connection = requests.watch(connection);
        let connection = tokio::spawn(async { drop(connection.await) });
        open.push_back(connection.abort_handle());
        // Among many that come at once, each gets its turn before it is the oldest.
        yield_now().await;
    }
    drop(listener);
    if timeout(SHUTDOWN_DEADLINE, requests.shutdown())
        .await
        .is_err()
    {
        open.iter().for_each(AbortHandle::abort);
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => tracing::debug!(%error, "a connection could not be accepted"),
        }
        sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::{Notify, Semaphore, oneshot},
        task::JoinHandle,
    };

    use super::*;

    const HALF_A_HEAD: &str = "GET /livez HTTP/1.1\r\nHo";
    const METRICS_BYTES: usize = 300_000;

    fn request(path: &str, connection: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nConnection: {connection}\r\n\r\n")
    }

    struct Server {
        address: SocketAddr,
        /// A permit for each request of `/held` that has begun.
        begun: Arc<Semaphore>,
        /// Has one of them answered.
        release: Arc<Notify>,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    impl Server {
        async fn start() -> Server {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel();
            let (begun, release) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
            let (begins, released) = (Arc::clone(&begun), Arc::clone(&release));
            let held = async move || {
                begins.add_permits(1);
                released.notified().await;
                "released"
            };
            let router = Router::new()
                .route("/livez", get(async || "alive"))
                .route("/metrics", get(async || "m".repeat(METRICS_BYTES)))
                .route("/held", get(held));
            let task = tokio::spawn(serve(listener, router, async {
                let _ = stopped.await;
            }));
            Server {
                address,
                begun,
                release,
                stop,
                task,
            }
        }

        /// A connection on which this was sent.
        async fn sent(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }
    }

    /// Waits for what must happen by itself.
    async fn soon<T>(happening: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(30), happening).await.unwrap()
    }

    /// What comes until the server closes the connection; it may cut it.
    async fn rest(mut stream: TcpStream) -> String {
        let mut rest = Vec::new();
        let _ = soon(stream.read_to_end(&mut rest)).await;
        String::from_utf8(rest).unwrap()
    }

    #[tokio::test]
    async fn many_open_connections_keep_nobody_out() {
        let server = Server::start().await;
        let mut open = Vec::new();
        for _ in 0..3 * CONNECTIONS_MAX {
            open.push(server.sent(HALF_A_HEAD).await);
        }
        for path in ["/livez", "/metrics"] {
            let asked = server.sent(&request(path, "close")).await;
            let answer = rest(asked).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(path == "/livez" || answer.len() > METRICS_BYTES);
        }
        for mut oldest in open.drain(..2 * CONNECTIONS_MAX) {
            let _ = oldest.write_all(b"st: x\r\n\r\n").await;
            assert_eq!(rest(oldest).await, "", "it has made way");
        }
    }

    #[tokio::test]
    async fn a_connection_that_asks_nothing_is_closed() {
        let server = Server::start().await;
        let silent = server.sent("").await;
        let half = server.sent(HALF_A_HEAD).await;
        let idle = server.sent(&request("/livez", "keep-alive")).await;
        let (silent, half, idle) = tokio::join!(rest(silent), rest(half), rest(idle));
        assert_eq!((&*silent, &*half), ("", ""));
        assert!(idle.ends_with("alive"), "{idle}");
    }

    #[tokio::test]
    async fn a_head_without_end_is_refused() {
        let server = Server::start().await;
        let filling = "x".repeat(HEAD_BYTES_MAX);
        let endless = server.sent(&format!("{HALF_A_HEAD}{filling}")).await;
        let answer = rest(endless).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn a_shutdown_answers_what_has_begun_and_waits_for_no_other() {
        let server = Server::start().await;
        let half = server.sent(HALF_A_HEAD).await;
        let held = request("/held", "keep-alive");
        let (first, second) = (server.sent(&held).await, server.sent(&held).await);
        soon(server.begun.acquire_many(2)).await.unwrap().forget();
        server.stop.send(()).unwrap();
        soon(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
        server.release.notify_one();
        soon(server.task).await.unwrap();
        let mut answers = [rest(first).await, rest(second).await, rest(half).await];
        answers.sort();
        assert_eq!(answers[..2], ["", ""]);
        assert!(answers[2].ends_with("released"), "{answers:?}");
    }
}
