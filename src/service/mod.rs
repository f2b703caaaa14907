//! Builds the service, runs it, and ends it: at the first signal in order, at the second at once,
//! and at the end of any part that should not have ended.

pub mod allocator;
mod first_start;
mod kafka_credentials;
mod letters;
pub mod memory;
mod parts;
mod progress;
mod servers;
mod validators;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use mongodb::Database;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use self::parts::{Fatal, lane_starter, poll, supervise, supervise_endless, watch_signals};
use self::progress::{report_progress, settled};
use crate::backoff::Backoff;
use crate::checkpoint;
use crate::config::startup::StartupError;
use crate::config::{Config, Kafka};
use crate::database::errors::{self, Cause};
use crate::database::outage::Outage;
use crate::database::{self, Connection, Login, Rotation};
use crate::kafka::log_watch::watch_logs;
use crate::kafka::membership::watch_membership;
use crate::kafka::preflight::Topics;
use crate::kafka::rejoin::hasten_rejoins;
use crate::kafka::topics::{self, KnownTopics};
use crate::kafka::{self, Poller, unpacking};
use crate::lane::budget::Budget;
use crate::lane::claim::Claimant;
use crate::lane::{Lanes, Slots};
use crate::telemetry::code::Code;
use crate::telemetry::health::{self, Health};
use crate::telemetry::logging::is_human;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::reminder::Reminder;
use crate::telemetry::{verbose, version};
use crate::writer::{Groups, Target};

/// How often librdkafka reports its statistics, in milliseconds: lag and memory are as fresh as
/// that.
const STATISTICS_MS: &str = "2000";

/// How late librdkafka sends a heartbeat whose time has come, where nothing else wakes its thread.
const HEARTBEAT_LATE_MAX: Duration = Duration::from_millis(500);

/// The longest that revoked partitions may take to finish what is under way.
const REVOKE_DEADLINE_MAX: Duration = Duration::from_secs(20);

/// Consumes until a signal says to stop.
///
/// # Errors
/// [`StartupError`] for what is permanent at start; else the name of the part that ended and why.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let (since, metrics) = (Instant::now(), Arc::new(Metrics::new()));
    serve(&config, &metrics).await?;
    let seconds = since.elapsed().as_secs();
    tracing::info!(seconds, settled = settled(&metrics), "stopped");
    Ok(())
}

