//! Proxies before the API server and mongod, which count every effect (an apply of a Secret, a
//! change of a user) and stop a process exactly before one, or behind it with its answer held back.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::response::{IntoResponse as _, Response};
use bson::raw::RawDocument;
use kube::Client;
use test_support::wait::DEADLINE;
use test_support::worker::binary;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::scene::Scene;
use crate::world::client;

/// Commands that change a user.
const EFFECTS: [&str; 4] = [
    "createUser",
    "updateUser",
    "grantRolesToUser",
    "revokeRolesFromUser",
];

/// The command that looks at a user; the Secret was read before.
const LOOK: &str = "usersInfo";

/// Where a process is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It has read the Secret, and not asked MongoDB yet.
    Look,
    /// The effect has not happened.
    Before,
    /// The effect has happened, and the process does not know.
    After,
}

/// Both sides of an effect.
pub const MOMENTS: [Moment; 2] = [Moment::Before, Moment::After];

/// What passes the proxies of one process.
pub struct Gate {
    effects: AtomicUsize,
    looks: AtomicUsize,
    stop: Mutex<Option<(usize, Moment)>>,
    /// 0: not reached; 1: reached; 2: released.
    state: watch::Sender<u8>,
    kubeconfig: PathBuf,
    pub mongo_uri: String,
}

impl Gate {
    /// Proxies for a scene, on ports of their own. `stop`: the effect or look, from 0, at which the
    /// process is stopped.
    pub async fn new(scene: &Scene, stop: Option<(usize, Moment)>) -> Arc<Gate> {
        let kubernetes = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mongo = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", kubernetes.local_addr().expect("an address"));
        let kubeconfig = scene
            .directory
            .path()
            .join(format!("kubeconfig-{}", url.replace(['/', ':'], "")));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: '{url}'}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u, namespace: '{}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n",
            scene.namespace
        );
        std::fs::write(&kubeconfig, text).expect("a kubeconfig");
        let gate = Arc::new(Gate {
            effects: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
            stop: Mutex::new(stop),
            state: watch::channel(0).0,
            kubeconfig,
            mongo_uri: format!(
                "mongodb://{}/?directConnection=true",
                mongo.local_addr().expect("an address")
            ),
        });
        let upstream = client(scene.environment["KUBECONFIG"].as_ref()).await;
        let router = Router::new()
            .fallback(forward)
            .with_state((Arc::clone(&gate), upstream));
        tokio::spawn(async { axum::serve(kubernetes, router).await });
        let server = scene.host();
        tokio::spawn(serve_mongo(Arc::clone(&gate), mongo, server));
        gate
    }

    /// Effects so far.
    pub fn effects(&self) -> usize {
        self.effects.load(SeqCst)
    }

    /// Stops the next process that looks.
    pub fn stop_at_next_look(&self) {
        let next = (self.looks.load(SeqCst), Moment::Look);
        *self.stop.lock().expect("no panic") = Some(next);
        self.state.send_replace(0);
    }

    /// Starts `admin …` behind both proxies.
    pub fn start(&self, scene: &Scene, arguments: &[&str]) -> Child {
        self.start_on(scene, arguments, &self.mongo_uri)
    }

    /// Starts `admin …` behind the API server's proxy, with a MongoDB of one's choice.
    pub fn start_on(&self, scene: &Scene, arguments: &[&str], mongo_uri: &str) -> Child {
        let mut command = Command::new(binary());
        command
            .arg("admin")
            .args(arguments)
            .env_clear()
            .envs(&scene.environment)
            .env("KUBECONFIG", &self.kubeconfig)
            .env(
                "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING",
                mongo_uri,
            )
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true);
        command.spawn().expect("the command starts")
    }

    /// Waits until the process is stopped.
    pub async fn reached(&self) {
        let mut state = self.state.subscribe();
        let reached = timeout(DEADLINE, state.wait_for(|state| *state > 0)).await;
        reached
            .expect("the effect is reached")
            .expect("the gate is there");
    }

    /// Lets the process go on.
    pub fn release(&self) {
        self.state.send_replace(2);
    }

    async fn stopped(&self) {
        self.state.send_if_modified(|state| {
            let first = *state == 0;
            *state = (*state).max(1);
            first
        });
        let _ = self.state.subscribe().wait_for(|state| *state == 2).await;
    }

    fn stops(&self, effect: usize, moment: Moment) -> bool {
        *self.stop.lock().expect("no panic") == Some((effect, moment))
    }
}

