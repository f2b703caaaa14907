//! The promise on the worst day: nothing lost, nothing twice, nothing backwards, whatever fails.
//!
//! A run is a seed: its schedule of faults, its records, its workers. [`checker`] decides whether
//! the promise held. `make test-faults SEED=… ROUNDS=…` runs others than the few seeds of `make
//! test`; with MINUTES it is one long run under mild faults, the soak.

mod checker;
mod compacted;
mod fault;
mod fleet;
mod load;
mod look;
mod nemesis;
mod pulse;
mod round;
mod schedule;
mod soak;
mod sparing;
mod stage;
mod witness;

use std::fmt::Write as _;
use std::str::FromStr;

use schedule::{HANDS, Schedule};
use stage::Stage;

/// As far back as the change stream must reach; megabytes.
const OPLOG_MB: u32 = 2_000;

/// The number in a variable of the environment, if there is one.
fn number<N: FromStr>(name: &str) -> Option<N> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_promise_holds_whatever_fails() {
    match number("MINUTES") {
        Some(minutes) => soak::run(minutes).await,
        None => {
            rounds(
                number("SEED").unwrap_or(0),
                number("ROUNDS").unwrap_or(HANDS),
            )
            .await
        }
    }
}

/// Runs the schedules of `rounds` seeds, and panics at the first that breaks the promise.
async fn rounds(first: u64, rounds: u64) {
    let steps = std::env::var("FAULTS").unwrap_or_default();
    let steps: Vec<String> = steps.split_whitespace().map(str::to_owned).collect();
    let mut stage = Stage::start(OPLOG_MB).await;
    let mut failed = String::new();
    for seed in first..first + rounds {
        let schedule = Schedule::new(seed, &steps);
        eprintln!("{schedule}");
        let verdict = round::run(&mut stage, &schedule).await;
        eprintln!(
            "  seed {seed}: {} records, {} changes, {} dead letters: {}\n",
            verdict.records,
            verdict.changes,
            verdict.dead_letters,
            if verdict.violations.is_empty() {
                "the promise held"
            } else {
                "VIOLATED"
            }
        );
        for violation in &verdict.violations {
            writeln!(failed, "{violation}").expect("a string");
        }
        if !failed.is_empty() {
            panic!("seed {seed} (SEED={seed} ROUNDS=1 make test-faults):\n{failed}\n{schedule}");
        }
    }
}
