//! One run: servers, workers and a producer; the nemesis by its schedule; and what became of it.

mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bson::Timestamp;
use local_stack::random::Random;
use test_support::credentials::CREDENTIALS_DIR;
use test_support::scene::Scene;

use crate::checker::{
    Evidence, Lineage, Log, Look, Recovery, Refusals, Settings, Spared, Violation, check, evidence,
};
use crate::compacted::Second;
use crate::fault::Fault;
use crate::fleet::{Fleet, previous_release};
use crate::load::Load;
use crate::nemesis::Nemesis;
use crate::schedule::Schedule;
use crate::sparing;
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
    let topics = format!("{},{}", scene.topic, second_topic(schedule));
    environment.insert("DYFF_WORKFLOWS_SINK__TOPICS".to_owned(), topics);
    environment
}

/// The topic that is compacted.
fn second_topic(schedule: &Schedule) -> String {
    format!("faults_{}.compacted", schedule.seed)
}

/// A run that goes on.
pub struct Run {
    scene: Scene,
    /// The brokers past their proxies.
    direct: String,
    partitions: i32,
    /// The producer.
    pub load: Load,
    second: Second,
    /// The workers.
    pub fleet: Fleet,
    sampler: Sampler,
    since: Timestamp,
    lineages: Vec<Lineage>,
    refusals: Vec<Refusals>,
    spared: Vec<Spared>,
    looks: Vec<Look>,
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
        run.recoveries.push(recovery);
        if run.is_stuck() {
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
        let second = second_topic(schedule);
        let second = Second::start(&topics, &direct, second, schedule.seed).await;
        let fleet = Fleet::start(environment(stage, &scene, schedule), schedule.workers);
        let sampler = Sampler::start(&scene, &direct);
        let mut run = Run {
            scene,
            direct,
            partitions: schedule.partitions,
            load,
            second,
            fleet,
            sampler,
            since,
            lineages: Vec::new(),
            refusals: Vec::new(),
            spared: Vec::new(),
            looks: Vec::new(),
            recoveries: Vec::new(),
        };
        let started = run.caught_up("the start").await;
        run.recoveries.push(started);
        run
    }

    /// Faults at the same time, and the recovery from them.
    pub async fn step(&mut self, stage: &mut Stage, faults: &[Fault], random: Random) -> Recovery {
        let before = sparing::before(faults, &self.lookout(), stage, &self.scene.group).await;
        let mut nemesis = Nemesis {
            stage: &mut *stage,
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
        let target = struck[0].target;
        let lasts = struck.iter().map(|struck| struck.lasts).max();
        tokio::time::sleep(lasts.unwrap_or_default()).await;
        // Of a fault that needs no healing the recovery is part.
        let lasted = struck.iter().any(|struck| !struck.lasts.is_zero());
        let mut spared = before.as_ref().and_then(|before| before.spared(target));
        for one in struck.into_iter().rev() {
            nemesis.heal(one).await;
        }
        if self.fleet.members.is_empty() {
            self.fleet.top_up();
        }
        let names: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let recovery = self.caught_up(&names.join(" + ")).await;
        if !lasted {
            spared = before.and_then(|before| before.spared(target));
        }
        if let Some(spared) = &spared {
            eprintln!("    it spared {:?}", spared.partitions);
        }
        self.spared.extend(spared);
        if recovery.took.is_some() {
            let lookout = self.lookout();
            let look = lookout.wait(&recovery.what, RECOVERY_BOUND, |_| ());
            let look = look.await;
            self.looks.push(look);
        }
        let now_ms = bson::DateTime::now().timestamp_millis();
        for refusals in &mut self.refusals {
            refusals.until_ms = refusals.until_ms.min(now_ms);
        }
        self.fleet.top_up();
        recovery
    }

    /// Ends the load, waits until all is applied, and judges what is left behind.
    pub async fn finish(mut self, stage: &mut Stage, schedule: &Schedule) -> Verdict {
        let mut compacted = self.end_second().await;
        let counted = self.begin_count().await;
        let acknowledged = self.load.stop().await;
        let last = self.caught_up("the end of the load").await;
        self.recoveries.push(last);
        if let Some(counted) = counted {
            self.end_count(counted).await;
        }
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
        let events = compacted.take_events(events);
        let mut documents = evidence::documents(database).await.expect("the entities");
        documents.retain(|(_, document)| !compacted.is_ours(document.get("_id")));
        let dead_letters = evidence::dead_letters(database).await;
        let mut dead_letters = dead_letters.expect("the dead letters");
        dead_letters.retain(|letter| !compacted.is_ours(letter.get("_id")));
        let checkpoints = evidence::checkpoints(database).await;
        let mut checkpoints = checkpoints.expect("the checkpoints");
        checkpoints.retain(|checkpoint| !compacted.is_ours(checkpoint.get("_id")));
        let left = read_log(&self.direct, &compacted.topic).await;
        let left: usize = left.partitions.values().map(|log| log.records.len()).sum();
        eprintln!(
            "  of {} records of the compacted topic {left} are left",
            compacted.records
        );
        let evidence = Evidence {
            settings: Settings {
                group: self.scene.group.clone(),
                topic: self.scene.topic.clone(),
                mode: schedule.mode,
                tombstones: schedule.tombstones,
                resets: false,
                ignored_collections: BTreeSet::new(),
                older_release: previous_release().is_some(),
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
            compacted: Some(compacted),
            refusals: self.refusals,
            spared: self.spared,
            looks: self.looks,
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

/// The log of the topic as it is now. Tries again for a while: a broker may not know yet who leads.
pub async fn read_log(bootstrap: &str, topic: &str) -> Lineage {
    let end = Instant::now() + RECOVERY_BOUND;
    loop {
        let asked = (bootstrap.to_owned(), topic.to_owned());
        let read = tokio::task::spawn_blocking(move || evidence::read_log(&asked.0, &asked.1));
        match read.await.expect("no panic") {
            Err(_) if Instant::now() < end => tokio::time::sleep(POLL).await,
            read => return read.expect("the log"),
        }
    }
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
    let name = format!("workflows-sink-faults-{seed}-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).expect("a directory for the logs");
    for (name, log) in logs {
        std::fs::write(directory.join(format!("{name}.log")), log).expect("a log");
    }
    eprintln!("the workers' logs are kept in {}", directory.display());
}
