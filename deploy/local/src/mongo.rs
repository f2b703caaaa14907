//! Real MongoDB servers on loopback.

mod member;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use mongodb::Client;
use mongodb::bson::{Document, doc};
use tokio::time::{sleep, timeout};

use crate::certificates::ServerCertificate;
use crate::install;
use crate::port;
use crate::process::Server;
use crate::toxiproxy::{Proxy, Toxiproxy};
use member::Member;

/// The user that the service logs in as.
pub const USER: &str = "workflows-sink";
/// The database of that user, `authSource` in a URI.
pub const USER_DATABASE: &str = "users";
/// The database that user may read and write.
pub const DATABASE: &str = "workflows";

const REPLICA_SET: &str = "rs0";
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// A frozen member accepts connections and says nothing.
const HELLO_DEADLINE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(25);

/// How many servers, and how they belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server that has no transactions.
    Standalone,
    /// A replica set with this number of members.
    ReplicaSet(usize),
}

/// What to start.
pub struct MongoOptions {
    /// Default: a replica set of one.
    pub topology: Topology,
    /// With users ([`USER`] and an admin), or open to all.
    pub auth: bool,
    /// Requires TLS of every client.
    pub tls: Option<ServerCertificate>,
    /// Puts a proxy before each server; the set's configuration names the proxies, so clients and
    /// members go through them.
    pub proxies: Option<Toxiproxy>,
    /// The size of the operations log, which is as far as change streams can look back; megabytes,
    /// at least 990.
    pub oplog_mb: u32,
    /// `--setParameter` arguments. Fail points (`enableTestCommands=1`) are always on.
    pub parameters: Vec<String>,
}

impl Default for MongoOptions {
    fn default() -> Self {
        MongoOptions {
            topology: Topology::ReplicaSet(1),
            auth: false,
            tls: None,
            proxies: None,
            oplog_mb: 990,
            parameters: vec![],
        }
    }
}

/// Running servers. Dropped, they are killed and their data removed.
pub struct Mongo {
    members: Vec<Member>,
    topology: Topology,
    /// Of [`USER`] and of the admin, when authentication is on.
    passwords: Option<(String, String)>,
    tls: Option<ServerCertificate>,
}

impl Mongo {
    /// Starts the servers, and returns when there is a primary and the users exist.
    pub async fn start(options: MongoOptions) -> Result<Mongo> {
        let mongod = tokio::task::spawn_blocking(install::mongod).await??;
        let count = match options.topology {
            Topology::Standalone => 1,
            Topology::ReplicaSet(members) => members,
        };
        ensure!(
            (1..=7).contains(&count),
            "a replica set has 1 to 7 members that vote"
        );
        let key = options.auth.then(secret);
        let members = (0..count)
            .map(|_| Member::new(&mongod, &options, key.as_deref()))
            .collect::<Result<_>>()?;
        let mut mongo = Mongo {
            members,
            topology: options.topology,
            passwords: None,
            tls: options.tls,
        };
        for member in &mut mongo.members {
            member.server.start()?;
        }
        for member in 0..count {
            mongo.wait_for(member, |_| true).await?;
        }
        if matches!(mongo.topology, Topology::ReplicaSet(_)) {
            mongo.initiate().await?;
        }
        if options.auth {
            mongo.create_users().await?;
        }
        Ok(mongo)
    }

    /// The URI that the service is given: as [`USER`] with its password, or without a user when
    /// authentication is off.
    pub fn uri(&self) -> String {
        match &self.passwords {
            Some((password, _)) => self.uri_as(USER, password, USER_DATABASE),
            None => self.compose("", ""),
        }
    }

    /// [`Mongo::uri`] without the password.
    pub fn uri_without_password(&self) -> String {
        match &self.passwords {
            Some(_) => self.compose(&format!("{USER}@"), &format!("authSource={USER_DATABASE}")),
            None => self.uri(),
        }
    }

    /// The password of [`USER`], when authentication is on.
    pub fn password(&self) -> Option<&str> {
        self.passwords
            .as_ref()
            .map(|(password, _)| password.as_str())
    }

    /// The URI of the user who may do everything.
    pub fn admin_uri(&self) -> String {
        match &self.passwords {
            Some((_, password)) => self.uri_as("admin", password, "admin"),
            None => self.uri(),
        }
    }

    /// The URI of another user, whose name and password need no percent-encoding.
    pub fn uri_as(&self, user: &str, password: &str, auth_source: &str) -> String {
        self.compose(
            &format!("{user}:{password}@"),
            &format!("authSource={auth_source}"),
        )
    }

