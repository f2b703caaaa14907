//! `make soak MINUTES=…`: steady load and mild faults, watching whether anything grows.
//!
//! The first worker is never restarted: it is the witness of leaks. In the end the checker judges
//! the whole history.

mod plot;
mod sample;
mod slope;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use local_stack::random::Random;
use mongodb::Database;
use workflows_sink::record::entity::Tombstones;
use workflows_sink::record::fold::WriteMode;

use crate::checker::Recovery;
use crate::fault::{Fault, Side, Trouble};
use crate::round::{Run, took};
use crate::schedule::Schedule;
use crate::stage::Stage;

use sample::{SERIES, Sample, sample};
use slope::Trend;

/// Records a second.
const RATE: usize = 100;
/// 100 records of 1 kB a second, with their checkpoints, for well over an hour.
const OPLOG_MB: u32 = 6_000;
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const FAULT_EVERY: Duration = Duration::from_secs(150);
const MILD: [Fault; 6] = [
    Fault::PrimarySteppedDown,
    Fault::WorkerStopped,
    Fault::Network(Side::Mongodb, Trouble::Reset),
    Fault::WorkerKilled,
    Fault::Network(Side::Kafka, Trouble::Reset),
    Fault::LeadershipMoved,
];

/// What was seen while the load went on.
#[derive(Default)]
struct Watched {
    samples: Vec<(Duration, Sample)>,
    /// When faults began, in minutes.
    faults: Vec<f64>,
}

/// Panics where something grows, or the promise did not hold, within so many minutes.
pub async fn run(minutes: f64) {
    let lasts = Duration::from_secs_f64(60.0 * minutes);
    let mut stage = Stage::start(OPLOG_MB).await;
    let schedule = Schedule {
        seed: 60,
        workers: 2,
        partitions: 12,
        mode: WriteMode::Set,
        tombstones: Tombstones::Ignore,
        steps: Vec::new(),
    };
    let mut run = Run::start(&mut stage, &schedule).await;
    run.load.rate(RATE);
    let admin = stage.admin().await.database("admin");
    let watched = watch(&mut run, &mut stage, &admin, lasts).await;
    let verdict = run.finish(&mut stage, &schedule).await;

    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    keep(&directory, &watched);
    let trends = trends(&watched, lasts / 10);
    println!(
        "\n{minutes} minutes, {} records, {} changes, {} faults\n{}\nplot and samples: {}",
        verdict.records,
        verdict.changes,
        watched.faults.len(),
        table(&trends),
        directory.display()
    );
    for violation in &verdict.violations {
        println!("{violation}");
    }
    assert!(verdict.violations.is_empty(), "the promise did not hold");
    let rising: Vec<&str> = (trends.iter())
        .filter(|(_, trend, absolute)| slope::leaks(trend, *absolute))
        .map(|(name, ..)| *name)
        .collect();
    assert!(rising.is_empty(), "these rise: {rising:?}");
    println!("the promise held");
}

/// Takes a sample every few seconds and lets a mild fault strike every few minutes.
async fn watch(run: &mut Run, stage: &mut Stage, admin: &Database, lasts: Duration) -> Watched {
    let began = Instant::now();
    let mut watched = Watched::default();
    let mut next_fault = FAULT_EVERY.min(lasts / 3);
    while began.elapsed() < lasts {
        tokio::time::sleep(SAMPLE_EVERY).await;
        run.fleet.look();
        let lag = run.lag().await;
        let witness = &mut run.fleet.members[0].worker;
        if let Some(sample) = sample(witness, admin, lag).await {
            watched.samples.push((began.elapsed(), sample));
        }
        if began.elapsed() > next_fault && began.elapsed() + SAMPLE_EVERY < lasts {
            let fault = MILD[watched.faults.len() % MILD.len()];
            watched.faults.push(began.elapsed().as_secs_f64() / 60.0);
            next_fault = began.elapsed() + FAULT_EVERY;
            let random = Random::new(watched.faults.len() as u64);
            let recovery = strike(run, stage, fault, random).await;
            println!(
                "{:6.1} min  {:24} {}",
                began.elapsed().as_secs_f64() / 60.0,
                recovery.what,
                took(&recovery)
            );
            run.recoveries.push(recovery);
        }
    }
    watched
}

/// A fault, and the recovery from it. Of the workers the second one is struck, and replaced.
async fn strike(run: &mut Run, stage: &mut Stage, fault: Fault, random: Random) -> Recovery {
    match fault {
        Fault::WorkerStopped => run.fleet.stop(1).await,
        Fault::WorkerKilled => run.fleet.kill(1),
        fault => return run.step(stage, &[fault], random).await,
    }
    run.fleet.top_up();
    run.caught_up(&fault.to_string()).await
}

/// One series: its value at each sample.
fn series(watched: &Watched, index: usize) -> impl Iterator<Item = (Duration, f64)> {
    let samples = watched.samples.iter();
    samples.map(move |(at, sample)| (*at, sample[index]))
}

/// The trend of each series once it is warm, with its name and the rise that counts as none.
fn trends(watched: &Watched, warm: Duration) -> Vec<(&'static str, Trend, f64)> {
    let trend = |(index, (name, absolute))| {
        let after_warm_up: Vec<_> = series(watched, index)
            .filter(|(at, _)| *at > warm)
            .map(|(at, value)| (at.as_secs_f64() / 3_600.0, value))
            .collect();
        let trend = slope::trend(&after_warm_up)
            .unwrap_or_else(|| panic!("too few samples of {name}: make it longer"));
        (name, trend, absolute)
    };
    SERIES.into_iter().enumerate().map(trend).collect()
}

/// The trends, for people.
fn table(trends: &[(&str, Trend, f64)]) -> String {
    let mut table = format!(
        "{:24} {:>9} {:>9} {:>11} {:>9}\n",
        "", "median", "max", "rise/hour", "rise"
    );
    for (name, trend, absolute) in trends {
        let note = if slope::leaks(trend, *absolute) {
            "  RISES"
        } else {
            ""
        };
        let Trend {
            median,
            max,
            slope_per_hour,
            rise,
        } = trend;
        writeln!(
            table,
            "{name:24} {median:9.1} {max:9.1} {slope_per_hour:11.2} {rise:9.2}{note}"
        )
        .expect("a string");
    }
    table
}

/// Leaves plot and samples where a person finds them.
fn keep(directory: &Path, watched: &Watched) {
    std::fs::create_dir_all(directory).expect("a directory");
    let drawn = SERIES.iter().enumerate().map(|(index, (name, _))| {
        let minutes = |(at, value): (Duration, f64)| (at.as_secs_f64() / 60.0, value);
        (*name, series(watched, index).map(minutes).collect())
    });
    let drawn: Vec<(&str, Vec<(f64, f64)>)> = drawn.collect();
    plot::draw(&directory.join("soak.svg"), &drawn, &watched.faults).expect("drawn");
    let line = |(at, sample): &(Duration, Sample)| {
        serde_json::json!({ "seconds": at.as_secs_f64(), "sample": sample }).to_string()
    };
    let lines: Vec<String> = watched.samples.iter().map(line).collect();
    std::fs::write(directory.join("soak.jsonl"), lines.join("\n")).expect("written");
}
