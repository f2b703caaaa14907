//! The whole way of real entities, to watch: broker, service, replica set.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mongodb::Database;
use mongodb::bson::{Document, doc};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::certificates::write_private;
use crate::entities::{Generator, State};
use crate::kafka::{Kafka, KafkaOptions};
use crate::mongo::{DATABASE, MongoOptions};
use crate::observe::{self, Usage};
use crate::observed::Observed;
use crate::port;
use crate::process::Server;
use crate::produce::produce;
use crate::progress::Progress;
use crate::stack::Stack;
use crate::topics::STATE_TOPIC;

const GROUP: &str = "dyff.system.mongodb.sink";
const SETTLED: &str = "workflows_sink_records_settled_total";
const LAG: &str = "workflows_sink_consumer_lag_records";
const POLL: Duration = Duration::from_millis(100);
const COUNT_EVERY: Duration = Duration::from_millis(500);
const STALLED_DEADLINE: Duration = Duration::from_secs(90);
const SINK_STOP_DEADLINE: Duration = Duration::from_secs(40);

/// What to show.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The service's binary.
    pub sink: PathBuf,
    /// Of the generator.
    pub seed: u64,
    /// How many documents there will be.
    pub entities: usize,
    /// How many records there will be.
    pub states: usize,
    /// Whether a Prometheus looks on, and the dashboard's figures are printed.
    pub observe: bool,
    /// How long everything stays up at the end; `None`: until the caller drops the future.
    pub stay: Option<Duration>,
}

/// Ids by kind: what the database must hold in the end.
type Expected = BTreeMap<&'static str, HashSet<String>>;

/// What the demo has started so far.
#[derive(Default)]
pub struct Running {
    sink: Option<Server>,
    stack: Option<Stack>,
}

impl Running {
    /// Ends the service the way production does, then the servers. Fails if the service did not end
    /// well.
    pub async fn stop(mut self) -> Result<()> {
        let Some(mut sink) = self.sink.take() else {
            return Ok(());
        };
        if !sink.running()? {
            return Ok(());
        }
        sink.signal(Signal::TERM)?;
        let status = sink.wait(SINK_STOP_DEADLINE).await?;
        println!("The service got SIGTERM and ended: {status}.");
        ensure!(
            status.success(),
            "the service did not end well:\n{}",
            sink.log_tail()
        );
        Ok(())
    }
}

/// Runs the demo. Fails if a document is missing or too many.
///
/// What it starts is kept in `running`, so that the caller can drop this at any time and then stop
/// in order.
pub async fn run(options: &DemoOptions, running: &mut Running) -> Result<()> {
    println!(
        "Starting a Kafka broker and a MongoDB replica set (the first time they are downloaded) …"
    );
    let mongo = MongoOptions {
        auth: true,
        ..Default::default()
    };
    let stack = running
        .stack
        .insert(Stack::start(mongo, KafkaOptions::default()).await?);
    let database = stack.admin().await?.database(DATABASE);
    stack.topics()?.create_state_topic().await?;

    println!(
        "Producing {} states of {} entities to {STATE_TOPIC} …",
        options.states, options.entities
    );
    let expected = fill(stack, options).await?;

    println!("Running {} run …", options.sink.display());
    let address = format!("127.0.0.1:{}", port::free()?);
    let observed = match options.observe {
        true => Some(Observed::start(&address).await?),
        false => None,
    };
    let sink = running.sink.insert(start_sink(stack, options, &address)?);
    let settled = follow(sink, &address, &database, options.states).await?;
    let usage = observe::usage(sink.pid().context("the service has ended")?)?;
    summarise(options.states, &settled, usage);
    check(&database, &expected).await?;
    if let Some(observed) = &observed {
        observed.print().await?;
    }
    show_where_to_look(stack, sink, &address, &database).await?;

    let Some(stay) = options.stay else {
        println!("\nStaying up until Ctrl-C.");
        return std::future::pending().await;
    };
    println!(
        "\nStaying up for {} s (make demo STAY=1 to stay until Ctrl-C).",
        stay.as_secs()
    );
    sleep(stay).await;
    sink.check()
}

async fn fill(stack: &Stack, options: &DemoOptions) -> Result<Expected> {
    let mut progress = Progress::new("produced", options.states)?;
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", stack.bootstrap());
    let generator = Generator::new(options.seed, options.entities, options.states);
    let (sender, receiver) = mpsc::channel();
    let producing = tokio::task::spawn_blocking(move || {
        let mut expected = Expected::new();
        let states = generator.enumerate().map(|(index, state): (usize, State)| {
            // Nobody listens any more once the demo was interrupted.
            let _ = sender.send(index + 1);
            expected
                .entry(state.kind)
                .or_default()
                .insert(state.id.clone());
            state
        });
        produce(&config, STATE_TOPIC, states).map(|_| expected)
    });
    while !producing.is_finished() {
        if let Some(done) = receiver.try_iter().last() {
            progress.show(done, String::new);
        }
        sleep(POLL).await;
    }
    producing.await?
}

fn start_sink(stack: &Stack, options: &DemoOptions, address: &str) -> Result<Server> {
    let mut sink = Server::new("sink")?;
    sink.command([options.sink.as_os_str(), "run".as_ref()]);
    for (name, value) in stack.environment() {
        sink.env(name, &value);
    }
    sink.env("DYFF_WORKFLOWS_SINK__LISTEN_ADDRESS", address);
    sink.start()?;
    Ok(sink)
}

