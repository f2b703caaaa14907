//! What the workers show of themselves: their probes and metrics, against what is so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Evidence;
use super::violation::{Rule, Violation};

/// How long a worker may leave `/livez` without a yes; the machine is busy.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// What a partition does that is applied.
const RUNNING: &str = "running";

/// What one worker shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Its name in the schedule.
    pub name: String,
    /// Whether `/readyz` says yes.
    pub ready: bool,
    /// How many partitions it says to have.
    pub assigned: i64,
    /// What each of its partitions does.
    pub states: BTreeMap<i32, String>,
    /// How many records its partitions lack.
    pub lag: i64,
    /// How many records it has settled, over all partitions and outcomes.
    pub settled: u64,
}

/// What all workers show at one moment: the last look of a wait until it is as it must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// After what.
    pub after: String,
    /// The topic's partitions.
    pub partitions: BTreeSet<i32>,
    /// How many partitions there are besides, of another topic.
    pub others: usize,
    /// The workers.
    pub workers: Vec<Shown>,
    /// Whether all was applied and nothing was produced.
    pub idle: bool,
    /// Whether some are of 0.1.0, which shows no states.
    pub older_release: bool,
    /// How many records the workers must have settled, where that is known.
    pub settled: Option<u64>,
}

impl Look {
    /// What is not as it must be once all is well.
    pub fn fault(&self) -> Option<(Rule, String)> {
        let workers = self.workers.iter();
        let unready: Vec<&str> = (workers.clone())
            .filter(|worker| !worker.ready)
            .map(|worker| worker.name.as_str())
            .collect();
        if !unready.is_empty() {
            return Some((Rule::Ready, format!("not ready: {}", unready.join(", "))));
        }
        let assigned: i64 = workers.clone().map(|worker| worker.assigned).sum();
        let all = self.partitions.len() + self.others;
        if assigned != all as i64 {
            let message = format!("{assigned} of {all} are assigned");
            return Some((Rule::Ready, message));
        }
        let mut states: Vec<(i32, &str)> = (workers.clone())
            .flat_map(|worker| &worker.states)
            .map(|(partition, state)| (*partition, state.as_str()))
            .collect();
        states.sort_unstable();
        let running = self.partitions.iter().map(|p| (*p, RUNNING));
        if !self.older_release && !states.iter().copied().eq(running) {
            return Some((Rule::Ready, format!("the partitions' states: {states:?}")));
        }
        let lag: i64 = workers.clone().map(|worker| worker.lag).sum();
        if self.idle && lag != 0 {
            return Some((Rule::Ready, format!("all is applied, the lag is {lag}")));
        }
        let settled: u64 = workers.map(|worker| worker.settled).sum();
        let due = self.settled.filter(|due| *due != settled)?;
        let message = format!("{settled} records are counted as settled, of {due}");
        Some((Rule::Counted, message))
    }

    /// Whether nothing is about to move: besides, each worker has its share.
    pub fn is_steady(&self) -> bool {
        let shares = self.workers.iter().map(|worker| worker.assigned);
        let (most, least) = (shares.clone().max(), shares.min());
        let even = most
            .zip(least)
            .is_some_and(|(most, least)| most - least <= 1);
        even && self.fault().is_none()
    }
}

/// The workers showed after each fault that all was well, and what they had counted.
pub fn looks(evidence: &Evidence) -> Vec<Violation> {
    let fault = |look: &Look| {
        let (rule, message) = look.fault()?;
        Some(Violation::new(
            rule,
            format!("after {}: {message}", look.after),
        ))
    };
    evidence.looks.iter().filter_map(fault).collect()
}

/// The workers have not counted more records as settled than were applied.
pub fn counted(evidence: &Evidence, applied: usize) -> Option<Violation> {
    let last = evidence.looks.last()?;
    let counted: u64 = last.workers.iter().map(|worker| worker.settled).sum();
    let message = format!("{counted} records are counted as settled, only {applied} were applied");
    (counted > applied as u64).then(|| Violation::new(Rule::Counted, message))
}

/// Each worker said that it is alive, all the time that it could.
pub fn alive(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for worker in &evidence.workers {
        if worker.silence > SILENCE_MAX {
            let message = format!("{} was silent for {:?}", worker.name, worker.silence);
            violations.push(Violation::new(Rule::Alive, message));
        }
        if let Some(denied) = &worker.denied {
            let message = format!("{} said that it is not: {denied}", worker.name);
            violations.push(Violation::new(Rule::Alive, message));
        }
    }
    violations
}
