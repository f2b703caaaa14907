//! A discrete simulation of lanes, slots and shared transactions, on cores that are counted.
//!
//! The rules are those of the service, without what goes wrong:
//!
//! * A lane takes records in while its last batch is being written, and writes one batch at a time
//!   (`lane/consuming.rs`). A batch begins where the checkpoint stands once it is its turn.
//! * A batch of up to 128 KiB is written as soon as its writer is idle and nothing more has come. To
//!   grow further it needs one of the worker's slots: first come, first served while its writer is
//!   idle; else only a slot that is free and that nobody waits for. With it, it takes up to a number
//!   of records, and waits up to 20 ms for more of a log that goes on (`lane/slots.rs`,
//!   `lane/filling.rs`).
//! * A batch with a slot has a transaction of its own. Of the others, a worker writes one transaction
//!   at a time with all that wait: up to 256 batches, and one more as long as they have less than
//!   2,000 writes and 1 MiB (`writer/group.rs`).
//! * A transaction is a guard for each batch in one command, an `update` for each collection, or for
//!   each 100 writes of it, and the commit. Each command takes the worker's CPU, the way, and
//!   mongod's, in this order, and the next one waits for its answer.
//!
//! Left out: failures and retries, dead letters, the memory budget, elections and rebalances, the
//! disk, and how mongod's threads get in each other's way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use local_stack::random::Random;

use super::cores::Cores;
use super::model::{Costs, Load};
use super::rules::{Lane, Transaction, Worker};

#[cfg(test)]
mod tests;

/// Which cores there are.
#[derive(Clone, Copy, Debug)]
pub enum Placement {
    /// So many that workers, mongod and broker share.
    Together(usize),
    /// Some for workers and broker, others for mongod.
    Apart(usize, usize),
    /// Some for each worker, others for mongod; the broker has enough of its own.
    Separate(usize, usize),
}

/// Where records come from.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// A log that holds so many, in all partitions together, as the workers start.
    Full(u64),
    /// So many a second, at random times and to random partitions, for so many seconds.
    Steady(f64, f64),
}

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The topic's partitions.
    pub partitions: usize,
    /// Workers of the group; each has its share of the partitions.
    pub workers: usize,
    /// The cores.
    pub placement: Placement,
    /// `LANES_MAX`: slots of a worker.
    pub lanes_max: usize,
    /// `FLUSH_RECORDS_MAX`: records in a batch.
    pub records_max: u64,
    /// `FLUSH_BYTES_MAX`: bytes in a batch.
    pub bytes_max: f64,
    /// The records.
    pub load: Load,
    /// What work costs.
    pub costs: Costs,
    /// Where records come from.
    pub input: Input,
    /// The same seed gives the same outcome.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How many records each partition's checkpoint has behind it.
    pub applied: Vec<u64>,
    /// Records/s, from the first ones that were settled; without a limit, infinite.
    pub records_per_second: f64,
    /// Transactions a second, likewise.
    pub transactions_per_second: f64,
    /// Guards in a transaction, on average.
    pub guards: f64,
    /// Cores that the workers have used on average; with [`Placement::Apart`] the broker as well,
    /// and with [`Placement::Together`] everything.
    pub worker_cores: f64,
    /// Cores that mongod has used on average, likewise.
    pub mongod_cores: f64,
    /// When the last partition was claimed, in seconds.
    pub claimed_seconds: f64,
    /// From when each record came until it was settled, in ascending milliseconds; empty for a full
    /// log.
    pub delays_ms: Vec<f64>,
}

impl Outcome {
    /// The delay that a share `q` of the records does not exceed, in milliseconds; 0 without any.
    pub fn delay_ms(&self, q: f64) -> f64 {
        let last = self.delays_ms.len().saturating_sub(1);
        let at = (last as f64 * q).round() as usize;
        self.delays_ms.get(at).copied().unwrap_or(0.0)
    }
}

/// What happens, and to which lane, worker or transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Claimed(usize),
    Arrived,
    TakenIn(usize),
    Woken(usize),
    GroupBegins(usize),
    Received(usize),
    Answered(usize),
}

/// A run under way.
pub(super) struct Simulation {
    pub(super) setup: Setup,
    random: Random,
    pub(super) now_ns: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// How many events there have been: what comes at one time comes in order.
    numbered: u64,
    /// mongod's cores first.
    pools: Vec<Cores>,
    pub(super) lanes: Vec<Lane>,
    pub(super) workers: Vec<Worker>,
    /// Of the lanes, then of the groups.
    pub(super) transactions: Vec<Transaction>,
    committed: u64,
    guards: u64,
    settled: u64,
    /// When the first records were settled, and how many.
    first: Option<(u64, u64)>,
    last_ns: u64,
    claimed_ns: u64,
    delays_ms: Vec<f64>,
}

/// Runs `setup` until every record is settled.
///
/// # Panics
/// Where a batch does not begin at its checkpoint: a record would be applied twice or not at all.
pub fn simulate(setup: Setup) -> Outcome {
    let mut simulation = Simulation::new(setup);
    simulation.start();
    while let Some(Reverse((at_ns, _, event))) = simulation.events.pop() {
        simulation.now_ns = at_ns;
        simulation.handle(event);
    }
    simulation.outcome()
}

/// Microseconds in nanoseconds.
pub(super) fn ns(us: f64) -> u64 {
    (us * 1_000.0).round() as u64
}

