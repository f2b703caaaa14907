//! The servers that everything is measured on, topics filled with loads, and the service as a
//! process.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bson::{Document, doc};
use local_stack::mongo::DATABASE;
use local_stack::observe::{self, Usage};
use local_stack::topics::STATE_CONFIG;
use local_stack::{KafkaOptions, MongoOptions, Server, Stack, port, produce};
use mongodb::{Client, Database};
use tokio::time::sleep;

use crate::load::Load;

const SETTLED: &str = "workflows_sink_records_settled_total";
/// How often a counter is read while it grows: the error of a rate over seconds.
const POLL: Duration = Duration::from_millis(50);
const READY_POLL: Duration = Duration::from_millis(5);
const READY_DEADLINE: Duration = Duration::from_secs(60);
const STALLED_DEADLINE: Duration = Duration::from_secs(90);
const STOP_DEADLINE: Duration = Duration::from_secs(40);

/// What a load cost on its way into MongoDB.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// Records a second, from the first ones seen settled.
    pub per_second: f64,
    /// CPU of the loader a record, in microseconds, from the first ones seen settled.
    pub cpu_us: f64,
    /// CPU of mongod a record, likewise.
    pub mongod_cpu_us: f64,
    /// CPU of the broker a record, likewise.
    pub broker_cpu_us: f64,
    /// Committed transactions a second.
    pub transactions_per_second: f64,
    /// Bytes that mongod received in all.
    pub bytes_to_mongod: f64,
}

/// Running servers.
pub struct Stage {
    stack: Stack,
    sink: PathBuf,
    admin: Client,
    filled: HashMap<Load, (String, usize)>,
    named: usize,
}

/// What docs/operations.md sets on brokers for `group.protocol=consumer`: members then follow a
/// rebalance within a fifth of a second, as those of the classic protocol do by their own setting.
const CONSUMER_PROTOCOL: [(&str, &str); 2] = [
    ("group.consumer.heartbeat.interval.ms", "200"),
    ("group.consumer.min.heartbeat.interval.ms", "200"),
];

impl Stage {
    /// Starts a broker and a replica set of one.
    pub async fn start(sink: &Path) -> Result<Stage> {
        let mongo = MongoOptions {
            auth: true,
            oplog_mb: 4_000,
            ..Default::default()
        };
        let kafka = KafkaOptions {
            optimised: true,
            properties: CONSUMER_PROTOCOL
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Default::default()
        };
        let stack = Stack::start(mongo, kafka).await?;
        ensure!(
            stack.mongo.is_some() && stack.kafka.is_some(),
            "benches run on servers of their own: unset STACK_MONGODB_URI and STACK_KAFKA_BOOTSTRAP"
        );
        let admin = stack.admin().await?;
        Ok(Stage {
            stack,
            sink: sink.to_owned(),
            admin,
            filled: HashMap::new(),
            named: 0,
        })
    }

    /// Workers are of this binary from now on; returns the one that they were of.
    pub fn run_sink(&mut self, sink: &Path) -> PathBuf {
        std::mem::replace(&mut self.sink, sink.to_owned())
    }

    /// `host:port` of the broker.
    pub fn bootstrap(&self) -> String {
        self.stack.bootstrap()
    }

    /// The URI of the service's user, with its password.
    pub fn uri(&self) -> Result<String> {
        Ok(self.stack.mongo.as_ref().context("no mongod")?.uri())
    }

