//! What follows from the formula and from measured figures alone.

use workflows_sink::service::memory::PARTITION_BYTES_MIN;

use super::model::{Costs, FULL_RECORDS, Load};
use super::page::{markdown, range, short, whole};
use super::runs;
use super::scale::{MONGOD_CORES, WORKER_CORES};

/// How much of a core, or of a network, is planned with; assumed.
const USED: f64 = 0.7;
/// Partitions over which the constants were measured: folding depends on them.
const PARTITIONS: f64 = 12.0;
/// The primary of a replica set, all assumed: cores, secondaries, and MB/s of its network.
const PRIMARY_CORES: f64 = 16.0;
const SECONDARIES: f64 = 2.0;
const NETWORK_MB: f64 = 1_250.0;

const EXISTING: Load = Load {
    fresh: false,
    ..Load::BENCH
};
const UNFOLDED: Load = Load {
    states: 1.0,
    ..Load::BENCH
};
const LOADS: [(&str, Load); 3] = [
    ("70 % fold, new entities", Load::BENCH),
    ("70 % fold, all are there", EXISTING),
    ("none fold, all new", UNFOLDED),
];

/// What so many records/s need.
pub(super) fn needed() -> String {
    let mut rows = Vec::new();
    let both = [Costs::quick(), Costs::slow()];
    for per_second in [10_000.0, 100_000.0, 1_000_000.0] {
        for (name, load) in [LOADS[0], LOADS[2]] {
            let sides = both.map(|costs| costs.of_record(&load, PARTITIONS, FULL_RECORDS));
            let cores = |us: f64| per_second * us / 1e6 / USED;
            let workers = sides.map(|sides| (cores(sides.worker) / WORKER_CORES as f64).ceil());
            let lanes = both.map(|costs| {
                let lane = costs.networked().of_lane(&load, PARTITIONS, FULL_RECORDS);
                (per_second / lane / USED).ceil()
            });
            let share = load.written(PARTITIONS, FULL_RECORDS).all() / FULL_RECORDS;
            let out_mb = SECONDARIES * per_second * share * load.record_bytes / 1e6;
            let sets = sides.map(|sides| {
                let by_cores = cores(sides.mongod) / PRIMARY_CORES;
                by_cores.max(out_mb / NETWORK_MB / USED).ceil()
            });
            rows.push(vec![
                whole(per_second),
                name.to_owned(),
                range(sides.map(|sides| cores(sides.worker)), short),
                range(workers.map(|workers| workers.max(2.0)), whole),
                range(lanes, whole),
                range(sides.map(|sides| cores(sides.mongod)), short),
                short(out_mb),
                range(sets, whole),
            ]);
        }
    }
    markdown(
        &[
            "records/s",
            "records",
            "worker cores",
            "workers of 2",
            "partitions",
            "mongod cores",
            "MB/s out of primaries",
            "replica sets",
        ],
        rows,
    )
}

/// What a core and a partition drain.
pub(super) fn drained() -> String {
    let mut rows = Vec::new();
    for (machine, costs) in [("quick", Costs::quick()), ("slow", Costs::slow())] {
        for (name, load) in LOADS {
            let of_record = costs.of_record(&load, PARTITIONS, FULL_RECORDS);
            let lane = |costs: Costs| costs.of_lane(&load, PARTITIONS, FULL_RECORDS);
            rows.push(vec![
                machine.to_owned(),
                name.to_owned(),
                format!("{}, {}", short(of_record.worker), short(of_record.mongod)),
                short(1e6 / of_record.worker),
                short(1e6 / of_record.mongod),
                format!("{}, {}", short(lane(costs)), short(lane(costs.networked()))),
            ]);
        }
    }
    markdown(
        &[
            "machine",
            "records of 1.9 KB",
            "µs a record: worker, mongod",
            "records/s a worker core",
            "records/s a mongod core",
            "records/s a partition: one machine, a network",
        ],
        rows,
    )
}

