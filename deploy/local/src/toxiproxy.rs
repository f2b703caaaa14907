//! Toxiproxy: TCP proxies before the servers, which delay, cut, reset and lose what passes.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::install;
use crate::port;
use crate::process::Server;

const START_DEADLINE: Duration = Duration::from_secs(10);
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Upstream,
    /// From the server to the client.
    Downstream,
}

/// The program, of which each proxy runs one of its own: one that hangs must not hold up the
/// others.
#[derive(Clone)]
pub struct Toxiproxy {
    program: PathBuf,
}

impl Toxiproxy {
    /// Installs it, if need be.
    pub fn install() -> Result<Toxiproxy> {
        Ok(Toxiproxy {
            program: install::toxiproxy()?,
        })
    }

    /// A proxy on a free port before `upstream`, as `host:port`. Dropped with all its clones, it is
    /// killed.
    pub fn proxy(&self, name: &str, upstream: &str) -> Result<Proxy> {
        self.proxy_at(name, Ipv4Addr::LOCALHOST, port::free()?, upstream)
    }

    /// As [`Toxiproxy::proxy`], at an address and a port of the caller's choice.
    pub fn proxy_at(
        &self,
        name: &str,
        address: Ipv4Addr,
        port: u16,
        upstream: &str,
    ) -> Result<Proxy> {
        let api_port = port::free()?.to_string();
        let mut server = Server::new("toxiproxy")?;
        server.command([
            self.program.as_os_str(),
            "-host".as_ref(),
            "127.0.0.1".as_ref(),
            "-port".as_ref(),
            api_port.as_ref(),
        ]);
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_DEADLINE))
            .build();
        let proxy = Proxy {
            server: Arc::new(Mutex::new(server)),
            agent: agent.into(),
            api: format!("http://127.0.0.1:{api_port}"),
            name: name.to_owned(),
            address,
            port,
            upstream: upstream.to_owned(),
        };
        proxy.heal()?;
        Ok(proxy)
    }
}

/// One proxy. Clones are the same one.
#[derive(Clone)]
pub struct Proxy {
    server: Arc<Mutex<Server>>,
    agent: ureq::Agent,
    api: String,
    name: String,
    address: Ipv4Addr,
    port: u16,
    upstream: String,
}

