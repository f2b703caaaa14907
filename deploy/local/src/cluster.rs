//! Several Kafka brokers on loopback, each broker and controller: what is needed to lose one of
//! them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::Metadata;
use serde_json::json;
use tokio::time::sleep;

use crate::jvm::Jvm;
use crate::kafka::{LITTLE_MEMORY, cluster_id};
use crate::links::{self, Links, Ports};
use crate::port;
use crate::process::Server;
use crate::topics::Topics;
use crate::toxiproxy::{Proxy, Toxiproxy};

const START_DEADLINE: Duration = Duration::from_secs(180);
const METADATA_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
const OFFSETS_PARTITIONS: i32 = 4;

struct Broker {
    server: Server,
    /// Of the listener that tools and undisturbed clients use.
    port: u16,
    /// Before the listener of the clients that are to be disturbed.
    proxy: Proxy,
}

/// Running brokers. Dropped, they are killed and their data removed.
pub struct Cluster {
    brokers: Vec<Broker>,
    links: Links,
    jvm: Jvm,
}

impl Cluster {
    /// Starts `count` brokers, each behind a proxy, and returns when topics can be created on all.
    pub async fn start(count: usize, toxiproxy: &Toxiproxy) -> Result<Cluster> {
        let jvm = Jvm::installed().await?;
        let id = cluster_id();
        let ports = || {
            Ok(Ports {
                internal: port::free()?,
                controller: port::free()?,
            })
        };
        let nodes = (0..count).map(|_| ports()).collect::<Result<Vec<_>>>()?;
        let links = Links::start(toxiproxy, &nodes)?;
        let voters: Vec<String> = (nodes.iter().enumerate())
            .map(|(index, ports)| {
                format!("{}@{}:{}", index + 1, links::name(index), ports.controller)
            })
            .collect();
        let mut brokers = Vec::new();
        for (index, ports) in nodes.iter().enumerate() {
            let Ports {
                internal,
                controller,
            } = ports;
            let (port, behind) = (port::free()?, port::free()?);
            let mut server = Server::new("kafka")?;
            let name = format!("kafka-{}-{port}", index + 1);
            let proxy = toxiproxy.proxy(&name, &format!("127.0.0.1:{behind}"))?;
            let directory = server.directory().to_owned();
            let properties = directory.join("server.properties");
            let listeners = format!(
                "PLAINTEXT://127.0.0.1:{port},CLIENT://127.0.0.1:{behind},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}"
            );
            let name = links::name(index);
            let advertised = format!(
                "PLAINTEXT://127.0.0.1:{port},CLIENT://{},INTERNAL://{name}:{internal},CONTROLLER://{name}:{controller}",
                proxy.host()
            );
            let (voters, replicas, data) = (voters.join(","), count.min(3), directory.join("data"));
            let in_sync = replicas.div_ceil(2);
            std::fs::write(
                &properties,
                format!(
                    "process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.quorum.election.timeout.ms=1000
controller.quorum.fetch.timeout.ms=2000
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.socket.timeout.ms=10000
replica.socket.timeout.ms=10000
leader.imbalance.check.interval.seconds=1
leader.imbalance.per.broker.percentage=0
offsets.topic.num.partitions={OFFSETS_PARTITIONS}
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
log.cleaner.backoff.ms=500
{LITTLE_MEMORY}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
message.max.bytes=20000000
replica.fetch.max.bytes=20000000
",
                    node = index + 1,
                    data = data.display(),
                ),
            )?;
            std::fs::write(
                directory.join("log4j2.properties"),
                include_str!("../log4j2.properties"),
            )?;
            let properties = properties.to_string_lossy().into_owned();
            let arguments = ["format", "--cluster-id", &id, "--config", &properties];
            jvm.run(&directory, "kafka.tools.StorageTool", &arguments)
                .await?;
            let mut command = jvm.line(&directory, "kafka.Kafka", &[&properties]);
            command.insert(1, Links::option(index, count, &directory)?);
            server.command(command);
            server.start()?;
            brokers.push(Broker {
                server,
                port,
                proxy,
            });
        }
        let mut cluster = Cluster {
            brokers,
            links,
            jvm,
        };
        cluster.ready().await?;
        Ok(cluster)
    }