/// Other sizes: what was measured on two shared cores, taken apart.
pub(super) fn sizes() -> String {
    let rows = runs::SIZES.iter().map(|size| {
        let broker = size.kb * Costs::slow().broker * 1_000.0 / Load::BENCH.record_bytes;
        let mongod = 2e6 / size.per_second - size.worker_us - broker;
        vec![
            format!("{}, {}", size.name, size.shape),
            format!("{}, {}", short(size.worker_us), short(mongod)),
            short(1e6 / size.worker_us),
            short(1e6 / mongod),
            short(size.kb * 1_000.0 / mongod),
            size.source.to_owned(),
        ]
    });
    markdown(
        &[
            "entity",
            "µs a record: worker, mongod",
            "records/s a worker core",
            "records/s a mongod core",
            "MB/s a mongod core",
            "from",
        ],
        rows.collect(),
    )
}

/// What partitions cost with nothing to do, or as all of them start.
pub(super) fn idle() -> String {
    /// Idle CPU in % of a core, and partitions.
    const IDLE: [(f64, f64); 2] = [(0.60, 12.0), (1.45, 192.0)];
    /// How often a lane looks at its checkpoint, in seconds.
    const LOOK_SECONDS: f64 = 10.0;
    /// The budget that the smallest queues need, a partition of the topic.
    const BUDGET_MIB: f64 = 2.0 * PARTITION_BYTES_MIN as f64 / runs::MIB;
    let a_partition = (IDLE[1].0 - IDLE[0].0) / (IDLE[1].1 - IDLE[0].1);
    let rows = [12.0, 100.0, 400.0, 1_000.0, 10_000.0].map(|partitions: f64| {
        let claims = [Costs::quick(), Costs::slow()]
            .map(|costs| partitions * costs.claim.mongod / 1e6 / MONGOD_CORES as f64);
        vec![
            whole(partitions),
            short(partitions / LOOK_SECONDS),
            format!(
                "{} %",
                short(IDLE[0].0 + a_partition * (partitions - IDLE[0].1))
            ),
            whole((partitions * BUDGET_MIB).ceil()),
            range(claims, short),
        ]
    });
    markdown(
        &[
            "partitions",
            "looks at checkpoints/s",
            "idle CPU, of a core",
            "`BUDGET_BYTES_MAX` at least, MiB",
            "all claims, s of mongod on 4 cores",
        ],
        rows.into(),
    )
}

/// A constant: its name, where it is, and where it is from.
type Constant = (&'static str, fn(&Costs) -> f64, &'static str);

const CONSTANTS: [Constant; 11] = [
    (
        "`record`: the worker's, a record",
        |costs| costs.record,
        "*CPU a record* without its commands",
    ),
    (
        "`insert`: mongod's, a new document",
        |costs| costs.insert,
        "*mongod's*, empty, likewise",
    ),
    (
        "`update`: mongod's, one that is there",
        |costs| costs.update,
        "*mongod's*, existing, likewise",
    ),
    (
        "`transaction` with one `update`: the worker's",
        |costs| costs.transaction.worker,
        "*Rate*",
    ),
    (
        "the same: mongod's",
        |costs| costs.transaction.mongod,
        "*Rate*",
    ),
    (
        "`command`, each further one: the worker's",
        |costs| costs.command.worker,
        "the driver's 22 % of 20 commands",
    ),
    (
        "the same: mongod's",
        |costs| costs.command.mongod,
        "0.55 ms a collection; the split is assumed",
    ),
    (
        "a guard beyond the first: mongod's",
        |costs| costs.guard,
        "assumed: as an `update`",
    ),
    (
        "a claim: mongod's",
        |costs| costs.claim.mongod,
        "assumed: as a transaction",
    ),
    (
        "`way` of a command",
        |costs| costs.wire,
        "what is left of 0.55 ms",
    ),
    (
        "`commit`: its wait",
        |costs| costs.commit,
        "what is left of 3.8 and 5.78 ms, the median of a transaction",
    ),
];

/// The constants, in microseconds.
pub(super) fn constants() -> String {
    let both = [Costs::quick(), Costs::slow()];
    let rows = CONSTANTS.map(|(name, of, source)| {
        let [quick, slow] = both.map(|costs| short(of(&costs)));
        vec![name.to_owned(), quick, slow, source.to_owned()]
    });
    markdown(&["µs", "quick", "slow", "from"], rows.into())
}