impl Proxy {
    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` of where it listens, on loopback.
    pub fn host(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }

    /// Delays what comes back, by `delay` give or take `jitter`.
    pub fn latency(&self, delay: Duration, jitter: Duration) -> Result<()> {
        let attributes =
            json!({ "latency": delay.as_millis() as u64, "jitter": jitter.as_millis() as u64 });
        self.toxic("latency", Direction::Downstream, attributes)
    }

    /// Resets connections, open and new ones, once they are `after` old.
    pub fn reset(&self, after: Duration) -> Result<()> {
        let attributes = json!({ "timeout": after.as_millis() as u64 });
        self.toxic("reset_peer", Direction::Downstream, attributes)
    }

    /// Cuts each connection when `bytes` have come back on it.
    pub fn cut_after(&self, bytes: u64) -> Result<()> {
        self.toxic(
            "limit_data",
            Direction::Downstream,
            json!({ "bytes": bytes }),
        )
    }

    /// Swallows what goes one way, and lets the other pass.
    pub fn black_hole(&self, direction: Direction) -> Result<()> {
        self.toxic("timeout", direction, json!({ "timeout": 0 }))
    }

    /// Ends all connections and refuses new ones.
    pub fn down(&self) -> Result<()> {
        let disabled = json!({ "enabled": false });
        self.post(&format!("/proxies/{}", self.name), &disabled)
    }

    /// Lets everything pass again, on new connections: what was swallowed on the old ones is lost.
    ///
    /// The process is restarted: toxiproxy waits forever on a connection whose client does not
    /// read.
    pub fn heal(&self) -> Result<()> {
        self.start()?;
        self.create(true)
    }

    fn start(&self) -> Result<()> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.kill()?;
        server.start()?;
        let end = Instant::now() + START_DEADLINE;
        while let Err(error) = self.agent.get(format!("{}/version", self.api)).call() {
            ensure!(Instant::now() < end, "toxiproxy does not answer: {error}");
            server.check()?;
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn create(&self, enabled: bool) -> Result<()> {
        let (listen, upstream) = (self.host(), &self.upstream);
        let proxy = json!({ "name": self.name, "listen": listen, "upstream": upstream, "enabled": enabled });
        self.post("/proxies", &proxy)
    }

    fn toxic(&self, kind: &str, direction: Direction, attributes: Value) -> Result<()> {
        let stream = match direction {
            Direction::Upstream => "upstream",
            Direction::Downstream => "downstream",
        };
        let toxic = json!({ "name": kind, "type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes });
        let path = format!("/proxies/{}/toxics", self.name);
        if self.post(&path, &toxic).is_ok() {
            return Ok(());
        }
        // It hangs on one of its connections: the toxic is there before there is any.
        self.start()?;
        self.create(false)?;
        self.post(&path, &toxic)?;
        self.post(
            &format!("/proxies/{}", self.name),
            &json!({ "enabled": true }),
        )
    }

    fn post(&self, path: &str, body: &Value) -> Result<()> {
        self.agent
            .post(format!("{}{path}", self.api))
            .send_json(body)
            .with_context(|| format!("toxiproxy refuses {path}"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A server that sends back whatever comes.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut reader = stream.try_clone().unwrap();
                    std::io::copy(&mut reader, &mut &stream)
                });
            }
        });
        address
    }

    /// How long to wait for what must come, and for what must not.
    const ANSWER: Duration = Duration::from_secs(10);
    const SILENCE: Duration = Duration::from_millis(300);

    fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.host()).unwrap()
    }

    /// What comes back of `bytes` bytes, until the end or an error.
    fn sent_back(stream: &mut TcpStream, bytes: usize) -> usize {
        sent_back_within(ANSWER, stream, bytes)
    }

    /// The same, or until nothing has come for so long.
    fn sent_back_within(silence: Duration, stream: &mut TcpStream, bytes: usize) -> usize {
        stream.set_read_timeout(Some(silence)).unwrap();
        let (mut buffer, mut back) = (vec![7; bytes], 0);
        if stream.write_all(&buffer).is_err() {
            return 0;
        }
        while back < bytes {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => back += read,
            }
        }
        back
    }

    #[test]
    fn a_client_that_does_not_read_is_no_obstacle() {
        let toxiproxy = Toxiproxy::install().unwrap();
        let proxy = toxiproxy.proxy("echo", &echo()).unwrap();
        let deaf = connect(&proxy);
        let stuck = Duration::from_millis(500);
        deaf.set_write_timeout(Some(stuck)).unwrap();
        while (&deaf).write(&[7; 65_536]).is_ok() {}
        proxy.reset(Duration::ZERO).unwrap();
        assert_eq!(sent_back(&mut connect(&proxy), 100), 0);
        proxy.heal().unwrap();
        assert_eq!(sent_back(&mut connect(&proxy), 100), 100);
    }

    #[test]
    fn each_fault_does_what_it_says_and_heals() {
        let toxiproxy = Toxiproxy::install().unwrap();
        let proxy = toxiproxy.proxy("echo", &echo()).unwrap();
        assert_eq!(sent_back(&mut connect(&proxy), 100), 100);

        let mut open = connect(&proxy);
        assert_eq!(sent_back(&mut open, 10), 10);
        proxy.down().unwrap();
        assert!(TcpStream::connect(proxy.host()).is_err());
        assert_eq!(sent_back(&mut open, 10), 0);
        proxy.heal().unwrap();
        assert_eq!(sent_back(&mut connect(&proxy), 100), 100);

        proxy.cut_after(60).unwrap();
        assert_eq!(sent_back(&mut connect(&proxy), 100), 60);
        proxy.heal().unwrap();

        for direction in [Direction::Upstream, Direction::Downstream] {
            proxy.black_hole(direction).unwrap();
            let mut open = connect(&proxy);
            assert_eq!(sent_back_within(SILENCE, &mut open, 100), 0);
            proxy.heal().unwrap();
            assert_eq!(sent_back(&mut open, 100), 0, "that connection is gone");
        }

        proxy
            .latency(Duration::from_secs(60), Duration::ZERO)
            .unwrap();
        let silent = sent_back_within(SILENCE, &mut connect(&proxy), 100);
        assert_eq!(silent, 0);
        proxy.heal().unwrap();

        proxy.reset(Duration::ZERO).unwrap();
        assert_eq!(sent_back(&mut connect(&proxy), 100), 0);
        proxy.heal().unwrap();
        assert_eq!(sent_back(&mut connect(&proxy), 100), 100);
    }
}