    /// A client with [`Mongo::uri`].
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::with_uri_str(self.uri()).await?)
    }

    /// A client who may do everything.
    pub async fn admin(&self) -> Result<Client> {
        Ok(Client::with_uri_str(self.admin_uri()).await?)
    }

    /// An admin's client of one member, whatever its state.
    pub async fn direct(&self, member: usize) -> Result<Client> {
        let uri = match &self.passwords {
            Some((_, password)) => self.compose_for(
                &self.members[member].host(),
                &format!("admin:{password}@"),
                "authSource=admin&directConnection=true",
            ),
            None => self.compose_for(&self.members[member].host(), "", "directConnection=true"),
        };
        Ok(Client::with_uri_str(uri).await?)
    }

    /// How many servers.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// `127.0.0.1:PORT` of a member, or of the proxy before it.
    pub fn host(&self, member: usize) -> String {
        let member = &self.members[member];
        member
            .proxy
            .as_ref()
            .map_or_else(|| member.host(), Proxy::host)
    }

    /// The proxy before a member, if the options asked for proxies.
    pub fn proxy(&self, member: usize) -> Option<&Proxy> {
        self.members[member].proxy.as_ref()
    }

    /// A member's process, to freeze, thaw or look at.
    pub fn server(&mut self, member: usize) -> &mut Server {
        &mut self.members[member].server
    }

    /// SIGKILL to a member.
    pub fn kill(&mut self, member: usize) -> Result<()> {
        self.members[member].server.kill()
    }

    /// SIGTERM to a member, and waits for its end.
    pub async fn stop(&mut self, member: usize) -> Result<()> {
        self.members[member].server.stop(STOP_DEADLINE).await
    }

    /// SIGSTOP to a member.
    pub fn freeze(&self, member: usize) -> Result<()> {
        self.members[member].server.freeze()
    }

    /// SIGCONT to a member.
    pub fn thaw(&self, member: usize) -> Result<()> {
        self.members[member].server.thaw()
    }

    /// Starts a member that was killed or stopped, on its port and with its data, and waits until
    /// it answers as primary or secondary.
    pub async fn restart(&mut self, member: usize) -> Result<()> {
        self.members[member].server.start()?;
        self.wait_for(member, |hello| {
            flag(hello, "isWritablePrimary") || flag(hello, "secondary")
        })
        .await
    }

    /// The member that is primary, as soon as there is one.
    pub async fn primary(&mut self) -> Result<usize> {
        let end = Instant::now() + START_DEADLINE;
        loop {
            for member in 0..self.members.len() {
                if let Some(hello) = self.hello(member).await
                    && flag(&hello, "isWritablePrimary")
                {
                    return Ok(member);
                }
            }
            if Instant::now() > end {
                bail!(
                    "no primary after {START_DEADLINE:?}: {}",
                    self.members[0].server.log_tail()
                );
            }
            sleep(POLL).await;
        }
    }

    fn compose(&self, user: &str, option: &str) -> String {
        let hosts: Vec<_> = (0..self.members.len())
            .map(|member| self.host(member))
            .collect();
        let set = match self.topology {
            Topology::Standalone => String::new(),
            Topology::ReplicaSet(_) => format!("replicaSet={REPLICA_SET}"),
        };
        let options = [set.as_str(), option]
            .iter()
            .filter(|text| !text.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("&");
        self.compose_for(&hosts.join(","), user, &options)
    }

    fn compose_for(&self, hosts: &str, user: &str, options: &str) -> String {
        let tls = self
            .tls
            .as_ref()
            .map(|tls| format!("&tls=true&tlsCAFile={}", tls.ca.display()));
        format!(
            "mongodb://{user}{hosts}/{DATABASE}?{options}{}",
            tls.unwrap_or_default()
        )
    }

    async fn initiate(&mut self) -> Result<()> {
        let members: Vec<Document> = (0..self.members.len())
            .map(|member| doc! { "_id": member as i32, "host": self.host(member) })
            .collect();
        // Elections in about a second: the default of ten makes every test of one slow.
        let settings = doc! { "electionTimeoutMillis": 1_000, "heartbeatIntervalMillis": 250 };
        let config = doc! { "_id": REPLICA_SET, "members": members, "settings": settings };
        self.direct_anonymous(0)
            .await?
            .database("admin")
            .run_command(doc! { "replSetInitiate": config })
            .await?;
        self.primary().await?;
        for member in 0..self.members.len() {
            self.wait_for(member, |hello| {
                flag(hello, "isWritablePrimary") || flag(hello, "secondary")
            })
            .await?;
        }
        Ok(())
    }

    async fn create_users(&mut self) -> Result<()> {
        let (password, admin_password) = (secret(), secret());
        let primary = self.primary().await?;
        // The localhost exception: while there is no user, a local connection may create the first
        // one.
        let first = doc! { "createUser": "admin", "pwd": &admin_password, "roles": ["root"] };
        self.direct_anonymous(primary)
            .await?
            .database("admin")
            .run_command(first)
            .await?;
        self.passwords = Some((password.clone(), admin_password));
        let role = doc! { "role": "readWrite", "db": DATABASE };
        let user = doc! { "createUser": USER, "pwd": password, "roles": [role], "writeConcern": { "w": "majority" } };
        self.admin()
            .await?
            .database(USER_DATABASE)
            .run_command(user)
            .await?;
        Ok(())
    }

    async fn direct_anonymous(&self, member: usize) -> Result<Client> {
        let host = self.members[member].host();
        Ok(Client::with_uri_str(self.compose_for(&host, "", "directConnection=true")).await?)
    }

    async fn wait_for(
        &mut self,
        member: usize,
        condition: impl Fn(&Document) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + START_DEADLINE;
        loop {
            self.members[member].server.check()?;
            if self
                .hello(member)
                .await
                .is_some_and(|hello| condition(&hello))
            {
                return Ok(());
            }
            if Instant::now() > end {
                bail!(
                    "mongod is not ready after {START_DEADLINE:?}:\n{}",
                    self.members[member].server.log_tail()
                );
            }
            sleep(POLL).await;
        }
    }

    /// What a member says of itself, to anybody; `None` if it does not answer.
    async fn hello(&mut self, member: usize) -> Option<Document> {
        if !self.members[member].server.running().ok()?
            || !listening(self.members[member].port).await
        {
            return None;
        }
        let client = self.direct_anonymous(member).await.ok()?;
        let hello = timeout(
            HELLO_DEADLINE,
            client.database("admin").run_command(doc! { "hello": 1 }),
        )
        .await;
        client.shutdown().immediate(true).await;
        hello.ok()?.ok()
    }
}

async fn listening(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_ok()
}

fn flag(hello: &Document, name: &str) -> bool {
    hello.get_bool(name).unwrap_or(false)
}

/// 32 hex digits that differ from run to run.
fn secret() -> String {
    format!("{:016x}{:016x}", port::random(), port::random())
}
