//! One run: servers, workers and a producer; the nemesis by its schedule; and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bson::{Timestamp, Uuid};
use local_stack::random::Random;
use test_support::credentials::CREDENTIALS_DIR;
use test_support::scene::Scene;
use workflows_sink::checkpoint::Checkpoint;

use crate::checker::{
    Evidence, Lineage, Log, Recovery, Refusals, Settings, Violation, check, evidence,
};
use crate::fault::Fault;
use crate::fleet::{self, Fleet};
use crate::load::Load;
use crate::nemesis::Nemesis;
use crate::schedule::Schedule;
use crate::stage::{POLL_INTERVAL, SESSION, Stage};
use crate::witness::{self, Sampler};

/// How long after the end of a fault until all that was in the log by then is applied. Against
/// hanging, not a figure.
const RECOVERY_BOUND: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// The result of a run.
pub struct Verdict {
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// Records in the log.
    pub records: usize,
    /// Changes in the change stream.
    pub changes: usize,
    /// Records that could not be applied.
    pub dead_letters: usize,
}

/// What a worker is started with.
fn environment(stage: &Stage, scene: &Scene, schedule: &Schedule) -> BTreeMap<String, String> {
    let mut environment = scene.environment();
    let more = [
        (
            "DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS",
            SESSION.as_millis().to_string(),
        ),
        (
            "DYFF_KAFKA__CONFIG__HEARTBEAT_INTERVAL_MS",
            "300".to_owned(),
        ),
        (
            "DYFF_KAFKA__CONFIG__MAX_POLL_INTERVAL_MS",
            POLL_INTERVAL.as_millis().to_string(),
        ),
        ("DYFF_KAFKA__CONFIG__SOCKET_TIMEOUT_MS", "10000".to_owned()),
        (
            "DYFF_KAFKA__CONFIG__TOPIC_METADATA_REFRESH_INTERVAL_MS",
            "1000".to_owned(),
        ),
        ("DYFF_WORKFLOWS_SINK__DRAIN_DEADLINE_MS", "4000".to_owned()),
        ("DYFF_WORKFLOWS_SINK__BUDGET_BYTES_MAX", "256MiB".to_owned()),
        (
            "DYFF_WORKFLOWS_SINK__WRITE_MODE",
            format!("{:?}", schedule.mode).to_lowercase(),
        ),
        (
            "DYFF_WORKFLOWS_SINK__TOMBSTONES",
            format!("{:?}", schedule.tombstones).to_lowercase(),
        ),
        (CREDENTIALS_DIR, stage.credentials.path().to_owned()),
    ];
    environment.extend(more.map(|(name, value)| (name.to_owned(), value)));
    environment
}

/// A run that goes on.
pub struct Run {
    scene: Scene,
    /// The brokers past their proxies.
    direct: String,
    partitions: i32,
    /// The producer.
    pub load: Load,
    /// The workers.
    pub fleet: Fleet,
    sampler: Sampler,
    since: Timestamp,
    lineages: Vec<Lineage>,
    refusals: Vec<Refusals>,
    /// What it recovered from, so far.
    pub recoveries: Vec<Recovery>,
}

/// Runs a schedule. Panics only where the run itself fails, never for what the service did.
pub async fn run(stage: &mut Stage, schedule: &Schedule) -> Verdict {
    let mut run = Run::start(stage, schedule).await;
    eprintln!("  recovered within, of at most {RECOVERY_BOUND:?}:");
    for step in &schedule.steps {
        let recovery = run.step(stage, &step.faults, Random::new(step.seed)).await;
        eprintln!("    {:44} {}", recovery.what, took(&recovery));
        let stuck = recovery.took.is_none();
        run.recoveries.push(recovery);
        if stuck {
            break;
        }
    }
    run.finish(stage, schedule).await
}

