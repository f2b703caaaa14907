//! Builds the service, runs it, and ends it: at the first signal in order, at the second at once,
//! and at the end of any part that should not have ended.

pub mod allocator;
pub mod memory;

use std::collections::{BTreeMap, HashSet};
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use mongodb::Database;
use rdkafka::consumer::Consumer as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::backoff::Backoff;
use crate::checkpoint;
use crate::config::Config;
use crate::config::startup::StartupError;
use crate::database::errors::{self, Cause};
use crate::database::outage::Outage;
use crate::database::{self, Connection, Login, Rotation};
use crate::kafka::preflight;
use crate::kafka::topics::{self, KnownTopics};
use crate::kafka::{self, NewLane};
use crate::lane::budget::Budget;
use crate::lane::claim::Claimant;
use crate::lane::{self, Lanes, Slots};
use crate::telemetry::health::{self, Health, Loop};
use crate::telemetry::logging::is_human;
use crate::telemetry::metrics::{Metrics, Outcome};
use crate::writer::{self, Groups, Target};

/// Between two lines that tell the rate on a terminal, in seconds.
const RATE_LINE_EVERY: u64 = 2;

/// How often memory is looked at.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How often librdkafka tells of itself, in milliseconds: lag and memory are as fresh as that.
const STATISTICS_MS: &str = "2000";

/// The longest that revoked partitions may take to finish what is under way.
const REVOKE_DEADLINE_MAX: Duration = Duration::from_secs(20);

/// The exit code after a second signal.
const EXIT_INTERRUPTED: i32 = 130;

/// Consumes until a signal says to stop.
///
/// # Errors
/// [`StartupError`] where something is wrong for good at start; else the name of the part that
/// ended and why.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    metrics.expect(
        &Cause::ALL.map(Cause::as_str),
        &[
            ("lane", "stopped"),
            ("fetch", "partition"),
            ("credentials", "unfit"),
            ("credentials", "refused"),
        ],
    );
    let health = Arc::new(Health::default());
    let listener = TcpListener::bind(config.listen_address)
        .await
        .map_err(|error| {
            StartupError::configuration(format!(
                "DYFF_WORKFLOWS_SINK__LISTEN_ADDRESS: cannot listen on {}: {error}",
                config.listen_address
            ))
        })?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let (stop_tx, stop) = watch::channel(false);
    watch_signals(stop_tx)?;
    let (fatal, mut failed) = mpsc::unbounded_channel();
    let served = health::serve(
        listener,
        Arc::clone(&metrics),
        Arc::clone(&health),
        std::future::pending(),
    );
    supervise(
        "the health server",
        &fatal,
        async move { Ok(served.await?) },
    );

    let mut stopping = stop.clone();
    let started = tokio::select! {
        started = start(&config, &metrics, &health, &fatal) => started?,
        _ = stopping.wait_for(|stop| *stop) => return Ok(()),
        Some(part) = failed.recv() => return Err(anyhow!(part)),
    };
    let polled = poll(started, &config, stop, Arc::clone(&health))?;
    tokio::select! {
        polled = polled => polled.unwrap_or_else(|_| Err(anyhow!("the poll thread panicked"))),
        Some(part) = failed.recv() => Err(anyhow!(part)),
    }
}