    /// A client of the service's user.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::with_uri_str(self.uri()?).await?)
    }

    /// The database of the entities, with all rights.
    pub fn database(&self) -> Database {
        self.admin.database(DATABASE)
    }

    /// A name that was not used before.
    pub fn name(&mut self, what: &str) -> String {
        self.named += 1;
        format!("{what}-{}", self.named)
    }

    /// An empty topic.
    pub async fn topic(&mut self, partitions: i32) -> Result<String> {
        let topic = self.name("topic");
        let topics = self.stack.topics()?;
        topics.create(&topic, partitions, &STATE_CONFIG).await?;
        Ok(topic)
    }

    /// A topic that holds `load`, with the bytes of its keys and values; filled once.
    pub async fn filled(&mut self, load: Load) -> Result<(String, usize)> {
        if let Some(filled) = self.filled.get(&load) {
            return Ok(filled.clone());
        }
        println!("   filling a topic: {load:?}");
        let topic = self.topic(load.partitions).await?;
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        let name = topic.clone();
        let producing = tokio::task::spawn_blocking(move || {
            let mut bytes = 0;
            let messages = load.messages().inspect(|message| {
                bytes += message.key.as_ref().map_or(0, Vec::len);
                bytes += message.value.as_ref().map_or(0, Vec::len);
            });
            produce(&config, &name, messages)?;
            Ok::<_, anyhow::Error>(bytes)
        });
        let filled = (topic, producing.await??);
        self.filled.insert(load, filled.clone());
        Ok(filled)
    }

    /// Forgets all entities and checkpoints.
    pub async fn clear(&self) -> Result<()> {
        Ok(self.database().drop().await?)
    }

    /// From now on mongod has the machine's last core for itself, as if on a machine of its own;
    /// broker, services and loaders have the others.
    pub fn part(&mut self) -> Result<()> {
        let cores = std::thread::available_parallelism()?.get();
        ensure!(cores > 1, "there is one core only");
        self.pin(&format!("0-{}", cores - 2), &(cores - 1).to_string())
    }

    /// All of them share all cores again.
    pub fn unite(&mut self) -> Result<()> {
        let all = "0-1023";
        self.pin(all, all)
    }

    /// Services inherit it from this process.
    fn pin(&mut self, ours: &str, mongods: &str) -> Result<()> {
        let mongo = self.stack.mongo.as_mut().context("no mongod")?;
        let mongod = mongo.server(0).pid().context("mongod has ended")?;
        let kafka = self.stack.kafka.as_mut().context("no broker")?;
        let broker = kafka.server().pid().context("the broker has ended")?;
        for (pid, cores) in [
            (std::process::id(), ours),
            (broker, ours),
            (mongod, mongods),
        ] {
            let pinned = Command::new("taskset")
                .args([
                    "--all-tasks",
                    "--cpu-list",
                    "--pid",
                    cores,
                    &pid.to_string(),
                ])
                .output()?;
            ensure!(
                pinned.status.success(),
                "taskset: {}",
                String::from_utf8_lossy(&pinned.stderr)
            );
        }
        Ok(())
    }

    /// CPU time that mongod has used.
    pub fn mongod_cpu(&mut self) -> Result<Duration> {
        let mongo = self.stack.mongo.as_mut().context("no mongod")?;
        let pid = mongo.server(0).pid().context("mongod has ended")?;
        Ok(observe::usage(pid)?.cpu)
    }

    /// CPU time that the broker has used.
    pub fn broker_cpu(&mut self) -> Result<Duration> {
        let kafka = self.stack.kafka.as_mut().context("no broker")?;
        let pid = kafka.server().pid().context("the broker has ended")?;
        Ok(observe::usage(pid)?.cpu)
    }

    /// Starts a worker and does not wait for it.
    pub fn spawn(&self, topic: &str, group: &str, settings: &[(&str, &str)]) -> Result<Service> {
        let run = [self.sink.as_os_str(), "run".as_ref()];
        self.spawn_program(run, topic, group, settings)
    }

    /// Starts a worker by this program and its arguments.
    pub fn spawn_program<'a>(
        &self,
        program: impl IntoIterator<Item = &'a OsStr>,
        topic: &str,
        group: &str,
        settings: &[(&str, &str)],
    ) -> Result<Service> {
        let address = format!("127.0.0.1:{}", port::free()?);
        let mut server = Server::new("sink")?;
        server.command(program);
        for (name, value) in self.stack.environment() {
            server.env(name, &value);
        }
        for (name, value) in [
            ("DYFF_KAFKA__TOPICS__WORKFLOWS_STATE", topic),
            ("DYFF_WORKFLOWS_SINK__GROUP", group),
            ("DYFF_WORKFLOWS_SINK__LISTEN_ADDRESS", &address),
        ] {
            server.env(name, value);
        }
        for (name, value) in settings {
            server.env(name, value);
        }
        server.start()?;
        Ok(Service { server, address })
    }

    /// A command of the service's program, without its words.
    pub fn command(&self, topic: &str, group: &str, settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(&self.sink);
        command.env_clear().envs(self.stack.environment());
        command.env("DYFF_KAFKA__TOPICS__WORKFLOWS_STATE", topic);
        command.env("DYFF_WORKFLOWS_SINK__GROUP", group);
        command.envs(settings.iter().copied());
        command
    }

    /// How many transactions mongod has committed.
    pub async fn transactions(&self) -> Result<f64> {
        let status = status(&self.admin).await?;
        Ok(number(&status, ["transactions", "totalCommitted"]))
    }

    /// Follows a count of settled records from where it is first seen to move until it is `total`.
    /// `cpu` is what the loader has used so far.
    pub async fn follow(
        &mut self,
        total: usize,
        mut count: impl AsyncFnMut() -> Result<usize>,
        cpu: impl Fn() -> Result<Duration>,
    ) -> Result<Drained> {
        let before = status(&self.admin).await?;
        let mut moved = (Instant::now(), 0);
        let mut first = None;
        loop {
            let counted = count().await?;
            let now = Instant::now();
            if counted > moved.1 {
                moved = (now, counted);
                if first.is_none() {
                    first = Some((
                        now,
                        counted,
                        [cpu()?, self.mongod_cpu()?, self.broker_cpu()?],
                    ));
                }
            }
            if counted >= total {
                break;
            }
            ensure!(
                moved.0.elapsed() < STALLED_DEADLINE,
                "nothing was settled for {STALLED_DEADLINE:?}: {counted} of {total} records are"
            );
            sleep(POLL).await;
        }
        let (began, counted, cpu_before) = first.context("nothing to follow")?;
        let (elapsed, records) = (began.elapsed().as_secs_f64(), (moved.1 - counted) as f64);
        let cpu_after = [cpu()?, self.mongod_cpu()?, self.broker_cpu()?];
        let [cpu_us, mongod_cpu_us, broker_cpu_us] = std::array::from_fn(|whose| {
            (cpu_after[whose] - cpu_before[whose]).as_secs_f64() * 1e6 / records
        });
        let after = status(&self.admin).await?;
        let grown = |path: [&str; 2]| number(&after, path) - number(&before, path);
        Ok(Drained {
            per_second: records / elapsed,
            cpu_us,
            mongod_cpu_us,
            broker_cpu_us,
            transactions_per_second: grown(["transactions", "totalCommitted"]) / elapsed,
            bytes_to_mongod: grown(["network", "bytesIn"]),
        })
    }
}

