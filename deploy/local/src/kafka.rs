//! A real Kafka broker on loopback: one process that is broker and controller (KRaft).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rdkafka::ClientConfig;
use tokio::time::sleep;

use crate::certificates::ServerCertificate;
use crate::jvm::{Jvm, QUICK};
use crate::port;
use crate::process::Server;
use crate::topics::Topics;

const START_DEADLINE: Duration = Duration::from_secs(90);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// What the cleaner of compacted logs maps keys in: 128 MiB otherwise, cleared for each log.
pub(crate) const LITTLE_MEMORY: &str = "log.cleaner.dedupe.buffer.size=2097152";
const SCRAM: &str = "SCRAM-SHA-512";

/// What to start.
#[derive(Default)]
pub struct KafkaOptions {
    /// Broker properties beyond the usual ones, such as `message.max.bytes`.
    pub properties: Vec<(String, String)>,
    /// Encrypts the second listener, [`Kafka::secured`].
    pub tls: Option<ServerCertificate>,
    /// Users (name, password) that the second listener asks for, by SCRAM-SHA-512.
    pub users: Vec<(String, String)>,
    /// The port of a relay: the clients of a listener of its own, [`Kafka::behind_relay`], are sent
    /// there.
    pub relay: Option<u16>,
    /// Runs long enough to be worth optimising, as a broker in production is.
    pub optimised: bool,
}

/// A running broker. Dropped, it is killed and its data removed.
pub struct Kafka {
    server: Server,
    jvm: Jvm,
    port: u16,
    secured_port: Option<u16>,
    relayed_port: Option<u16>,
}

impl Kafka {
    /// Starts the broker, and returns when it can create topics.
    pub async fn start(options: KafkaOptions) -> Result<Kafka> {
        Kafka::start_on(Jvm::installed().await?, options).await
    }

    pub(crate) async fn start_on(jvm: Jvm, options: KafkaOptions) -> Result<Kafka> {
        let mut server = Server::new("kafka")?;
        let port = port::free()?;
        let secured_port = (options.tls.is_some() || !options.users.is_empty())
            .then(port::free)
            .transpose()?;
        let relayed_port = options.relay.map(|_| port::free()).transpose()?;
        let properties = server.directory().join("server.properties");
        let data = server.directory().join("data");
        std::fs::write(
            &properties,
            server_properties(&options, port, secured_port, relayed_port, &data)?,
        )?;
        std::fs::write(
            server.directory().join("log4j2.properties"),
            include_str!("../log4j2.properties"),
        )?;
        let mut line = jvm.line(
            server.directory(),
            "kafka.Kafka",
            &[&properties.to_string_lossy()],
        );
        line.retain(|argument| !(options.optimised && argument == QUICK));
        server.command(line);
        let mut kafka = Kafka {
            server,
            jvm,
            port,
            secured_port,
            relayed_port,
        };
        kafka.format(&options, &properties).await?;
        kafka.server.start()?;
        kafka.ready().await?;
        Ok(kafka)
    }

    /// `host:port` of the plain listener.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` of the listener with TLS, SCRAM or both; there is one if the options asked for
    /// either.
    pub fn secured(&self) -> Option<String> {
        self.secured_port.map(|port| format!("127.0.0.1:{port}"))
    }

    /// `host:port` of the listener whose clients go by the relay; there is one if the options named
    /// a relay.
    pub fn behind_relay(&self) -> Option<String> {
        self.relayed_port.map(|port| format!("127.0.0.1:{port}"))
    }