/// Runs to the end: exit code, and what was printed goes to the scene.
pub async fn ended(scene: &Scene, child: Child) -> Option<i32> {
    let ended = timeout(DEADLINE, child.wait_with_output()).await;
    let output = ended.expect("it ends").expect("its output");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    scene.hide_values().await;
    scene.keep(&out);
    scene.keep(&error);
    if !output.status.success() {
        eprintln!("{out}{error}");
    }
    output.status.code()
}

/// SIGKILL, and what was printed goes to the scene.
pub async fn killed(scene: &Scene, mut child: Child) {
    child.start_kill().expect("it runs");
    let output = child.wait_with_output().await.expect("its output");
    assert!(
        output.status.code().is_none(),
        "it ended before it was killed"
    );
    scene.hide_values().await;
    scene.keep(&String::from_utf8_lossy(&output.stdout));
    scene.keep(&String::from_utf8_lossy(&output.stderr));
}

async fn forward(
    State((gate, upstream)): State<(Arc<Gate>, Client)>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().expect("a path").to_string();
    let effect = (parts.method == Method::PATCH && path.contains("/secrets/"))
        .then(|| gate.effects.fetch_add(1, SeqCst));
    if effect.is_some_and(|effect| gate.stops(effect, Moment::Before)) {
        gate.stopped().await;
    }
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    parts.headers.remove(HOST);
    parts.headers.remove(AUTHORIZATION);
    parts.uri = path.parse().expect("a path");
    let request = axum::http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let answer = upstream.send(request).await;
    if effect.is_some_and(|effect| gate.stops(effect, Moment::After)) {
        gate.stopped().await;
    }
    match answer {
        Ok(answer) => answer.map(Body::new),
        Err(error) => (axum::http::StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

async fn serve_mongo(gate: Arc<Gate>, listener: TcpListener, server: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let (gate, server) = (Arc::clone(&gate), server.clone());
        tokio::spawn(async move {
            let Ok(upstream) = TcpStream::connect(server).await else {
                return;
            };
            let (mut from_client, mut to_client) = stream.into_split();
            let (mut from_server, to_server) = upstream.into_split();
            let hold = Arc::new(AtomicBool::new(false));
            let requests = requests(&gate, &mut from_client, to_server, Arc::clone(&hold));
            let answers = async {
                let mut buffer = vec![0; 65_536];
                while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                    if hold.swap(false, SeqCst) {
                        gate.stopped().await;
                    }
                    if to_client.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = requests => {}
                () = answers => {}
            }
        });
    }
}

async fn requests(
    gate: &Gate,
    from_client: &mut (impl tokio::io::AsyncRead + Unpin),
    mut to_server: OwnedWriteHalf,
    hold: Arc<AtomicBool>,
) -> std::io::Result<()> {
    loop {
        let mut message = vec![0; 16];
        from_client.read_exact(&mut message).await?;
        let length = u32::from_le_bytes(message[..4].try_into().expect("four bytes")) as usize;
        message.resize(length, 0);
        from_client.read_exact(&mut message[16..]).await?;
        let command = command(&message);
        if command.as_deref() == Some(LOOK)
            && gate.stops(gate.looks.fetch_add(1, SeqCst), Moment::Look)
        {
            gate.stopped().await;
        }
        if command.is_some_and(|command| EFFECTS.contains(&command.as_str())) {
            let effect = gate.effects.fetch_add(1, SeqCst);
            if gate.stops(effect, Moment::Before) {
                gate.stopped().await;
            }
            if gate.stops(effect, Moment::After) {
                hold.store(true, SeqCst);
            }
        }
        to_server.write_all(&message).await?;
    }
}

/// The name of the command, if it is an OP_MSG.
fn command(message: &[u8]) -> Option<String> {
    const OP_MSG: u32 = 2013;
    let opcode = u32::from_le_bytes(message[12..16].try_into().expect("four bytes"));
    if opcode != OP_MSG || message.get(20) != Some(&0) {
        return None;
    }
    let length = u32::from_le_bytes(message[21..25].try_into().expect("four bytes")) as usize;
    let command = RawDocument::from_bytes(&message[21..21 + length]).expect("a command");
    let (name, _) = command.iter().next()?.expect("an element");
    Some(name.as_str().to_owned())
}