impl Run {
    /// A topic, a group and a database of its own, a producer, and workers that have caught up with
    /// it once.
    pub async fn start(stage: &mut Stage, schedule: &Schedule) -> Run {
        let name = format!("faults_{}", schedule.seed);
        let scene = Scene {
            bootstrap: stage.cluster.bootstrap(),
            uri: stage.mongo.uri_without_password(),
            database: stage.database(&name).await,
            topic: format!("{name}.state"),
            group: format!("{name}.group"),
        };
        let direct = stage.cluster.direct_bootstrap();
        let topics = stage.cluster.topics().expect("topics");
        witness::create_topic(&topics, &scene.topic, schedule.partitions).await;
        let since = evidence::operation_time(&scene.database)
            .await
            .expect("the time of the set");
        let load = Load::start(schedule.seed, &direct, &scene.topic, schedule.partitions);
        let fleet = Fleet::start(environment(stage, &scene, schedule), schedule.workers);
        let sampler = Sampler::start(&scene, &direct);
        let mut run = Run {
            scene,
            direct,
            partitions: schedule.partitions,
            load,
            fleet,
            sampler,
            since,
            lineages: Vec::new(),
            refusals: Vec::new(),
            recoveries: Vec::new(),
        };
        let started = run.caught_up("the start").await;
        run.recoveries.push(started);
        run
    }

    /// Faults at the same time, and the recovery from them.
    pub async fn step(&mut self, stage: &mut Stage, faults: &[Fault], random: Random) -> Recovery {
        let mut nemesis = Nemesis {
            stage,
            fleet: &mut self.fleet,
            load: &self.load,
            scene: &self.scene,
            lineages: &mut self.lineages,
            refusals: &mut self.refusals,
            partitions: self.partitions,
            random,
        };
        let mut struck = Vec::new();
        for fault in faults {
            struck.push(nemesis.strike(*fault).await);
        }
        let lasts = struck.iter().map(|struck| struck.lasts).max();
        tokio::time::sleep(lasts.unwrap_or_default()).await;
        for one in struck.into_iter().rev() {
            nemesis.heal(one).await;
        }
        let names: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let recovery = self.caught_up(&names.join(" + ")).await;
        let now_ms = bson::DateTime::now().timestamp_millis();
        for refusals in &mut self.refusals {
            refusals.until_ms = refusals.until_ms.min(now_ms);
        }
        self.fleet.top_up();
        recovery
    }

    /// How many records are in the log and not applied; `None` while servers are unavailable.
    pub async fn lag(&self) -> Option<i64> {
        let ends = witness::log_ends(&self.direct, &self.scene.topic)
            .await
            .ok()?;
        let checkpoints = witness::checkpoints(&self.scene.database, &self.scene.group)
            .await
            .ok()?;
        let applied = |partition| {
            checkpoints
                .get(partition)
                .map_or(0, |checkpoint| checkpoint.next_offset)
        };
        Some(
            ends.iter()
                .map(|(partition, end)| (end - applied(partition)).max(0))
                .sum(),
        )
    }

    /// Waits until all that is in the log by now is applied, and says how long that took.
    pub async fn caught_up(&mut self, what: &str) -> Recovery {
        let began = Instant::now();
        let mut recovery = Recovery {
            what: what.to_owned(),
            took: None,
            bound: RECOVERY_BOUND,
        };
        let mut goal = None;
        while began.elapsed() < RECOVERY_BOUND {
            self.fleet.look();
            if goal.is_none() {
                goal = self.goal().await;
            }
            if let Some(goal) = &goal
                && self
                    .behind(goal)
                    .await
                    .is_some_and(|behind| behind.is_empty())
            {
                recovery.took = Some(began.elapsed());
                return recovery;
            }
            tokio::time::sleep(POLL).await;
        }
        eprintln!("a run that does not go on: {}", self.standing(goal).await);
        for member in &self.fleet.members {
            eprintln!(
                "{} of a run that does not go on:\n{}",
                member.name,
                fleet::tail(&member.worker.log())
            );
        }
        recovery
    }

    /// The topic's id and the ends of its log, once it has a record: workers that have applied one
    /// are up.
    async fn goal(&self) -> Option<(Uuid, BTreeMap<i32, i64>)> {
        let id = witness::id_of_topic(&self.direct, &self.scene.topic)
            .await
            .ok()?;
        let ends = witness::log_ends(&self.direct, &self.scene.topic)
            .await
            .ok()?;
        ends.values().any(|end| *end > 0).then_some((id, ends))
    }