    /// A client configuration with nothing but the plain listener.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config
    }

    /// Topics of this broker.
    pub fn topics(&self) -> Result<Topics> {
        Topics::new(&self.bootstrap())
    }

    /// The process, to look at.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) -> Result<()> {
        self.server.stop(STOP_DEADLINE).await
    }

    /// SIGSTOP.
    pub fn freeze(&self) -> Result<()> {
        self.server.freeze()
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.server.thaw()
    }

    /// Starts it after a kill or stop, on the same ports and with its data.
    pub async fn restart(&mut self) -> Result<()> {
        self.server.start()?;
        self.ready().await
    }

    /// The command line of one of Kafka's own tools, by class, for a person to type.
    pub fn tool_line(&self, class: &str, arguments: &[&str]) -> String {
        format!(
            "java -cp '{}/*' {class} --bootstrap-server {} {}",
            self.jvm.jars().display(),
            self.bootstrap(),
            arguments.join(" ")
        )
    }

    /// Puts into `folder` what Kafka's own scripts are called, to be looked for on a `PATH`.
    pub fn scripts(&self, folder: &Path) -> Result<()> {
        for (name, class) in [
            ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
            ("kafka-configs.sh", "kafka.admin.ConfigCommand"),
            ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
        ] {
            let line = self.jvm.line(self.server.directory(), class, &[]);
            let text = format!("#!/bin/sh\nexec '{}' \"$@\"\n", line.join("' '"));
            let script = folder.join(name);
            std::fs::write(&script, text)?;
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Runs one of Kafka's own tools against the plain listener and returns what it printed.
    pub async fn tool(&self, class: &str, arguments: &[&str]) -> Result<String> {
        let bootstrap = self.bootstrap();
        self.run(
            class,
            &[&["--bootstrap-server", &bootstrap], arguments].concat(),
        )
        .await
    }

    async fn format(&self, options: &KafkaOptions, properties: &Path) -> Result<()> {
        let cluster = cluster_id();
        let properties = properties.to_string_lossy();
        let credentials: Vec<String> = options
            .users
            .iter()
            .map(|(user, password)| format!("{SCRAM}=[name={user},password={password}]"))
            .collect();
        let mut arguments = vec!["format", "--cluster-id", &cluster, "--config", &properties];
        for credential in &credentials {
            arguments.extend(["--add-scram", credential]);
        }
        self.run("kafka.tools.StorageTool", &arguments)
            .await
            .map(drop)
    }

    async fn run(&self, class: &str, arguments: &[&str]) -> Result<String> {
        self.jvm
            .run(self.server.directory(), class, arguments)
            .await
    }

    async fn ready(&mut self) -> Result<()> {
        let end = Instant::now() + START_DEADLINE;
        // A client that meets a closed port backs off: do not let it.
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .is_err()
        {
            self.server.check()?;
            ensure!(
                Instant::now() < end,
                "kafka does not listen after {START_DEADLINE:?}:\n{}",
                self.server.log_tail()
            );
            sleep(POLL).await;
        }
        let topics = self.topics()?;
        loop {
            self.server.check()?;
            match topics.can_create().await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > end => {
                    bail!("kafka is not ready: {error}\n{}", self.server.log_tail())
                }
                Err(_) => sleep(POLL).await,
            }
        }
    }
}

fn server_properties(
    options: &KafkaOptions,
    port: u16,
    secured: Option<u16>,
    relayed: Option<u16>,
    data: &Path,
) -> Result<String> {
    let controller = port::free()?;
    let data = data.display();
    let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
    let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
    let mut security = String::new();
    if let Some(secured) = secured {
        listeners += &format!(",SECURED://127.0.0.1:{secured}");
        protocols += match (&options.tls, options.users.is_empty()) {
            (Some(_), true) => ",SECURED:SSL",
            (Some(_), false) => ",SECURED:SASL_SSL",
            (None, _) => ",SECURED:SASL_PLAINTEXT",
        };
    }
    let mut advertised = listeners.clone();
    if let (Some(relayed), Some(relay)) = (relayed, options.relay) {
        listeners += &format!(",RELAYED://127.0.0.1:{relayed}");
        advertised += &format!(",RELAYED://127.0.0.1:{relay}");
        protocols += ",RELAYED:PLAINTEXT";
    }
    if let Some(tls) = &options.tls {
        let (key, ca) = (tls.key_and_certificate.display(), tls.ca.display());
        security += &format!("ssl.keystore.type=PEM\nssl.keystore.location={key}\n");
        security += &format!("ssl.truststore.type=PEM\nssl.truststore.location={ca}\n");
    }
    if !options.users.is_empty() {
        let login = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let mechanism = SCRAM.to_lowercase();
        security += &format!(
            "sasl.enabled.mechanisms={SCRAM}\nlistener.name.secured.{mechanism}.sasl.jaas.config={login}\n"
        );
    }
    let extra: String = options
        .properties
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    Ok(format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised}
listener.security.protocol.map={protocols}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
{LITTLE_MEMORY}
{security}{extra}"
    ))
}

/// 16 random bytes as Kafka writes them: 22 characters of URL-safe base64, of which the last
/// carries two bits. The first is not `-`, which the tool would take for an option.
pub(crate) fn cluster_id() -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut digits: Vec<u8> = (0..21)
        .map(|_| DIGITS[(port::random() % 62) as usize])
        .collect();
    digits.push(b'A');
    String::from_utf8_lossy(&digits).into_owned()
}