    /// `host:port` of every broker, through the proxies.
    pub fn bootstrap(&self) -> String {
        let hosts: Vec<String> = self
            .brokers
            .iter()
            .map(|broker| broker.proxy.host())
            .collect();
        hosts.join(",")
    }

    /// `host:port` of every broker, past the proxies.
    pub fn direct_bootstrap(&self) -> String {
        self.direct_bootstrap_where(|_| true)
    }

    /// `host:port` of the brokers with these indexes, past the proxies.
    pub fn direct_bootstrap_where(&self, of: impl Fn(usize) -> bool) -> String {
        let hosts: Vec<String> = (self.brokers.iter().enumerate())
            .filter(|(index, _)| of(*index))
            .map(|(_, broker)| format!("127.0.0.1:{}", broker.port))
            .collect();
        hosts.join(",")
    }

    /// Topics, past the proxies.
    pub fn topics(&self) -> Result<Topics> {
        Topics::new(&self.direct_bootstrap())
    }

    /// How many brokers.
    pub fn brokers(&self) -> usize {
        self.brokers.len()
    }

    /// The proxy before a broker.
    pub fn proxy(&self, broker: usize) -> &Proxy {
        &self.brokers[broker].proxy
    }

    /// Cuts a broker off from all others, and from their controllers. Clients still reach it, and it
    /// answers with what it knew.
    pub fn cut_off(&self, broker: usize) -> Result<()> {
        self.links.cut_off(broker)
    }

    /// Ends that.
    pub fn rejoin(&self, broker: usize) -> Result<()> {
        self.links.heal(broker)
    }

    /// A broker's process, to kill, stop, freeze or thaw.
    pub fn server(&mut self, broker: usize) -> &mut Server {
        &mut self.brokers[broker].server
    }

    /// Starts a broker that was killed or stopped, on its ports and with its data, and waits for
    /// all of them.
    pub async fn restart(&mut self, broker: usize) -> Result<()> {
        self.brokers[broker].server.start()?;
        self.ready().await
    }