/// Everything that must be true before the group is joined; waits for what only is away.
async fn start(
    config: &Config,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
    fatal: &mpsc::UnboundedSender<String>,
) -> anyhow::Result<kafka::Poller> {
    let lanes_max = config.limits.lanes_max;
    let collections = writer::collections(&config.mapping);
    let Login { database, password } =
        database::connect(&config.mongodb, lanes_max, &collections).await?;
    health.mongodb_answered();
    let partitions = preflight::topic_partitions(&config.kafka).await?;
    let total = partitions
        .values()
        .map(|count| usize::try_from(*count).unwrap_or(0))
        .sum();
    memory::warn_of_shortage(config.limits.budget_bytes_max, total);
    let known = known_topics(&database, config, &partitions).await?;
    let unfoldable = database::unfoldable(&database).await?;
    let target = Arc::new(Target {
        mapping: Arc::clone(&config.mapping),
        mode: config.write_mode,
        unfoldable: routed(config, &unfoldable),
        groups: Some(Groups::new(Arc::clone(&config.mapping), lanes_max)),
    });
    let (handle, unstarted) = kafka::channel();
    let (topic_ids, look) = topics::watch_ids(handle.clone(), config.kafka.topics.clone());
    supervise("the watch over topic ids", fatal, async move {
        look.await;
        Ok(())
    });
    let outage = Arc::new(Outage::default());
    let (connection, swap) = Connection::new(database);
    if config.mongodb.credentials.can_change() {
        let rotation = Rotation {
            mongodb: config.mongodb.clone(),
            password,
            lanes_max,
            swap,
            outage: Arc::clone(&outage),
            metrics: Arc::clone(metrics),
        };
        supervise("the watch over credentials", fatal, async move {
            rotation.follow().await;
            Ok(())
        });
    }
    supervise(
        "the watch over MongoDB",
        fatal,
        database::ping(connection.clone(), Arc::clone(health), Arc::clone(&outage)),
    );
    let (_, batches) = memory::shares(config.limits.budget_bytes_max);
    let lanes = Arc::new(Lanes {
        handle: handle.clone(),
        claimant: Claimant {
            handle,
            group: config.kafka.group.clone(),
            start: config.kafka.start,
            connection,
            target: Arc::clone(&target),
            known,
            outage,
            metrics: Arc::clone(metrics),
        },
        target,
        tombstones: config.tombstones,
        limits: config.limits,
        budget: Budget::new(batches),
        slots: Slots::new(lanes_max, config.limits.flush_bytes_max),
        topic_ids,
        heartbeat: config.kafka.properties.heartbeat_interval(),
        metrics: Arc::clone(metrics),
        health: Arc::clone(health),
        fatal: fatal.clone(),
    });
    supervise(
        "the watch over progress",
        fatal,
        tell_progress(
            Arc::clone(&lanes),
            total,
            is_human(&config.log, std::io::stderr().is_terminal()),
        ),
    );
    let context = kafka::Context::new(
        Arc::clone(metrics),
        revoke_deadline(config),
        lane_starter(lanes),
    );
    let properties = properties(config, total);
    unstarted
        .create(&properties, context)
        .context("the Kafka consumer could not be made")
}

/// The poll thread, and what it returns in the end.
fn poll(
    poller: kafka::Poller,
    config: &Config,
    stop: watch::Receiver<bool>,
    health: Arc<Health>,
) -> anyhow::Result<oneshot::Receiver<anyhow::Result<()>>> {
    let (topics, drain_deadline) = (config.kafka.topics.clone(), config.limits.drain_deadline);
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("poll".into())
        .spawn(move || {
            let beat = move |joined| {
                health.turned(Loop::Poll);
                health.set_joined(joined);
            };
            let _ = ended.send(poller.run(&topics, stop, drain_deadline, beat));
        })
        .context("the poll thread could not be started")?;
    Ok(end)
}

/// Starts a task for each lane, and reports the one that panics.
fn lane_starter(lanes: Arc<Lanes>) -> impl Fn(NewLane) + Send + Sync {
    let runtime = tokio::runtime::Handle::current();
    move |lane: NewLane| {
        let name = format!("lane {}", lane.partition);
        let fatal = lanes.fatal.clone();
        let task = runtime.spawn(lane::run(Arc::clone(&lanes), lane));
        runtime.spawn(async move {
            if let Err(error) = task.await {
                let _ = fatal.send(format!("{name} ended: {error}"));
            }
        });
    }
}

/// Runs a part that must not end; its end, of whatever kind, is told by name.
fn supervise(
    name: &'static str,
    fatal: &mpsc::UnboundedSender<String>,
    part: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) {
    let (task, fatal) = (tokio::spawn(part), fatal.clone());
    tokio::spawn(async move {
        let end = match task.await {
            Ok(Ok(())) => "it returned".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        };
        let _ = fatal.send(format!("{name} ended: {end}"));
    });
}

