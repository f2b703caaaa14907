//! What happens in a run, by its seed. Pure.
//!
//! Faults are dealt like cards: each deck holds every fault once, shuffled, and [`HANDS`] seeds in
//! a row, from a multiple of it on, deal a whole one.

use std::fmt;

use local_stack::random::Random;
use workflows_sink::record::entity::Tombstones;
use workflows_sink::record::fold::WriteMode;

use crate::fault::{FAULTS, Fault};

/// How many seeds deal one deck.
pub const HANDS: u64 = 4;

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Where all of it comes from.
    pub seed: u64,
    /// How many workers there are at first.
    pub workers: usize,
    /// How many partitions the topic has at first.
    pub partitions: i32,
    /// Whether states are added to or replace their documents.
    pub mode: WriteMode,
    /// What tombstones do.
    pub tombstones: Tombstones,
    /// What happens, one after the other.
    pub steps: Vec<Step>,
}

/// One or two faults at the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What happens.
    pub faults: Vec<Fault>,
    /// For what is left to chance within the step.
    pub seed: u64,
}

impl Schedule {
    /// The run of a seed: of faults that it draws, or of these steps, each of them the names of its
    /// faults with `+` between.
    pub fn new(seed: u64, steps: &[String]) -> Schedule {
        let mut random = Random::new(seed);
        let steps = match steps {
            [] => drawn(seed, &mut random),
            steps => steps.iter().map(|step| named(step, &mut random)).collect(),
        };
        Schedule {
            seed,
            workers: 2 + random.below(3),
            partitions: 6,
            mode: [WriteMode::Set, WriteMode::Replace][random.below(2)],
            tombstones: [Tombstones::Ignore, Tombstones::Delete][random.below(2)],
            steps,
        }
    }
}

/// The faults of a seed, some of them two at a time.
fn drawn(seed: u64, random: &mut Random) -> Vec<Step> {
    let mut hand = dealt(seed);
    hand.reverse();
    let mut steps = Vec::new();
    while let Some(first) = hand.pop() {
        let fits = |second: &Fault| {
            first.part() != second.part() && !first.stands_alone() && !second.stands_alone()
        };
        let mut faults = vec![first];
        if random.below(100) < 40
            && let Some(second) = hand.pop_if(|second| fits(second))
        {
            faults.push(second);
        }
        let seed = random.bits();
        steps.push(Step { faults, seed });
    }
    steps
}

/// The step of that name.
fn named(step: &str, random: &mut Random) -> Step {
    let fault = |name| {
        let mut known = FAULTS.iter();
        let found = known.find(|fault| fault.to_string() == name);
        *found.unwrap_or_else(|| panic!("there is no fault {name}"))
    };
    Step {
        faults: step.split('+').map(fault).collect(),
        seed: random.bits(),
    }
}

/// The part of its deck that a seed is dealt.
fn dealt(seed: u64) -> Vec<Fault> {
    let deck = shuffled(FAULTS.to_vec(), &mut Random::new(!(seed / HANDS)));
    let hand = (seed % HANDS) as usize;
    deck.into_iter()
        .skip(hand)
        .step_by(HANDS as usize)
        .collect()
}

fn shuffled(mut faults: Vec<Fault>, random: &mut Random) -> Vec<Fault> {
    for last in (1..faults.len()).rev() {
        faults.swap(last, random.below(last + 1));
    }
    faults
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} workers, {} partitions, {:?}, tombstones {:?}",
            self.seed, self.workers, self.partitions, self.mode, self.tombstones
        )?;
        for (number, step) in self.steps.iter().enumerate() {
            let faults: Vec<String> = step.faults.iter().map(Fault::to_string).collect();
            writeln!(f, "  {:2}. {}", number + 1, faults.join(" + "))?;
        }
        Ok(())
    }
}

#[test]
fn a_seed_is_a_schedule_and_a_few_in_a_row_hold_every_fault() {
    assert_eq!(Schedule::new(7, &[]), Schedule::new(7, &[]));
    assert_ne!(Schedule::new(7, &[]).steps, Schedule::new(8, &[]).steps);
    for first in [0, HANDS, 17 * HANDS] {
        let seeds = first..first + HANDS;
        let mut dealt: Vec<Fault> = seeds
            .flat_map(|seed| Schedule::new(seed, &[]).steps)
            .flat_map(|step| step.faults)
            .collect();
        dealt.sort();
        let mut all = FAULTS.to_vec();
        all.sort();
        assert_eq!(dealt, all);
    }
}

#[test]
fn steps_can_be_named() {
    use crate::fault::{Side, Trouble};
    let named = ["WorkerFrozen+DiskFull", "NetworkKafkaCut", "WorkerFrozen"].map(str::to_owned);
    let steps = Schedule::new(1, &named).steps;
    let faults: Vec<_> = steps.iter().map(|step| step.faults.as_slice()).collect();
    let cut = Fault::Network(Side::Kafka, Trouble::Cut);
    assert_eq!(
        faults,
        [
            &[Fault::WorkerFrozen, Fault::DiskFull][..],
            &[cut],
            &[Fault::WorkerFrozen]
        ]
    );
}