    /// The partitions that have not got to a goal, each with the end of its log and its checkpoint;
    /// `None` while MongoDB does not answer.
    async fn behind(
        &self,
        (id, ends): &(Uuid, BTreeMap<i32, i64>),
    ) -> Option<Vec<(i32, i64, Option<Checkpoint>)>> {
        let mut checkpoints = witness::checkpoints(&self.scene.database, &self.scene.group)
            .await
            .ok()?;
        let ends = ends
            .iter()
            .map(|(partition, end)| (*partition, *end, checkpoints.remove(partition)));
        let behind = ends.filter(|(_, end, found)| {
            let stands = found.as_ref().filter(|found| found.topic_id == Some(*id));
            *end > 0 && stands.is_none_or(|found| found.next_offset < *end)
        });
        Some(behind.collect())
    }

    /// What keeps a run from its goal, for people.
    async fn standing(&self, goal: Option<(Uuid, BTreeMap<i32, i64>)>) -> String {
        let Some(goal) = goal else {
            return "the log has no record, or the brokers do not say where it ends".to_owned();
        };
        let Some(behind) = self.behind(&goal).await else {
            return "MongoDB does not show the checkpoints".to_owned();
        };
        let mut standing = format!("topic {}", goal.0);
        for (partition, end, found) in behind {
            write!(standing, "; partition {partition} ends at {end}, {found:?}").expect("a string");
        }
        standing
    }

    /// Ends the load, waits until all is applied, and judges what is left behind.
    pub async fn finish(mut self, stage: &mut Stage, schedule: &Schedule) -> Verdict {
        let acknowledged = self.load.stop().await;
        let last = self.caught_up("the end of the load").await;
        self.recoveries.push(last);
        stage.cluster.ready().await.expect("the cluster is whole");
        self.lineages
            .push(read_log(&self.direct, &self.scene.topic).await);
        let samples = self.sampler.finish();
        let logs: Vec<(String, String)> = self
            .fleet
            .members
            .iter()
            .map(|member| (member.name.clone(), member.worker.log()))
            .collect();
        let workers = self.fleet.finish().await;
        let database = &self.scene.database;
        let events = evidence::read_events(database, self.since)
            .await
            .expect("the whole history");
        let documents = evidence::documents(database).await.expect("the entities");
        let dead_letters = evidence::dead_letters(database)
            .await
            .expect("the dead letters");
        let checkpoints = evidence::checkpoints(database)
            .await
            .expect("the checkpoints");
        let evidence = Evidence {
            settings: Settings {
                group: self.scene.group.clone(),
                topic: self.scene.topic.clone(),
                mode: schedule.mode,
                tombstones: schedule.tombstones,
                resets: false,
                ignored_collections: BTreeSet::new(),
            },
            log: Log {
                lineages: self.lineages,
            },
            acknowledged,
            events,
            documents,
            dead_letters,
            checkpoints,
            samples,
            refusals: self.refusals,
            workers,
            recoveries: self.recoveries,
        };
        let violations = check(&evidence);
        if !violations.is_empty() {
            keep(schedule.seed, &logs);
        }
        let records = |lineage: &Lineage| {
            lineage
                .partitions
                .values()
                .map(|log| log.records.len())
                .sum::<usize>()
        };
        self.scene.database.drop().await.expect("dropped");
        Verdict {
            violations,
            records: evidence.log.lineages.iter().map(records).sum(),
            changes: evidence.events.len(),
            dead_letters: evidence.dead_letters.len(),
        }
    }
}

/// The log of the topic as it is now.
pub async fn read_log(bootstrap: &str, topic: &str) -> Lineage {
    let asked = (bootstrap.to_owned(), topic.to_owned());
    let read = tokio::task::spawn_blocking(move || evidence::read_log(&asked.0, &asked.1));
    read.await.expect("no panic").expect("the log")
}

/// How long a recovery took, for people.
pub fn took(recovery: &Recovery) -> String {
    match recovery.took {
        Some(took) => format!("{:.1} s", took.as_secs_f64()),
        None => format!("not within {:?}", recovery.bound),
    }
}

/// Leaves the logs of the last workers where a person finds them.
fn keep(seed: u64, logs: &[(String, String)]) {
    let directory = std::env::temp_dir().join(format!("workflows-sink-faults-{seed}"));
    std::fs::create_dir_all(&directory).expect("a directory for the logs");
    for (name, log) in logs {
        std::fs::write(directory.join(format!("{name}.log")), log).expect("a log");
    }
    eprintln!("the workers' logs are kept in {}", directory.display());
}