/// What mongod counts, asked of a client with all rights.
pub async fn status(admin: &Client) -> Result<Document> {
    let command = doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "locks": 0, "wiredTiger": 0 };
    Ok(admin.database("admin").run_command(command).await?)
}

/// A number of `serverStatus`.
pub fn number(status: &Document, [section, name]: [&str; 2]) -> f64 {
    let value = status.get_document(section).ok().and_then(|s| s.get(name));
    match value {
        Some(bson::Bson::Int64(n)) => *n as f64,
        Some(bson::Bson::Int32(n)) => f64::from(*n),
        Some(bson::Bson::Double(n)) => *n,
        _ => 0.0,
    }
}

/// A worker.
pub struct Service {
    server: Server,
    address: String,
}

impl Service {
    /// Until `/readyz` says yes.
    pub async fn ready(&mut self) -> Result<()> {
        let end = Instant::now() + READY_DEADLINE;
        while observe::get(&self.address, "/readyz").await.is_err() {
            self.server.check()?;
            ensure!(
                Instant::now() < end,
                "not ready: {}",
                self.server.log_tail()
            );
            sleep(READY_POLL).await;
        }
        Ok(())
    }

    /// The text of `/metrics`, empty as long as nothing answers.
    pub async fn metrics(&mut self) -> Result<String> {
        self.server.check()?;
        Ok(observe::get(&self.address, "/metrics")
            .await
            .unwrap_or_default())
    }

    /// How many records are settled.
    pub async fn settled(&mut self) -> Result<usize> {
        Ok(observe::total(&self.metrics().await?, SETTLED) as usize)
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }

    /// Its process.
    pub fn pid(&self) -> Result<u32> {
        self.server.pid().context("the service has ended")
    }

    /// CPU and memory so far.
    pub fn usage(&self) -> Result<Usage> {
        observe::usage(self.pid()?)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// SIGTERM, and waits for the end; the last lines of its log.
    pub async fn stop(mut self) -> Result<String> {
        self.server.stop(STOP_DEADLINE).await?;
        Ok(self.server.log_tail())
    }
}