async fn serve(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<()> {
    let (stop_tx, stop) = watch::channel(false);
    watch_signals(stop_tx)?;
    metrics.expect(
        &Cause::ALL.map(Cause::as_str),
        &[
            ("lane", "stopped"),
            ("claim", "kafka"),
            ("fetch", "partition"),
            ("fetch", "unreadable"),
            ("fetch", "stalled"),
            ("fetch", "open_transaction"),
            ("fetch", "silent_leader"),
            ("fetch", "no_room"),
            ("credentials", "unfit"),
            ("credentials", "refused"),
            ("credentials", "kafka"),
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
    announce(config);
    tracing::info!(address = %listener.local_addr()?, "listening");
    let (fatal, mut failed) = mpsc::unbounded_channel();
    let verbose = verbose::follow(config.log.filter.clone());
    supervise_endless("the watch over SIGUSR1", &fatal, verbose);
    let served = health::serve(
        listener,
        Arc::clone(metrics),
        Arc::clone(&health),
        std::future::pending(),
    );
    supervise_endless("the health server", &fatal, served);

    let mut stopping = stop.clone();
    let started = tokio::select! {
        started = start(config, metrics, &health, &fatal) => started?,
        _ = stopping.wait_for(|stop| *stop) => return Ok(()),
        Some(part) = failed.recv() => return Err(anyhow!(part)),
    };
    let polled = poll(started, config, stop, Arc::clone(&health))?;
    tokio::select! {
        polled = polled => polled.unwrap_or_else(|_| Err(anyhow!("the poll thread panicked"))),
        Some(part) = failed.recv() => Err(anyhow!(part)),
    }
}

/// The first line of the log: what runs, and with what.
fn announce(config: &Config) {
    let brokers = config.kafka.properties.get("bootstrap.servers");
    tracing::info!(
        version = version::VERSION,
        revision = version::REVISION,
        brokers,
        topics = config.kafka.topics.join(","),
        group = config.kafka.group,
        mongodb = config.mongodb.hosts(),
        database = config.mongodb.database,
        write_mode = setting(&config.write_mode),
        tombstones = setting(&config.tombstones),
        kind_changes = setting(&config.kind_changes),
        mapping = config.mapping_file.as_deref().unwrap_or("built in"),
        collections = config.mapping.collections().count(),
        "starting"
    );
}

/// The value of a setting as it is written in the environment: a word.
fn setting(value: &impl Debug) -> String {
    format!("{value:?}").to_lowercase()
}

/// Everything that must be true before the group is joined; waits for what is transient.
async fn start(
    config: &Config,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
    fatal: &Fatal,
) -> anyhow::Result<Poller> {
    let lanes_max = config.limits.lanes_max;
    let (login, found) = servers::reach(config, health).await?;
    let Topics {
        partitions: counts,
        ids,
        awaited,
    } = found;
    // Before there are lanes: a transaction does not wait for an index that is being made.
    letters::make_indexes(&login.database, config.closed_letters_ttl_seconds).await;
    for (topic, count) in &counts {
        metrics.topic_partitions(topic, usize::try_from(*count).expect("a count"));
    }
    let partitions = total(&counts);
    memory::warn_of_shortage(config.limits.budget_bytes_max, partitions);
    let known = known_topics(&login.database, config, counts).await?;
    first_start::decide(&login.database, config, &known, &awaited).await?;
    let target = target(config, &login.database).await?;

    let outage = Arc::new(Outage::default());
    let connection = connect_parts(config, login, &outage, metrics, health, fatal);
    let (handle, unstarted) = kafka::channel();
    let (topic_ids, watch) = topics::watch_ids(
        handle.clone(),
        &known.partitions,
        ids,
        Arc::clone(metrics),
        Arc::clone(health),
    );
    supervise_endless("the watch over topic ids", fatal, watch);
    let (queues, batches) = memory::shares(config.limits.budget_bytes_max);
    unpacking::set_bytes_max(queues);
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
            health: Arc::clone(health),
        },
        target,
        tombstones: config.tombstones,
        limits: config.limits,
        budget: Budget::new(batches),
        slots: Slots::new(lanes_max, config.limits.flush_bytes_max),
        topic_ids,
        heartbeat: (config.kafka.properties.heartbeat_interval()).max(HEARTBEAT_LATE_MAX),
        metrics: Arc::clone(metrics),
        health: Arc::clone(health),
        rejected: Arc::default(),
        fatal: fatal.clone(),
    });
    let budget_bytes_max = config.limits.budget_bytes_max;
    let properties_of = move |kafka: &Kafka| properties(kafka, budget_bytes_max, partitions);
    watch_lanes(config, &lanes, partitions, properties_of, fatal);
    let deadline = revoke_deadline(config);
    let context = kafka::Context::new(Arc::clone(metrics), deadline, lane_starter(lanes));
    unstarted
        .create(properties_of(&config.kafka), context)
        .context("the Kafka consumer could not be created")
}

/// The parts that look at the lanes and at what they read.
fn watch_lanes(
    config: &Config,
    lanes: &Arc<Lanes>,
    partitions: usize,
    properties_of: impl Fn(&Kafka) -> BTreeMap<String, String> + Send + Sync + 'static,
    fatal: &Fatal,
) {
    let (handle, metrics) = (&lanes.handle, &lanes.metrics);
    let logs = watch_logs(
        handle.clone(),
        Arc::clone(metrics),
        Arc::clone(&lanes.health),
    );
    supervise_endless("the watch over the logs' ends", fatal, logs);
    let topic = config.kafka.topics[0].clone();
    let rejoins = hasten_rejoins(handle.clone(), topic);
    supervise_endless("the follow-up of rebalances", fatal, rejoins);
    let followed = validators::follow(lanes.claimant.connection.clone(), Arc::clone(&lanes.target));
    supervise_endless("the watch over validators", fatal, followed);
    let (group, health) = (config.kafka.group.clone(), Arc::clone(&lanes.health));
    let membership = watch_membership(handle.clone(), group, health);
    supervise_endless("the watch over the group", fatal, membership);
    let is_human = is_human(&config.log, std::io::stderr().is_terminal());
    let progress = report_progress(Arc::clone(lanes), partitions, is_human);
    supervise_endless("the watch over progress", fatal, progress);
    let (kafka, metrics) = (config.kafka.clone(), Arc::clone(metrics));
    let followed = kafka_credentials::follow(kafka, handle.clone(), metrics, properties_of);
    supervise_endless("the watch over Kafka's credentials", fatal, followed);
}

