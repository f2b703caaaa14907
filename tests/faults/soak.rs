//! `make soak MINUTES=…`: steady load and mild faults, watching whether anything grows.
//!
//! The first worker is never restarted: it is the witness of leaks. In the end the checker judges the whole history.

#[allow(unused)]
mod checker;
mod fault;
mod fleet;
mod load;
mod nemesis;
#[allow(dead_code)]
mod round;
#[allow(dead_code)]
mod schedule;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod witness;

#[path = "soak/plot.rs"]
mod plot;
#[path = "soak/sample.rs"]
mod sample;
#[path = "soak/slope.rs"]
#[allow(unused)]
mod slope;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use workflows_sink::record::entity::Tombstones;
use workflows_sink::record::fold::WriteMode;

use fault::{Fault, Side, Trouble};
use round::{Run, took};
use sample::SERIES;
use schedule::Schedule;
use stage::Stage;
use support::entities::Random;

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

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let minutes: f64 = std::env::var("MINUTES")
        .unwrap_or_default()
        .parse()
        .unwrap_or(10.0);
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
    let began = Instant::now();
    let (mut samples, mut faults) = (Vec::new(), Vec::new());
    let mut next_fault = FAULT_EVERY.min(lasts / 3);
    while began.elapsed() < lasts {
        tokio::time::sleep(SAMPLE_EVERY).await;
        run.fleet.look();
        let lag = run.lag().await;
        let witness = &mut run.fleet.members[0].worker;
        if let Some(sample) = sample::sample(witness, &admin, lag).await {
            samples.push((began.elapsed(), sample));
        }
        if began.elapsed() > next_fault && began.elapsed() + SAMPLE_EVERY < lasts {
            let fault = MILD[faults.len() % MILD.len()];
            faults.push(began.elapsed().as_secs_f64() / 60.0);
            next_fault = began.elapsed() + FAULT_EVERY;
            let recovery = match fault {
                Fault::WorkerStopped | Fault::WorkerKilled => {
                    match fault {
                        Fault::WorkerStopped => run.fleet.stop(1).await,
                        _ => run.fleet.kill(1),
                    }
                    run.fleet.top_up();
                    run.caught_up(&fault.to_string()).await
                }
                fault => {
                    run.step(&mut stage, &[fault], Random(faults.len() as u64))
                        .await
                }
            };
            println!(
                "{:6.1} min  {:24} {}",
                began.elapsed().as_secs_f64() / 60.0,
                recovery.what,
                took(&recovery)
            );
            run.recoveries.push(recovery);
        }
    }
    let verdict = run.finish(&mut stage, &schedule).await;

    let warm = lasts / 10;
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    std::fs::create_dir_all(&directory)?;
    let mut failed = false;
    let mut table = String::new();
    writeln!(
        table,
        "{:24} {:>9} {:>9} {:>11} {:>9}",
        "", "median", "max", "rise/hour", "rise"
    )?;
    let mut drawn = Vec::new();
    for (index, (name, absolute)) in SERIES.into_iter().enumerate() {
        let of = |hours: f64| {
            samples
                .iter()
                .map(move |(at, sample)| (at.as_secs_f64() / hours, sample[index]))
        };
        let after_warm_up: Vec<_> = of(3_600.0)
            .filter(|(at, _)| *at * 3_600.0 > warm.as_secs_f64())
            .collect();
        let Some(trend) = slope::trend(&after_warm_up) else {
            anyhow::bail!("too few samples of {name}: make it longer");
        };
        let leaks = slope::leaks(&trend, absolute);
        failed |= leaks;
        let note = if leaks { "  RISES" } else { "" };
        let slope::Trend {
            median,
            max,
            slope_per_hour,
            rise,
        } = trend;
        writeln!(
            table,
            "{name:24} {median:9.1} {max:9.1} {slope_per_hour:11.2} {rise:9.2}{note}"
        )?;
        drawn.push((name, of(60.0).collect()));
    }
    plot::draw(&directory.join("soak.svg"), &drawn, &faults)?;
    let line = |(at, sample): &(Duration, sample::Sample)| {
        serde_json::json!({ "seconds": at.as_secs_f64(), "sample": sample }).to_string()
    };
    let lines: Vec<String> = samples.iter().map(line).collect();
    std::fs::write(directory.join("soak.jsonl"), lines.join("\n"))?;
    println!(
        "\n{minutes} minutes, {} records, {} changes, {} faults\n{table}\nplot and samples: {}",
        verdict.records,
        verdict.changes,
        faults.len(),
        directory.display()
    );
    for violation in &verdict.violations {
        println!("{violation}");
    }
    let held = verdict.violations.is_empty();
    println!(
        "{}",
        if held {
            "the promise held"
        } else {
            "THE PROMISE DID NOT HOLD"
        }
    );
    Ok(if held && !failed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
