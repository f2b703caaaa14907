//! What lanes, groups and transactions of a [`Simulation`] do next.

use std::collections::VecDeque;
use std::mem;

use workflows_sink::service::memory::{PARTITION_BYTES_MIN, QUEUE_BYTES_MAX};
use workflows_sink::writer::SHARE_BYTES_MAX;

use super::model::Written;
use super::simulation::{Event, Simulation, ns};

/// What a shared transaction may hold for one more batch to join it (`writer/group.rs`).
const GROUP_BYTES_MAX: f64 = 1024.0 * 1024.0;
const GROUP_WRITES_MAX: f64 = 2_000.0;
const GROUP_SHARES_MAX: usize = 256;
/// How long a batch with a slot waits for more (`lane/filling.rs`).
const FILL_NS: u64 = 20_000_000;
/// What Kafka's queues of all partitions hold together, by the default of `BUDGET_BYTES_MAX`.
const QUEUES_BYTES_MAX: usize = 192 * 1024 * 1024;
/// After how much work a core goes to whoever waits for it, in records that a lane takes in and in
/// microseconds of mongod.
const SLICE_RECORDS: u64 = 32;
const SLICE_US: f64 = 1_000.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Slot {
    #[default]
    None,
    Awaited,
    Held,
}

/// One partition. Its offsets: `checkpoint` ≤ `begin` ≤ `end` ≤ `log_end`.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) claimed: bool,
    pub(super) checkpoint: u64,
    /// Where the batch in hand begins and ends.
    begin: u64,
    pub(super) end: u64,
    pub(super) log_end: u64,
    /// Records on their way into the batch.
    pub(super) taking: u64,
    slot: Slot,
    fill_until_ns: u64,
    writing: bool,
    /// When each record behind the checkpoint came, where that is of interest.
    pub(super) arrived_ns: VecDeque<u64>,
}

/// A batch that is written, or waits to be.
#[derive(Debug)]
struct Part {
    lane: usize,
    start: u64,
    records: u64,
}

/// A transaction under way: that of a lane, or of a worker's group.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    parts: Vec<Part>,
    /// Its `update` commands, and what all writes together take of mongod.
    updates: usize,
    writes_us: f64,
    /// The command under way: the guard, the updates, the commit; and what is left of it to do.
    command: usize,
    left_us: f64,
}

impl Transaction {
    fn is_commit(&self) -> bool {
        self.command > self.updates
    }
}

/// What the lanes of one worker share.
#[derive(Debug, Default)]
pub(super) struct Worker {
    slots_free: usize,
    slots_awaited: VecDeque<usize>,
    shares: VecDeque<Part>,
    group_is_busy: bool,
}

impl Worker {
    pub(super) fn new(slots: usize) -> Worker {
        Worker {
            slots_free: slots,
            ..Worker::default()
        }
    }
}

impl Simulation {
    /// Lets a lane do what it can: write, or take more in.
    pub(super) fn go_on(&mut self, number: usize) {
        if !self.lanes[number].claimed || self.lanes[number].taking > 0 {
            return;
        }
        if self.needs_slot(number) {
            self.seek_slot(number);
        }
        if self.is_ready(number) {
            self.write(number);
        }
        let room = self.room(number);
        let lane = &mut self.lanes[number];
        lane.taking = room.min(lane.log_end - lane.end);
        if lane.taking > 0 {
            self.take_slice(number);
        }
    }

    fn take_slice(&mut self, number: usize) {
        let records = self.lanes[number].taking.min(SLICE_RECORDS) as f64;
        let costs = self.setup.costs;
        let end_ns = self.works(self.worker_of(number), records * costs.record);
        self.broker_works(records * costs.broker);
        self.schedule(end_ns, Event::TakenIn(number));
    }

    /// A slice is done; before it looks at anything else, the lane takes in all that it began with.
    pub(super) fn take_in(&mut self, number: usize) {
        let lane = &mut self.lanes[number];
        let taken = lane.taking.min(SLICE_RECORDS);
        lane.end += taken;
        lane.taking -= taken;
        match lane.taking {
            0 => self.go_on(number),
            _ => self.take_slice(number),
        }
    }

