//! A TCP proxy that knows the frames of MongoDB's protocol: it can lose a command, lose only its
//! answer, or hold it until the test has looked around.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::{Document, RawDocument};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::wire::{body, frame, message};

/// What becomes of a command.
#[derive(Clone, Debug)]
pub enum Act {
    Pass,
    /// The connection breaks before the server has seen the command.
    LoseCommand,
    /// The server runs the command, and the connection breaks before its answer is through.
    LoseAnswer,
    /// The command waits for [`Proxy::release`].
    Hold,
    /// The command arrives late.
    Delay(Duration),
    /// The server never sees the command, and this is the answer.
    Answer(Document),
}

/// A command on its way to the server.
pub struct Command<'a> {
    pub name: &'a str,
    body: &'a RawDocument,
}

impl Command<'_> {
    /// How many writes an `update` holds.
    pub fn writes(&self) -> u32 {
        let updates = self.body.get_array("updates");
        updates.map_or(0, |updates| updates.into_iter().count() as u32)
    }

    /// Everything in it, to be searched.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.body.as_bytes())
    }

    /// The collection that an `update` writes to.
    pub fn collection(&self) -> &str {
        self.body.get_str(self.name).unwrap_or_default()
    }
}

type Rule = Box<dyn FnMut(Command<'_>) -> Act + Send>;

/// Stands between one client and one server.
pub struct Proxy {
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    rule: Mutex<Rule>,
    held: watch::Sender<usize>,
    released: Semaphore,
}

impl Proxy {
    pub async fn to(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            rule: Mutex::new(Box::new(|_| Act::Pass)),
            held: watch::Sender::new(0),
            released: Semaphore::new(0),
        });
        let (server, connections) = (server.to_owned(), Arc::clone(&shared));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, shared) = (server.clone(), Arc::clone(&connections));
                tokio::spawn(async move { carry(client, &server, &shared).await });
            }
        });
        Proxy { address, shared }
    }

    /// From now on every command that runs in a session is judged by `rule`.
    /// Handshakes and heartbeats always pass.
    pub fn judge(&self, rule: impl FnMut(Command<'_>) -> Act + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// Does this to the `nth` command from now on, counted from 0; all others pass.
    pub fn at(&self, nth: usize, act: Act) {
        let mut acts = std::iter::repeat_n(Act::Pass, nth).chain([act]);
        self.judge(move |_| acts.next().unwrap_or(Act::Pass));
    }

    /// From now on each write of an update takes so long.
    pub fn delay_updates(&self, each: Duration) {
        self.judge(move |command| match command.name {
            "update" => Act::Delay(command.writes() * each),
            _ => Act::Pass,
        });
    }

    /// Loses every command from now on: the client is dead, or cut off.
    pub fn sever(&self) {
        self.judge(|_| Act::LoseCommand);
    }

    /// Waits until `n` commands have been held.
    pub async fn held(&self, n: usize) {
        let mut held = self.shared.held.subscribe();
        super::soon("a command is held", held.wait_for(|held| *held >= n))
            .await
            .unwrap();
    }

    /// Lets one held command go on.
    pub fn release(&self) {
        self.shared.released.add_permits(1);
    }
}

async fn carry(client: TcpStream, server: &str, shared: &Shared) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let ((mut from_client, to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let to_client = tokio::sync::Mutex::new(to_client);
    let lose_answer = Mutex::new(false);
    // Whichever way ends first takes the other with it: both sockets close.
    let _ = tokio::select! {
        ended = up(&mut from_client, &mut to_server, &to_client, shared, &lose_answer) => ended,
        ended = down(&mut from_server, &to_client, &lose_answer) => ended,
    };
}

async fn up(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    back: &tokio::sync::Mutex<OwnedWriteHalf>,
    shared: &Shared,
    lose_answer: &Mutex<bool>,
) -> io::Result<()> {
    loop {
        let frame = frame(from).await?;
        let act = in_session(&frame).map(|command| (shared.rule.lock().unwrap())(command));
        match act.unwrap_or(Act::Pass) {
            Act::Pass => {}
            Act::LoseCommand => return Ok(()),
            Act::LoseAnswer => *lose_answer.lock().unwrap() = true,
            Act::Hold => {
                shared.held.send_modify(|held| *held += 1);
                match shared.released.acquire().await {
                    Ok(permit) => permit.forget(),
                    Err(_) => return Ok(()),
                }
            }
            Act::Delay(time) => tokio::time::sleep(time).await,
            Act::Answer(answer) => {
                back.lock()
                    .await
                    .write_all(&message(&frame[4..8], &answer))
                    .await?;
                continue;
            }
        }
        to.write_all(&frame).await?;
    }
}

async fn down(
    from: &mut OwnedReadHalf,
    to: &tokio::sync::Mutex<OwnedWriteHalf>,
    lose_answer: &Mutex<bool>,
) -> io::Result<()> {
    loop {
        let frame = frame(from).await?;
        if *lose_answer.lock().unwrap() {
            return Ok(());
        }
        to.lock().await.write_all(&frame).await?;
    }
}

/// The command in a frame, if it runs in a session.
fn in_session(frame: &[u8]) -> Option<Command<'_>> {
    let body = body(frame)?;
    body.get("lsid").ok()??;
    let (name, _) = body.iter().next()?.ok()?;
    Some(Command {
        name: name.as_str(),
        body,
    })
}
