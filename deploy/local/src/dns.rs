//! A real name server on loopback (dnsmasq), and how a process is made to ask it.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use crate::install;
use crate::left_out::left_out;
use crate::process::Server;

const START_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// The only port that `resolv.conf` can mean.
const PORT: u16 = 53;

/// A name server that knows some names and asks nobody. Dropped, it is killed.
pub struct Dns {
    server: Server,
    address: Ipv4Addr,
}

impl Dns {
    /// Whether one can be started: a port below 1024 and a `resolv.conf` of a process' own take
    /// root. Says so where not.
    pub fn can_run() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            left_out("a name server takes root, so no SRV record is looked up");
        }
        is_root
    }

    /// Starts one where `service` (such as `_mongodb._tcp.a.example`) has these servers, by name
    /// and port, and each of their names is 127.0.0.1. It takes root: the port is 53, and a process
    /// asks it by a `resolv.conf` of its own.
    pub async fn start(service: &str, servers: &[(&str, u16)]) -> Result<Dns> {
        let packages = tokio::task::spawn_blocking(|| install::require(&["dnsmasq-base"]));
        packages.await??;
        // Another address for each: several may run at the same time.
        let bytes = crate::port::random().to_le_bytes();
        let address = Ipv4Addr::new(127, 1 + bytes[0] % 254, bytes[1], 1 + bytes[2] % 254);
        let mut server = Server::new("dns")?;
        let mut command: Vec<OsString> = [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--user=root",
            "--pid-file=",
            "--log-facility=-",
        ]
        .map(Into::into)
        .into();
        command.push(format!("--listen-address={address}").into());
        // What it does not know of this domain does not exist; else it would refuse to answer.
        let domain = service.rsplit('.').next().unwrap_or(service);
        command.push(format!("--server=/{domain}/").into());
        for (name, port) in servers {
            command.push(format!("--srv-host={service},{name},{port}").into());
            command.push(format!("--address=/{name}/127.0.0.1").into());
        }
        server.command(command);
        server.start()?;
        let mut dns = Dns { server, address };
        std::fs::write(dns.resolv_conf(), format!("nameserver {address}\n"))?;
        dns.ready().await?;
        Ok(dns)
    }

    /// The command that runs `command` with this server for all its names.
    pub fn asked_by(&self, command: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
        let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
        let head: [OsString; 6] = [
            "unshare".into(),
            "--mount".into(),
            "sh".into(),
            "-c".into(),
            script.into(),
            "asks".into(),
        ];
        let mut all = Vec::from(head);
        all.push(self.resolv_conf().into());
        all.extend(command);
        all
    }

    fn resolv_conf(&self) -> PathBuf {
        self.server.directory().join("resolv.conf")
    }

    async fn ready(&mut self) -> Result<()> {
        let end = Instant::now() + START_DEADLINE;
        // It listens by TCP as well.
        while TcpStream::connect((self.address, PORT)).is_err() {
            self.server.check()?;
            ensure!(
                Instant::now() < end,
                "dnsmasq does not listen:\n{}",
                self.server.log_tail()
            );
            sleep(POLL).await;
        }
        Ok(())
    }
}