    fn worker_of(&self, lane: usize) -> usize {
        lane % self.workers.len()
    }

    fn is_small(&self, records: u64) -> bool {
        records as f64 * self.setup.load.record_bytes <= SHARE_BYTES_MAX as f64
    }

    fn is_full(&self, records: u64) -> bool {
        let bytes = (records + 1) as f64 * self.setup.load.record_bytes;
        records >= self.setup.records_max || (records > 0 && bytes > self.setup.bytes_max)
    }

    fn needs_slot(&self, number: usize) -> bool {
        let lane = &self.lanes[number];
        lane.slot != Slot::Held && !self.is_small(lane.end - lane.begin)
    }

    /// How many records the batch in hand may take in at once: no more than wait in its queue.
    fn room(&self, number: usize) -> u64 {
        let lane = &self.lanes[number];
        let held = lane.end - lane.begin;
        let has_room = |more: &u64| {
            let held = held + more;
            !self.is_full(held) && (lane.slot == Slot::Held || self.is_small(held))
        };
        // Half of what the queue and one more fetch may hold.
        let queue = QUEUES_BYTES_MAX / self.lanes.len();
        let queue = queue.clamp(PARTITION_BYTES_MIN, 2 * QUEUE_BYTES_MAX) / 2;
        let queued = (queue as f64 / self.setup.load.record_bytes).max(1.0) as u64;
        (0..queued).take_while(has_room).count() as u64
    }

    fn is_ready(&self, number: usize) -> bool {
        let lane = &self.lanes[number];
        let held = lane.end - lane.begin;
        if lane.writing || held == 0 || self.needs_slot(number) {
            return false;
        }
        let is_over = lane.end == lane.log_end || self.is_full(held);
        is_over || (lane.slot == Slot::Held && self.now_ns >= lane.fill_until_ns)
    }

    /// Takes a slot if nobody waits for one; waits itself only while its writer is idle.
    fn seek_slot(&mut self, number: usize) {
        let worker = self.worker_of(number);
        let lane = &self.lanes[number];
        let is_free = self.workers[worker].slots_free > 0;
        let is_awaited = !self.workers[worker].slots_awaited.is_empty();
        if lane.slot == Slot::None && (!lane.writing || (is_free && !is_awaited)) {
            self.lanes[number].slot = Slot::Awaited;
            self.workers[worker].slots_awaited.push_back(number);
            self.grant_slots(worker);
        }
    }

    fn grant_slots(&mut self, number: usize) {
        while self.workers[number].slots_free > 0
            && let Some(waiting) = self.workers[number].slots_awaited.pop_front()
        {
            self.workers[number].slots_free -= 1;
            let fill_until_ns = self.now_ns + FILL_NS;
            self.lanes[waiting].slot = Slot::Held;
            self.lanes[waiting].fill_until_ns = fill_until_ns;
            self.schedule(self.now_ns, Event::Woken(waiting));
            self.schedule(fill_until_ns, Event::Woken(waiting));
        }
    }

    /// Hands the batch over to be written, and begins the next one.
    fn write(&mut self, number: usize) {
        let worker = self.worker_of(number);
        let lane = &mut self.lanes[number];
        let part = Part {
            lane: number,
            start: lane.begin,
            records: lane.end - lane.begin,
        };
        lane.begin = lane.end;
        lane.writing = true;
        if mem::take(&mut lane.slot) == Slot::Held {
            self.begin(number, vec![part]);
        } else {
            self.workers[worker].shares.push_back(part);
            self.call_group(worker);
        }
    }

    /// Begins the group's next transaction once the lanes that are awake have had their turn.
    fn call_group(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        if !worker.group_is_busy && !worker.shares.is_empty() {
            worker.group_is_busy = true;
            let turn_ns = self.works(number, 0.0);
            self.schedule(turn_ns, Event::GroupBegins(number));
        }
    }

    pub(super) fn begin_group(&mut self, number: usize) {
        let (mut bytes, mut writes) = (0.0, 0.0);
        let mut parts = Vec::new();
        while (bytes < GROUP_BYTES_MAX && writes < GROUP_WRITES_MAX)
            && parts.len() < GROUP_SHARES_MAX
            && let Some(part) = self.workers[number].shares.pop_front()
        {
            let written = self.written(&part);
            bytes += written.all() * self.setup.load.record_bytes;
            writes += written.all();
            parts.push(part);
        }
        self.begin(self.lanes.len() + number, parts);
    }

