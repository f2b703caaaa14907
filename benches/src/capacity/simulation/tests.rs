use super::*;
use crate::capacity::model::Sides;
use crate::capacity::runs;

/// A full log of the bench on two cores, as `make bench` drains it.
fn bench() -> Setup {
    Setup {
        costs: Costs::slow(),
        input: Input::Full(50_000),
        ..runs::BENCH
    }
}

fn steady(partitions: usize, per_second: f64) -> Setup {
    Setup {
        partitions,
        placement: Placement::Separate(2, 4),
        costs: Costs::quick(),
        input: Input::Steady(per_second, 2.0),
        ..bench()
    }
}

#[test]
fn each_record_of_each_partition_is_applied_once() {
    for (partitions, workers, lanes_max) in [(1, 1, 1), (7, 2, 1), (12, 1, 4), (300, 3, 2)] {
        let outcome = simulate(Setup {
            partitions,
            workers,
            lanes_max,
            input: Input::Full(10_003),
            ..bench()
        });
        assert_eq!(outcome.applied.iter().sum::<u64>(), 10_003);
        let (least, most) = (outcome.applied.iter().min(), outcome.applied.iter().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "{partitions}");
    }
    let outcome = simulate(steady(50, 3_000.0));
    let applied = outcome.applied.iter().sum::<u64>();
    assert_eq!(applied, outcome.delays_ms.len() as u64);
    assert!((5_700..6_300).contains(&applied), "{applied}");
}

#[test]
fn the_same_seed_gives_the_same_outcome_and_another_one_another() {
    let run = |seed| {
        simulate(Setup {
            seed,
            ..steady(12, 500.0)
        })
        .delays_ms
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn where_nothing_costs_anything_nothing_waits() {
    let costs = Costs::NONE;
    let outcome = simulate(Setup { costs, ..bench() });
    assert_eq!(outcome.applied.iter().sum::<u64>(), 50_000);
    let outcome = simulate(Setup {
        costs,
        ..steady(12, 500.0)
    });
    assert_eq!(outcome.delay_ms(1.0), 0.0);
}

#[test]
fn one_partition_is_as_fast_as_its_transactions_one_after_the_other() {
    let setup = Setup {
        partitions: 1,
        placement: Placement::Separate(8, 8),
        ..bench()
    };
    let alone = setup.costs.of_lane(&setup.load, 1.0, 1_000.0);
    let rate = simulate(setup).records_per_second;
    assert!((rate / alone - 1.0).abs() < 0.05, "{rate} {alone}");
}

#[test]
fn no_core_works_more_than_all_the_time_and_no_rate_is_above_what_they_allow() {
    for partitions in [1, 4, 12, 100] {
        for placement in [
            Placement::Together(2),
            Placement::Apart(1, 1),
            Placement::Separate(1, 2),
        ] {
            let setup = Setup {
                partitions,
                placement,
                ..bench()
            };
            let outcome = simulate(setup);
            let (worker_cores, mongod_cores) = match placement {
                Placement::Together(all) => (all, all),
                Placement::Apart(workers, mongod) | Placement::Separate(workers, mongod) => {
                    (workers, mongod)
                }
            };
            assert!(outcome.worker_cores <= worker_cores as f64 + 1e-9);
            assert!(outcome.mongod_cores <= mongod_cores as f64 + 1e-9);
            // The fullest batches are the cheapest. What was done before the first answer counts
            // for nobody.
            let cheapest = setup
                .costs
                .of_record(&setup.load, partitions as f64, 1_000.0);
            let bound = match placement {
                Placement::Together(all) => {
                    let all_sides = cheapest.worker + cheapest.mongod + setup.costs.broker;
                    1e6 * all as f64 / all_sides
                }
                _ => 1e6 * mongod_cores as f64 / cheapest.mongod,
            };
            let rate = outcome.records_per_second;
            assert!(
                rate < 1.1 * bound,
                "{placement:?} {partitions}: {rate} {bound}"
            );
        }
    }
}

#[test]
fn more_cores_are_never_slower() {
    let mut before = 0.0;
    for cores in 1..=6 {
        let placement = Placement::Separate(cores, cores);
        let rate = simulate(Setup {
            placement,
            ..bench()
        })
        .records_per_second;
        assert!(rate > 0.97 * before, "{cores}: {rate} {before}");
        before = rate;
    }
}

#[test]
fn small_batches_share_a_transaction_and_large_ones_do_not() {
    let trickle = simulate(steady(200, 2_000.0));
    assert!(trickle.guards > 3.0, "{}", trickle.guards);
    let full = simulate(bench());
    assert!(full.guards < 1.2, "{}", full.guards);
    assert!(full.records_per_second / full.transactions_per_second > 600.0);
}

#[test]
fn a_claim_comes_first_and_counts() {
    let claim = Sides {
        worker: 0.0,
        mongod: 5_000.0,
    };
    let costs = Costs {
        claim,
        ..Costs::NONE
    };
    let placement = Placement::Separate(1, 2);
    let outcome = simulate(Setup {
        partitions: 100,
        costs,
        placement,
        ..bench()
    });
    assert_eq!(outcome.claimed_seconds, 0.25);
}