/// The connection that lanes write on, and the parts that keep it in use: one follows a change of
/// the password, one pings, one counts the open dead letters.
fn connect_parts(
    config: &Config,
    login: Login,
    outage: &Arc<Outage>,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
    fatal: &Fatal,
) -> Connection {
    let Login { database, password } = login;
    let (connection, swap) = Connection::new(database);
    if config.mongodb.credentials.can_change() {
        let rotation = Rotation {
            mongodb: config.mongodb.clone(),
            password,
            lanes_max: config.limits.lanes_max,
            swap,
            outage: Arc::clone(outage),
            metrics: Arc::clone(metrics),
        };
        supervise_endless("the watch over credentials", fatal, rotation.follow());
    }
    let ping = database::ping(connection.clone(), Arc::clone(health), Arc::clone(outage));
    supervise("the watch over MongoDB", fatal, ping);
    let group = config.kafka.group.clone();
    let open = letters::watch_open(connection.clone(), group, Arc::clone(metrics));
    supervise_endless("the watch over open dead letters", fatal, open);
    connection
}

/// The longest that a stop takes: what a rebalance has just asked for, then what is under way, and
/// the leaving of the group. A pod's grace period must be above it.
pub fn stop_max(config: &Config) -> Duration {
    revoke_deadline(config) + config.limits.drain_deadline + kafka::STOP_BESIDES_MAX
}

/// What every writer needs.
async fn target(config: &Config, database: &Database) -> anyhow::Result<Arc<Target>> {
    let judged = database::unfoldable(database).await?;
    let lanes_max = config.limits.lanes_max;
    let mapping = Arc::clone(&config.mapping);
    let groups = Groups::new(mapping, config.kind_changes, lanes_max);
    Ok(Arc::new(Target {
        mapping: Arc::clone(&config.mapping),
        mode: config.write_mode,
        kind_changes: config.kind_changes,
        unfoldable: config.mapping.named(&judged).into(),
        rejections_in_a_row_max: config.limits.rejections_in_a_row_max,
        groups: Some(groups),
    }))
}

/// The partitions of all topics together.
fn total(counts: &BTreeMap<String, i32>) -> usize {
    let count = |count: &i32| usize::try_from(*count).expect("a count");
    counts.values().map(count).sum()
}

/// What the group knew before. Warns about other groups of the same topics.
async fn known_topics(
    database: &Database,
    config: &Config,
    partitions: BTreeMap<String, i32>,
) -> anyhow::Result<KnownTopics> {
    let (group, topics) = (&config.kafka.group, &config.kafka.topics);
    let (mut backoff, mut reminder) = (Backoff::new(), Reminder::default());
    loop {
        let asked = async {
            let others = checkpoint::other_groups(database, group, topics).await?;
            let known = checkpoint::known_topics(database, group, topics).await?;
            Ok::<_, mongodb::error::Error>((others, known))
        };
        match asked.await {
            Ok((others, known)) => {
                if !others.is_empty() {
                    tracing::warn!(
                        code = %Code::OtherGroups, groups = others.join(","), %group,
                        "other groups keep checkpoints for these topics in this database; they \
                         are not fenced against this one"
                    );
                }
                return Ok(KnownTopics {
                    topics: known.into_iter().collect(),
                    partitions,
                });
            }
            Err(error) => {
                let error = errors::shown(&error);
                if reminder.is_due(&error) {
                    tracing::warn!(
                        code = %Code::MongodbAway, error,
                        "the known checkpoints could not be read, retrying until they are"
                    );
                }
                backoff.wait().await;
            }
        }
    }
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
fn properties(
    kafka: &Kafka,
    budget_bytes_max: usize,
    partitions: usize,
) -> BTreeMap<String, String> {
    let passed = kafka.properties.iter();
    let mut properties: BTreeMap<String, String> = passed
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let owned = [
        ("group.id", kafka.group.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        ("statistics.interval.ms", STATISTICS_MS),
    ];
    properties.extend(owned.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let (queues, _) = memory::shares(budget_bytes_max);
    let sizes = memory::properties(queues, partitions);
    properties.extend(sizes.map(|(name, value)| (name.to_owned(), value)));
    properties
}