    fn written(&self, part: &Part) -> Written {
        let partitions = self.lanes.len() as f64;
        self.setup.load.written(partitions, part.records as f64)
    }

    fn begin(&mut self, transaction: usize, parts: Vec<Part>) {
        let costs = &self.setup.costs;
        let written: Vec<_> = parts.iter().map(|part| self.written(part)).collect();
        let all: f64 = written.iter().map(|written| written.all()).sum();
        let writes_us = written
            .iter()
            .map(|written| written.inserts * costs.insert + written.updates * costs.update);
        self.transactions[transaction] = Transaction {
            writes_us: writes_us.sum(),
            updates: self.setup.load.commands(all).round() as usize,
            parts,
            ..Transaction::default()
        };
        self.send(transaction);
    }

    /// Sends the command under way. A third of what a transaction costs by itself is each the
    /// guard's, the first update's and the commit's.
    fn send(&mut self, number: usize) {
        let costs = self.setup.costs;
        let transaction = &mut self.transactions[number];
        let third = |side: f64| side / 3.0;
        let own = match (2..=transaction.updates).contains(&transaction.command) {
            true => costs.command.worker,
            false => third(costs.transaction.worker),
        };
        let of_writes = transaction.writes_us / transaction.updates as f64;
        transaction.left_us = match transaction.command {
            0 => {
                let others = transaction.parts.len() - 1;
                third(costs.transaction.mongod) + others as f64 * costs.guard
            }
            1 => third(costs.transaction.mongod) + of_writes,
            command if command <= transaction.updates => costs.command.mongod + of_writes,
            _ => third(costs.transaction.mongod),
        };
        let lane = transaction.parts[0].lane;
        let sent_ns = self.works(self.worker_of(lane), own) + ns(costs.wire / 2.0);
        self.schedule(sent_ns, Event::Received(number));
    }

    /// Lets mongod work on a command, or go on with it.
    pub(super) fn receive(&mut self, number: usize) {
        let transaction = &mut self.transactions[number];
        let slice_us = transaction.left_us.min(SLICE_US);
        transaction.left_us -= slice_us;
        let (is_done, is_commit) = (transaction.left_us <= 0.0, transaction.is_commit());
        let worked_ns = self.mongod_works(slice_us);
        if !is_done {
            self.schedule(worked_ns, Event::Received(number));
            return;
        }
        let costs = &self.setup.costs;
        let waits_us = if is_commit { costs.commit } else { 0.0 };
        let answered_ns = worked_ns + ns(waits_us + costs.wire / 2.0);
        self.schedule(answered_ns, Event::Answered(number));
    }

    pub(super) fn answer(&mut self, number: usize) {
        let transaction = &mut self.transactions[number];
        if !transaction.is_commit() {
            transaction.command += 1;
            self.send(number);
            return;
        }
        let parts = mem::take(&mut transaction.parts);
        self.count(parts.len(), parts.iter().map(|part| part.records).sum());
        for part in &parts {
            self.settle(part);
        }
        let worker = self.worker_of(parts[0].lane);
        if number < self.lanes.len() {
            self.workers[worker].slots_free += 1;
            self.grant_slots(worker);
        }
        for part in &parts {
            self.go_on(part.lane);
        }
        if number >= self.lanes.len() {
            self.workers[worker].group_is_busy = false;
            self.call_group(worker);
        }
    }

    /// Moves the checkpoint, as the guard does: only from where the batch begins.
    fn settle(&mut self, part: &Part) {
        let lane = &mut self.lanes[part.lane];
        assert_eq!(lane.checkpoint, part.start, "the guard matches");
        lane.checkpoint += part.records;
        lane.writing = false;
        let count = lane.arrived_ns.len().min(part.records as usize);
        let arrived: Vec<u64> = lane.arrived_ns.drain(..count).collect();
        for arrived_ns in arrived {
            self.note_delay(arrived_ns);
        }
    }
}
