//! Runs that were measured, and the simulation of each.

use super::model::{Costs, Load};
use super::page::{digits, markdown, short, whole};
use super::simulation::{Input, Placement, Setup, simulate};

/// `make bench` on a machine of two cores that everything shares.
pub(super) const BENCH: Setup = Setup {
    partitions: 12,
    workers: 1,
    placement: Placement::Together(2),
    lanes_max: 4,
    records_max: 1_000,
    bytes_max: 2.0 * MIB,
    load: Load::BENCH,
    costs: Costs::NONE,
    input: Input::Full(200_000),
    seed: 1,
};

pub(super) const MIB: f64 = 1024.0 * 1024.0;

/// Records of half a topic (*How cost grows*).
const HALF: u64 = 100_000;

/// Entities of one size: a run.
pub(super) struct Size {
    pub(super) name: &'static str,
    pub(super) kb: f64,
    pub(super) shape: &'static str,
    pub(super) worker_us: f64,
    pub(super) per_second: f64,
    pub(super) source: &'static str,
}

/// docs/benchmarks.md, *Entities*, and the nested ones of the quick machine (4ffa0ac): 45 MB/s in the
/// middle, 6.7 and 9.7 ms of the worker a MB.
pub(super) const SIZES: [Size; 4] = [
    Size {
        name: "0.2 KB",
        kb: 0.2,
        shape: "flat",
        worker_us: 4.8,
        per_second: 29_400.0,
        source: "*Entities*",
    },
    Size {
        name: "2 KB",
        kb: 2.0,
        shape: "flat",
        worker_us: 23.0,
        per_second: 8_200.0,
        source: "*Entities*",
    },
    Size {
        name: "20 KB",
        kb: 20.0,
        shape: "nested",
        worker_us: 134.0,
        per_second: 2_250.0,
        source: "`4ffa0ac`",
    },
    Size {
        name: "1 MB",
        kb: 1_000.0,
        shape: "nested",
        worker_us: 9_700.0,
        per_second: 45.0,
        source: "`4ffa0ac`",
    },
];

/// One drained topic: its name, the setup, and the records/s of the run.
type Drain = (String, Setup, f64);

/// *A full topic*, on the slow machine.
fn of_a_full_topic() -> Vec<Drain> {
    let slow = Setup {
        costs: Costs::slow(),
        ..BENCH
    };
    let mut drains = Vec::new();
    for (partitions, empty, existing) in [
        (1, 9_705.0, 10_311.0),
        (4, 18_095.0, 23_716.0),
        (12, 22_894.0, 34_118.0),
    ] {
        let all = Setup { partitions, ..slow };
        drains.push((format!("partitions: {partitions}, empty"), all, empty));
        let name = format!("partitions: {partitions}, existing");
        drains.push((name, over_what_is_there(all), existing));
    }
    let apart = Setup {
        placement: Placement::Apart(1, 1),
        ..slow
    };
    drains.push(("partitions: 12, empty, apart".to_owned(), apart, 15_196.0));
    let existing = over_what_is_there(apart);
    drains.push((
        "partitions: 12, existing, apart".to_owned(),
        existing,
        21_034.0,
    ));
    drains
}

/// *How cost grows*, on the slow machine.
fn of_half_a_topic() -> Vec<Drain> {
    let half = Setup {
        costs: Costs::slow(),
        input: Input::Full(HALF),
        ..BENCH
    };
    let mut drains = Vec::new();
    for (partitions, rate) in [(12, 26_200.0), (48, 26_100.0), (192, 20_500.0)] {
        let name = format!("partitions: {partitions}, half a topic");
        drains.push((name, Setup { partitions, ..half }, rate));
    }
    for (records_max, rate) in [
        (100, 8_600.0),
        (300, 15_000.0),
        (1_000, 22_400.0),
        (2_000, 25_000.0),
    ] {
        let name = format!("batches of {}", whole(records_max as f64));
        drains.push((
            name,
            Setup {
                records_max,
                ..half
            },
            rate,
        ));
    }
    for (lanes_max, rate) in [(1, 14_700.0), (2, 23_000.0), (8, 25_700.0), (16, 25_600.0)] {
        drains.push((
            format!("`LANES_MAX` {lanes_max}"),
            Setup { lanes_max, ..half },
            rate,
        ));
    }
    for (states, rate) in [(1.0, 10_000.0), (20.0, 48_300.0)] {
        let load = Load {
            states,
            ..Load::BENCH
        };
        drains.push((
            format!("states of an entity: {states}"),
            Setup { load, ..half },
            rate,
        ));
    }
    drains
}

