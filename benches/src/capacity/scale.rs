//! Many partitions and several workers, simulated behind a network.

use super::model::Costs;
use super::page::{markdown, short, whole};
use super::runs;
use super::simulation::{Input, Placement, Setup, simulate};

/// Cores of a worker and of mongod; assumed.
pub(super) const WORKER_CORES: usize = 2;
pub(super) const MONGOD_CORES: usize = 4;
/// Records/s that trickle, for so many seconds.
const TRICKLE: Input = Input::Steady(10_000.0, 3.0);
/// Records of each partition of a full topic, and of all at the least and at the most.
const RECORDS_EACH: u64 = 2_000;
const RECORDS: [u64; 2] = [500_000, 2_000_000];

/// Workers with a network between them and mongod.
fn at_scale(partitions: usize, workers: usize) -> Setup {
    let records = RECORDS_EACH * partitions as u64;
    Setup {
        partitions,
        workers,
        placement: Placement::Separate(WORKER_CORES, MONGOD_CORES),
        costs: Costs::quick().networked(),
        input: Input::Full(records.clamp(RECORDS[0], RECORDS[1])),
        ..runs::BENCH
    }
}

/// Group commit over more and more partitions.
pub(super) fn partitions() -> String {
    let groups = [
        (1, 1),
        (10, 1),
        (100, 1),
        (400, 1),
        (1_000, 1),
        (1_000, 3),
        (10_000, 1),
        (10_000, 5),
        (10_000, 25),
    ];
    let rows = groups.map(|(partitions, workers)| {
        let setup = at_scale(partitions, workers);
        let full = simulate(setup);
        let trickle = simulate(Setup {
            input: TRICKLE,
            ..setup
        });
        let in_one = full.records_per_second / full.transactions_per_second;
        vec![
            whole(partitions as f64),
            workers.to_string(),
            short(full.records_per_second),
            short(in_one),
            short(trickle.transactions_per_second),
            short(trickle.guards),
            format!("{:.1}", trickle.mongod_cores),
            [0.5, 0.99].map(|q| short(trickle.delay_ms(q))).join(", "),
        ]
    });
    markdown(
        &[
            "partitions",
            "workers",
            "full topic: records/s",
            "records in a transaction",
            "10,000/s: transactions/s",
            "guards in one",
            "mongod cores",
            "settled after p50, p99 ms",
        ],
        rows.into(),
    )
}

/// What settings come to in a full topic of 12 partitions, behind a network.
pub(super) fn settings() -> String {
    let defaults = at_scale(12, 1);
    let lanes = |lanes_max| Setup {
        lanes_max,
        ..defaults
    };
    let larger = Setup {
        records_max: 2_000,
        bytes_max: 4.0 * runs::MIB,
        ..defaults
    };
    let rows = [
        ("the defaults", defaults),
        ("`FLUSH_RECORDS_MAX=2000`, `FLUSH_BYTES_MAX=4MiB`", larger),
        ("`LANES_MAX=8`", lanes(8)),
        ("`LANES_MAX=12`", lanes(12)),
        ("three workers of 4 partitions", at_scale(12, 3)),
    ]
    .map(|(name, setup)| {
        let full = simulate(setup);
        let cores = [full.worker_cores, full.mongod_cores];
        vec![
            name.to_owned(),
            short(full.records_per_second),
            cores.map(|cores| format!("{cores:.1}")).join(", "),
        ]
    });
    markdown(
        &["12 partitions", "records/s", "cores used: workers, mongod"],
        rows.into(),
    )
}