/// How the service got to the end of the topic.
struct Settled {
    elapsed: Duration,
    /// From the first records seen settled, so without the start.
    per_second: f64,
    metrics: String,
}

/// Shows the progress until all is settled and no lag is left.
async fn follow(
    sink: &mut Server,
    address: &str,
    database: &Database,
    states: usize,
) -> Result<Settled> {
    let mut progress = Progress::new("settled", states)?;
    let (start, mut moved, mut last, mut first) = (Instant::now(), Instant::now(), 0, None);
    let (mut counted, mut counts) = (Instant::now(), Vec::new());
    loop {
        sleep(POLL).await;
        sink.check()?;
        let metrics = observe::get(address, "/metrics").await.unwrap_or_default();
        let (settled, lag) = (
            observe::total(&metrics, SETTLED) as usize,
            observe::total(&metrics, LAG),
        );
        if settled > last {
            (moved, last) = (Instant::now(), settled);
            first.get_or_insert((moved, settled));
        }
        let per_second = match first {
            Some((since, before)) => (settled - before) as f64 / since.elapsed().as_secs_f64(),
            None => 0.0,
        };
        if settled >= states && lag == 0.0 {
            return Ok(Settled {
                elapsed: start.elapsed(),
                per_second,
                metrics,
            });
        }
        if moved.elapsed() > STALLED_DEADLINE {
            bail!(
                "nothing was settled for {STALLED_DEADLINE:?} ({settled} of {states}):\n{}",
                sink.log_tail()
            );
        }
        if counted.elapsed() > COUNT_EVERY {
            (counted, counts) = (Instant::now(), estimated_counts(database).await?);
        }
        progress.show(settled, || {
            let largest: Vec<_> = counts
                .iter()
                .take(5)
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            format!("{per_second:.0}/s, lag {lag}, {}", largest.join(", "))
        });
    }
}

fn summarise(states: usize, settled: &Settled, usage: Usage) {
    let Settled {
        elapsed,
        per_second,
        metrics,
    } = settled;
    let cpu_microseconds = usage.cpu.as_secs_f64() * 1e6 / states as f64;
    println!(
        "\n  {states} records in {:.1} s with the start; {per_second:.0} records/s once they flowed",
        elapsed.as_secs_f64()
    );
    println!(
        "  the service used {cpu_microseconds:.1} µs of CPU a record, {} MiB at its peak",
        usage.peak_memory_bytes >> 20
    );
    for (labels, value) in observe::samples(metrics, SETTLED)
        .iter()
        .filter(|(_, value)| *value > 0.0)
    {
        println!("  {value:>9} {}", labels.trim_matches(['{', '}']));
    }
}

/// Every entity is one document, and there is no other.
async fn check(database: &Database, expected: &Expected) -> Result<()> {
    let mut documents = 0;
    for name in collections(database).await? {
        let collection = database.collection::<Document>(&name);
        let kind = collection
            .find_one(doc! {})
            .await?
            .and_then(|document| document.get_str("kind").ok().map(str::to_owned));
        let count = collection.count_documents(doc! {}).await?;
        let ids = kind
            .as_deref()
            .and_then(|kind| expected.get(kind))
            .map_or(0, HashSet::len) as u64;
        ensure!(
            count == ids,
            "{name} has {count} documents, but {ids} entities were produced"
        );
        if count > 0 {
            println!("  {count:>9} {name}");
        }
        documents += count;
    }
    let ids: usize = expected.values().map(HashSet::len).sum();
    ensure!(
        documents == ids as u64,
        "{documents} documents, but {ids} entities were produced"
    );
    println!("  {documents:>9} documents of {ids} distinct ids: none missing, none twice");
    Ok(())
}

async fn show_where_to_look(
    stack: &Stack,
    sink: &Server,
    address: &str,
    database: &Database,
) -> Result<()> {
    let query = r#"db.evaluations.findOne({status: "Complete"}, {kind: 1, status: 1, labels: 1})"#;
    println!("\nWhere to look:");
    println!("  metrics   curl http://{address}/metrics");
    println!("  log       {}", sink.log().display());
    if let Some(mongo) = &stack.mongo {
        let file = sink.directory().join("password");
        write_private(&file, mongo.password().unwrap_or_default())?;
        println!(
            "  documents mongosh '{}' -p \"$(cat {})\" --eval '{query}'",
            mongo.uri_without_password(),
            file.display()
        );
    }
    if let Some(kafka) = &stack.kafka {
        println!("  offsets   {}", offsets_line(kafka));
    }
    let fields = doc! { "kind": 1, "status": 1, "labels": 1 };
    let evaluations = database.collection::<Document>("evaluations");
    if let Some(document) = evaluations
        .find_one(doc! { "status": "Complete" })
        .projection(fields)
        .await?
    {
        println!("\n  {query}\n  {document}");
    }
    Ok(())
}

fn offsets_line(kafka: &Kafka) -> String {
    let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    kafka.tool_line(class, &["--describe", "--group", GROUP])
}

/// The collections of entities: all but the service's own.
async fn collections(database: &Database) -> Result<Vec<String>> {
    let mut names = database.list_collection_names().await?;
    names.retain(|name| !name.starts_with("workflows_sink_") && !name.starts_with("system."));
    names.sort();
    Ok(names)
}

/// Largest first.
async fn estimated_counts(database: &Database) -> Result<Vec<(String, u64)>> {
    let mut counts = Vec::new();
    for name in collections(database).await? {
        let count = database
            .collection::<Document>(&name)
            .estimated_document_count()
            .await?;
        counts.push((name, count));
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(counts)
}