/// The first signal asks the poll thread to finish, the second ends the process.
fn watch_signals(stop: watch::Sender<bool>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        tracing::info!("stopping: finishing what is under way (a second signal ends it at once)");
        stop.send_replace(true);
        next().await;
        tracing::warn!("ending at once; what was under way will be read again");
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(())
}

/// Tells every second what is held in memory and that the runtime turns; on a terminal also, while
/// records come, how fast. Looks whether there are more partitions than the budget was held against.
async fn tell_progress(
    lanes: Arc<Lanes>,
    mut partitions: usize,
    human: bool,
) -> anyhow::Result<()> {
    let mut told = 0;
    for second in 1_u64.. {
        tokio::time::sleep(TELL_EVERY).await;
        lanes.health.turned(Loop::Runtime);
        let Some(consumer) = lanes.handle.consumer() else {
            continue;
        };
        let (queued_bytes, known) = {
            let statistics = consumer.context().statistics();
            (statistics.queued_bytes(), statistics.partitions.len())
        };
        if known > partitions {
            partitions = known;
            memory::warn_of_shortage(lanes.limits.budget_bytes_max, partitions);
        }
        let held = lanes.budget.lent_bytes() as u64 + queued_bytes;
        lanes
            .metrics
            .buffered_bytes
            .set(i64::try_from(held).unwrap_or(i64::MAX));
        if human && second % RATE_LINE_EVERY == 0 {
            let settled: u64 = Outcome::ALL
                .iter()
                .map(|outcome| lanes.metrics.settled(*outcome))
                .sum();
            if settled > told {
                let rate = (settled - told) / RATE_LINE_EVERY;
                tracing::info!(
                    records_per_second = rate,
                    lag = consumer.context().lag(),
                    settled,
                    "progress"
                );
            }
            told = settled;
        }
    }
    Ok(())
}

/// What the group knew before, and a warning about other groups of the same topics.
async fn known_topics(
    database: &Database,
    config: &Config,
    partitions: &BTreeMap<String, i32>,
) -> anyhow::Result<KnownTopics> {
    let (group, topics) = (&config.kafka.group, &config.kafka.topics);
    let mut backoff = Backoff::new();
    loop {
        let asked = async {
            let others = checkpoint::other_groups(database, group, topics).await?;
            Ok::<_, mongodb::error::Error>((
                others,
                checkpoint::known_topics(database, group, topics).await?,
            ))
        };
        match asked.await {
            Ok((others, known)) => {
                if !others.is_empty() {
                    tracing::warn!(groups = ?others, %group, "other groups keep checkpoints for these topics in this database; they are not fenced against this one");
                }
                return Ok(KnownTopics {
                    topics: known.into_iter().collect(),
                    partitions: partitions.clone(),
                });
            }
            Err(error) => {
                tracing::debug!(
                    error = errors::shown(&error),
                    "asking for the known checkpoints"
                );
                backoff.wait().await;
            }
        }
    }
}

fn routed(
    config: &Config,
    unfoldable: &HashSet<String>,
) -> HashSet<crate::record::mapping::CollectionId> {
    config
        .mapping
        .collections()
        .filter(|(_, name)| unfoldable.contains(*name))
        .map(|(id, _)| id)
        .collect()
}

/// Half of the poll interval at the most, so that a slow lane never costs the membership, and less
/// than a poll thread may stand still before it counts as stuck.
fn revoke_deadline(config: &Config) -> Duration {
    let half = config.kafka.properties.max_poll_interval() / 2;
    config
        .limits
        .drain_deadline
        .min(half)
        .min(REVOKE_DEADLINE_MAX)
}

/// The user's properties with those that the service owns.
fn properties(config: &Config, partitions: usize) -> BTreeMap<String, String> {
    let mut properties: BTreeMap<String, String> = config
        .kafka
        .properties
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let owned = [
        ("group.id", config.kafka.group.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        ("statistics.interval.ms", STATISTICS_MS),
    ];
    properties.extend(owned.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let (queues, _) = memory::shares(config.limits.budget_bytes_max);
    let sizes = memory::properties(queues, partitions);
    properties.extend(sizes.map(|(name, value)| (name.to_owned(), value)));
    properties
}
