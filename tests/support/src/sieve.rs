//! A relay before a broker that can withhold records: on the connections that are open by then every
//! fetch is answered with nothing, without an error, and all else as it is. So a client sees that a
//! log goes on, and never gets what stands there.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

const FETCH: u16 = 1;

/// From this version on, requests and answers have tagged fields (KIP-482).
const FETCH_TAGGED: u16 = 12;

/// An answer of Fetch behind its correlation id: no tagged fields of the header; no throttling, error
/// or session (4, 2 and 4 bytes); no topics, no tagged fields.
const NOTHING: [u8; 13] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/// How long an answer with nothing is held back, as by a broker, so that the client does not spin.
const NOTHING_AFTER: Duration = Duration::from_millis(100);

/// The relay. Its connections end with the runtime.
pub struct Sieve {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// How many connections there were.
    opened: AtomicU64,
    /// Those before this one get no records.
    withheld_before: AtomicU64,
    /// How many fetches were answered with nothing.
    withheld: AtomicU64,
}

impl Sieve {
    /// Relays between `listener` and the broker at `upstream`.
    pub fn start(listener: TcpListener, upstream: String) -> Sieve {
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared::default());
        let of_it = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (shared, upstream) = (Arc::clone(&of_it), upstream.clone());
                let number = shared.opened.fetch_add(1, SeqCst);
                tokio::spawn(async move {
                    // Either side may go away at any time.
                    let _ = relay(client, &upstream, number, &shared).await;
                });
            }
        });
        Sieve { port, shared }
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Withholds records from the connections that are open now.
    pub fn withhold(&self) {
        let opened = self.shared.opened.load(SeqCst);
        self.shared.withheld_before.store(opened, SeqCst);
    }

    /// How many fetches were answered with nothing.
    pub fn withheld(&self) -> u64 {
        self.shared.withheld.load(SeqCst)
    }
}

async fn relay(client: TcpStream, upstream: &str, number: u64, shared: &Shared) -> io::Result<()> {
    let broker = TcpStream::connect(upstream).await?;
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    // The fetches under way, by correlation id, and their version.
    let fetches = Mutex::new(HashMap::new());
    tokio::select! {
        ended = requests(from_client, to_broker, &fetches) => ended,
        ended = answers(from_broker, to_client, &fetches, number, shared) => ended,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    fetches: &Mutex<HashMap<[u8; 4], u16>>,
) -> io::Result<()> {
    loop {
        let request = message(&mut from).await?;
        // Behind the length: key and version of the request, correlation id.
        let head: &[u8; 12] = request.first_chunk().expect("a head");
        let &[_, _, _, _, key_high, key_low, high, low, id @ ..] = head;
        if u16::from_be_bytes([key_high, key_low]) == FETCH {
            let version = u16::from_be_bytes([high, low]);
            fetches.lock().expect("no panic").insert(id, version);
        }
        to.write_all(&request).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    fetches: &Mutex<HashMap<[u8; 4], u16>>,
    number: u64,
    shared: &Shared,
) -> io::Result<()> {
    loop {
        let mut answer = message(&mut from).await?;
        let id = *answer[4..].first_chunk().expect("a correlation id");
        let fetch = fetches.lock().expect("no panic").remove(&id);
        if let Some(version) = fetch
            && number < shared.withheld_before.load(SeqCst)
        {
            assert!(version >= FETCH_TAGGED, "another form of Fetch: {version}");
            tokio::time::sleep(NOTHING_AFTER).await;
            answer = ((id.len() + NOTHING.len()) as u32).to_be_bytes().to_vec();
            answer.extend(id);
            answer.extend(NOTHING);
            shared.withheld.fetch_add(1, SeqCst);
        }
        to.write_all(&answer).await?;
    }
}

/// The next message, with its length before it.
async fn message(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message).await?;
    let length = u32::from_be_bytes(*message.first_chunk().expect("four bytes"));
    message.resize(4 + length as usize, 0);
    from.read_exact(&mut message[4..]).await?;
    Ok(message)
}