    /// Waits until every broker answers, is known to the others, and leads or follows what it
    /// should.
    pub async fn ready(&mut self) -> Result<()> {
        let end = Instant::now() + START_DEADLINE;
        loop {
            for broker in &mut self.brokers {
                broker.server.check()?;
            }
            match self.whole().await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > end => {
                    let logs = self.brokers.iter().map(|broker| broker.server.log_tail());
                    let logs: Vec<String> = logs.collect();
                    bail!("the cluster is not ready: {error:#}\n{}", logs.join("\n"))
                }
                Err(_) => sleep(POLL).await,
            }
        }
    }

    /// Fails unless every broker is there and every partition has all its replicas in sync.
    async fn whole(&self) -> Result<()> {
        for broker in &self.brokers {
            tokio::net::TcpStream::connect(("127.0.0.1", broker.port)).await?;
        }
        let metadata = self.metadata(None).await?;
        ensure!(
            metadata.brokers().len() == self.brokers.len(),
            "brokers are missing"
        );
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        for partition in partitions {
            ensure!(partition.leader() > 0, "a partition without a leader");
            ensure!(
                partition.isr().len() == partition.replicas().len(),
                "a replica is behind"
            );
        }
        self.topics()?.can_create().await
    }

    /// The broker that leads a partition.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<usize> {
        Ok(self.leader_and_replicas(topic, partition).await?.0)
    }

    /// The broker that leads a partition, and all that have a replica of it.
    pub async fn leader_and_replicas(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(usize, Vec<usize>)> {
        let metadata = self.metadata(Some(topic)).await?;
        let topic = metadata
            .topics()
            .first()
            .context("no answer for the topic")?;
        let found = topic
            .partitions()
            .iter()
            .find(|found| found.id() == partition);
        let found = found.context("no such partition")?;
        let index = |node: i32| usize::try_from(node).ok()?.checked_sub(1);
        let replicas = found.replicas().iter().filter_map(|node| index(*node));
        Ok((
            index(found.leader()).context("no leader")?,
            replicas.collect(),
        ))
    }

    /// The broker that leads each partition of a topic.
    pub async fn leaders(&self, topic: &str) -> Result<BTreeMap<i32, usize>> {
        let bootstrap = self.direct_bootstrap();
        self.leaders_as_known_to(&bootstrap, topic).await
    }

    /// The same, as the first of these brokers that answers has it.
    pub async fn leaders_as_known_to(
        &self,
        bootstrap: &str,
        topic: &str,
    ) -> Result<BTreeMap<i32, usize>> {
        let metadata = ask(bootstrap.to_owned(), Some(topic)).await?;
        let found = metadata.topics().first();
        let partitions = found.context("no answer for the topic")?.partitions();
        let leader = |leader: i32| usize::try_from(leader).ok()?.checked_sub(1);
        let leaders = partitions
            .iter()
            .filter_map(|p| Some((p.id(), leader(p.leader())?)));
        Ok(leaders.collect())
    }

    /// The broker that coordinates a group: the leader of the partition that its name's Java hash
    /// gives.
    pub async fn coordinator(&self, group: &str) -> Result<usize> {
        let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
            hash.wrapping_mul(31).wrapping_add(i32::from(unit))
        });
        self.leader("__consumer_offsets", (hash & i32::MAX) % OFFSETS_PARTITIONS)
            .await
    }

    /// Makes another replica the preferred leader of each partition of a topic; the controller
    /// moves the leadership within a second.
    pub async fn move_leadership(&self, topic: &str) -> Result<()> {
        let metadata = self.metadata(Some(topic)).await?;
        let found = metadata
            .topics()
            .first()
            .context("no answer for the topic")?;
        let moved: Vec<_> = found
            .partitions()
            .iter()
            .map(|partition| {
                let mut replicas = partition.replicas().to_vec();
                replicas.sort_unstable();
                let leader = replicas
                    .iter()
                    .position(|replica| *replica == partition.leader());
                replicas.rotate_left(
                    leader.map_or(0, |leader| leader + 1) % partition.replicas().len(),
                );
                json!({ "topic": topic, "partition": partition.id(), "replicas": replicas })
            })
            .collect();
        let directory = tempfile::tempdir()?;
        let plan = directory.path().join("plan.json");
        std::fs::write(
            &plan,
            json!({ "version": 1, "partitions": moved }).to_string(),
        )?;
        let (bootstrap, plan) = (self.direct_bootstrap(), plan.to_string_lossy());
        let arguments = [
            "--bootstrap-server",
            &bootstrap,
            "--execute",
            "--reassignment-json-file",
            &plan,
        ];
        let home = self.brokers[0].server.directory();
        let class = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
        self.jvm.run(home, class, &arguments).await?;
        Ok(())
    }

    /// Returns when each broker by itself knows a topic with this number of partitions that have a
    /// leader; with none, when each has learned that it is gone.
    pub async fn everywhere(&self, topic: &str, partitions: usize) -> Result<()> {
        self.everywhere_but(None, topic, partitions).await
    }

    /// As [`Cluster::everywhere`], but for a broker that is not asked.
    pub async fn everywhere_but(
        &self,
        except: Option<usize>,
        topic: &str,
        partitions: usize,
    ) -> Result<()> {
        let end = Instant::now() + START_DEADLINE;
        let brokers = self.brokers.iter().enumerate();
        for (_, broker) in brokers.filter(|(index, _)| Some(*index) != except) {
            let direct = format!("127.0.0.1:{}", broker.port);
            loop {
                let metadata = ask(direct.clone(), Some(topic)).await?;
                let found = metadata
                    .topics()
                    .iter()
                    .flat_map(|found| found.partitions());
                if found.filter(|partition| partition.leader() >= 0).count() == partitions {
                    break;
                }
                ensure!(
                    Instant::now() < end,
                    "{direct} does not know of {topic} after {START_DEADLINE:?}"
                );
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    async fn metadata(&self, topic: Option<&str>) -> Result<Metadata> {
        ask(self.direct_bootstrap(), topic).await
    }
}

/// What the first broker of `bootstrap` that answers says.
async fn ask(bootstrap: String, topic: Option<&str>) -> Result<Metadata> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    let topic = topic.map(str::to_owned);
    tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = config.create()?;
        Ok(client.fetch_metadata(topic.as_deref(), METADATA_DEADLINE)?)
    })
    .await?
}