impl Simulation {
    fn new(setup: Setup) -> Simulation {
        let pools = match setup.placement {
            Placement::Together(cores) => vec![Cores::new(cores)],
            Placement::Apart(workers, mongod) => vec![Cores::new(mongod), Cores::new(workers)],
            Placement::Separate(worker, mongod) => [mongod]
                .into_iter()
                .chain(vec![worker; setup.workers])
                .map(Cores::new)
                .collect(),
        };
        let transactions = setup.partitions + setup.workers;
        Simulation {
            random: Random::new(setup.seed),
            now_ns: 0,
            events: BinaryHeap::new(),
            numbered: 0,
            pools,
            lanes: (0..setup.partitions).map(|_| Lane::default()).collect(),
            workers: (0..setup.workers)
                .map(|_| Worker::new(setup.lanes_max))
                .collect(),
            transactions: (0..transactions).map(|_| Transaction::default()).collect(),
            committed: 0,
            guards: 0,
            settled: 0,
            first: None,
            last_ns: 0,
            claimed_ns: 0,
            delays_ms: Vec::new(),
            setup,
        }
    }

    /// Claims all partitions; one that gets its records later has been claimed for long.
    fn start(&mut self) {
        match self.setup.input {
            Input::Full(records) => {
                let partitions = self.lanes.len() as u64;
                for lane in 0..self.lanes.len() {
                    let more = u64::from((lane as u64) < records % partitions);
                    self.lanes[lane].log_end = records / partitions + more;
                    let claim = self.setup.costs.claim;
                    self.works(lane % self.workers.len(), claim.worker);
                    let end_ns = self.mongod_works(claim.mongod);
                    self.schedule(end_ns, Event::Claimed(lane));
                }
            }
            Input::Steady(..) => {
                self.lanes.iter_mut().for_each(|lane| lane.claimed = true);
                self.schedule(0, Event::Arrived);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Claimed(lane) => {
                self.lanes[lane].claimed = true;
                self.claimed_ns = self.now_ns;
                self.go_on(lane);
            }
            Event::Arrived => self.arrive(),
            Event::TakenIn(lane) => self.take_in(lane),
            Event::Woken(lane) => self.go_on(lane),
            Event::GroupBegins(worker) => self.begin_group(worker),
            Event::Received(transaction) => self.receive(transaction),
            Event::Answered(transaction) => self.answer(transaction),
        }
    }

    fn arrive(&mut self) {
        let Input::Steady(per_second, seconds) = self.setup.input else {
            return;
        };
        let unit = (self.random.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        let next_ns = self.now_ns + ns(-1e6 * (1.0 - unit).ln() / per_second).max(1);
        if next_ns as f64 <= seconds * 1e9 {
            self.schedule(next_ns, Event::Arrived);
        }
        let lane = self.random.below(self.lanes.len());
        self.lanes[lane].log_end += 1;
        self.lanes[lane].arrived_ns.push_back(self.now_ns);
        self.go_on(lane);
    }

    pub(super) fn schedule(&mut self, at_ns: u64, event: Event) {
        self.numbered += 1;
        self.events.push(Reverse((at_ns, self.numbered, event)));
    }

    /// Work of mongod; gives when it is done.
    pub(super) fn mongod_works(&mut self, us: f64) -> u64 {
        self.pools[0].run(self.now_ns, ns(us))
    }

    /// Work of a worker, likewise.
    pub(super) fn works(&mut self, worker: usize, us: f64) -> u64 {
        let pool = match self.setup.placement {
            Placement::Together(_) => 0,
            Placement::Apart(..) => 1,
            Placement::Separate(..) => 1 + worker,
        };
        self.pools[pool].run(self.now_ns, ns(us))
    }

    /// Work of the broker, for which nobody waits: it fetches ahead.
    pub(super) fn broker_works(&mut self, us: f64) {
        if !matches!(self.setup.placement, Placement::Separate(..)) {
            self.works(0, us);
        }
    }

    /// Counts a transaction that was committed.
    pub(super) fn count(&mut self, guards: usize, records: u64) {
        self.committed += 1;
        self.guards += guards as u64;
        self.settled += records;
        self.first.get_or_insert((self.now_ns, records));
        self.last_ns = self.now_ns;
    }

    /// Notes how long a record has waited that came at `arrived_ns`.
    pub(super) fn note_delay(&mut self, arrived_ns: u64) {
        self.delays_ms.push((self.now_ns - arrived_ns) as f64 / 1e6);
    }

    fn outcome(mut self) -> Outcome {
        self.delays_ms.sort_by(f64::total_cmp);
        let (began_ns, records) = self.first.unwrap_or((0, 0));
        let seconds = (self.last_ns - began_ns) as f64 / 1e9;
        let whole_ns = self.last_ns.max(1) as f64;
        let used = |pools: &[Cores]| {
            let busy = pools.iter().map(|pool| pool.busy_ns() as f64);
            busy.sum::<f64>() / whole_ns
        };
        let mongod_cores = used(&self.pools[..1]);
        let worker_cores = match self.setup.placement {
            Placement::Together(_) => mongod_cores,
            _ => used(&self.pools[1..]),
        };
        Outcome {
            applied: self.lanes.iter().map(|lane| lane.checkpoint).collect(),
            records_per_second: (self.settled - records) as f64 / seconds,
            transactions_per_second: self.committed.saturating_sub(1) as f64 / seconds,
            guards: self.guards as f64 / self.committed.max(1) as f64,
            worker_cores,
            mongod_cores,
            claimed_seconds: self.claimed_ns as f64 / 1e9,
            delays_ms: self.delays_ms,
        }
    }
}