/// `4ffa0ac`.
fn of_the_quick_machine() -> Vec<Drain> {
    let quick = Setup {
        costs: Costs::quick(),
        ..BENCH
    };
    let existing = over_what_is_there(quick);
    let more_lanes = Setup {
        lanes_max: 8,
        ..existing
    };
    [
        ("quick: 12, empty", quick, 74_000.0),
        ("quick: 12, existing", existing, 98_000.0),
        ("quick: the same, `LANES_MAX` 8", more_lanes, 107_700.0),
    ]
    .map(|(name, setup, rate)| (name.to_owned(), setup, rate))
    .into()
}

fn over_what_is_there(setup: Setup) -> Setup {
    let load = Load {
        fresh: false,
        ..setup.load
    };
    Setup { load, ..setup }
}

fn error(simulated: f64, run: f64) -> String {
    match (100.0 * (simulated / run - 1.0)).round() {
        0.0 => "0 %".to_owned(),
        percent if percent < 0.0 => format!("−{:.0} %", -percent),
        percent => format!("+{percent:.0} %"),
    }
}

/// Full topics.
pub(super) fn drains() -> String {
    let slow = of_a_full_topic().into_iter().chain(of_half_a_topic());
    let drains = slow.chain(of_the_quick_machine());
    let rows = drains.map(|(name, setup, run)| {
        let simulated = simulate(setup);
        let rate = simulated.records_per_second;
        let in_one = rate / simulated.transactions_per_second;
        vec![
            name,
            digits(run, 3),
            digits(rate, 3),
            error(rate, run),
            short(in_one),
        ]
    });
    let head = [
        "a full topic",
        "run, records/s",
        "simulated",
        "error",
        "records in a transaction",
    ];
    markdown(&head, rows.collect())
}

/// Records that trickle: *Freshness* on the slow machine, without the 20 transactions/s of the client
/// beside; what is known of the quick one.
pub(super) fn trickles() -> String {
    /// mongod's, a write of the entities there: (138 µs × 5,000 - 3 ms × 47.1) ÷ 5,000.
    const WRITE_US: f64 = 110.0;
    let load = Load {
        record_bytes: 2_000.0,
        states: 1.0,
        one_kind: true,
        ..Load::BENCH
    };
    let slow = |broker| Costs {
        broker,
        insert: WRITE_US,
        ..Costs::slow()
    };
    let quick = Costs::quick();
    let rows = [
        ("100/s", 100.0, slow(2_310.0), Some(94.0), 7.04),
        ("1,000/s", 1_000.0, slow(536.0), Some(108.0), 21.3),
        ("5,000/s", 5_000.0, slow(99.2), Some(27.1), 137.0),
        ("quick: 1,000/s", 1_000.0, quick, None, 3.6),
        ("quick: 5,000/s", 5_000.0, quick, None, 14.7),
    ]
    .map(
        |(name, per_second, costs, transactions, p50): (_, _, _, Option<f64>, f64)| {
            let input = Input::Steady(per_second, 10.0);
            let simulated = simulate(Setup {
                costs,
                load,
                input,
                ..BENCH
            });
            let (rate, delay) = (simulated.transactions_per_second, simulated.delay_ms(0.5));
            vec![
                name.to_owned(),
                transactions.map_or("–".to_owned(), whole),
                whole(rate),
                transactions.map_or("–".to_owned(), |run| error(rate, run)),
                digits(p50, 3),
                digits(delay, 3),
                error(delay, p50),
            ]
        },
    );
    let head = [
        "12 partitions",
        "run, transactions/s",
        "simulated",
        "error",
        "run, visible p50, ms",
        "simulated",
        "error",
    ];
    markdown(&head, rows.into())
}
