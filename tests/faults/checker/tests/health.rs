//! What is seen of the workers while they run, and the rule that finds what is wrong with it.

use std::time::Duration;

use super::sink::{Sink, state};
use super::{accepted, found};
use crate::checker::{Evidence, Exit, Look, Rule, Shown, Spared, WorkerRun};

/// Two workers that share three partitions, and have counted the four records of the log.
fn good() -> Evidence {
    let records = (1..=4).map(|revision| state("a", &format!(r#""revision":{revision}"#)));
    let mut sink = Sink::new(&[records.collect()]);
    sink.claim(0);
    sink.apply(0, 2);
    sink.apply(0, 4);
    let mut evidence = sink.end();
    let worker = |name: &str, partitions: &[i32], settled| Shown {
        name: name.to_owned(),
        ready: true,
        assigned: partitions.len() as i64,
        states: partitions
            .iter()
            .map(|partition| (*partition, "running".to_owned()))
            .collect(),
        lag: 0,
        settled,
    };
    evidence.looks.push(Look {
        after: "WorkerKilled".to_owned(),
        partitions: (0..3).collect(),
        others: 0,
        workers: vec![worker("worker 1", &[0, 2], 3), worker("worker 2", &[1], 1)],
        idle: true,
        older_release: false,
        settled: Some(4),
    });
    evidence
}

fn with(change: impl FnOnce(&mut Look)) -> Evidence {
    let mut evidence = good();
    change(&mut evidence.looks[0]);
    evidence
}

#[test]
fn workers_that_show_that_all_is_well_are_accepted() {
    accepted(&good());
    assert!(good().looks[0].is_steady());
    let busy = with(|look| {
        look.idle = false;
        look.workers[0].lag = 7;
    });
    accepted(&busy);
}

#[test]
fn workers_that_show_something_else_are_found() {
    type Wrong = (&'static str, fn(&mut Look));
    let wrong: [Wrong; 7] = [
        ("not ready: worker 2", |look| look.workers[1].ready = false),
        ("2 of 3 are assigned", |look| look.workers[1].assigned = 0),
        ("4 of 3 are assigned", |look| look.workers[1].assigned = 2),
        ("states", |look| drop(look.workers[0].states.remove(&2))),
        ("states", |look| {
            drop(look.workers[1].states.insert(2, "running".to_owned()))
        }),
        ("\"stuck\"", |look| {
            drop(look.workers[1].states.insert(1, "stuck".to_owned()))
        }),
        ("the lag is 7", |look| look.workers[0].lag = 7),
    ];
    for (what, wrong) in wrong {
        let shown = found(&with(wrong), Rule::Ready);
        assert!(shown.contains(what), "{what}: {shown}");
    }
}

#[test]
fn a_count_that_is_not_what_was_applied_is_found() {
    found(&with(|look| look.settled = Some(5)), Rule::Counted);
    found(&with(|look| look.workers[0].settled = 2), Rule::Counted);
    let more = with(|look| {
        look.settled = None;
        look.workers[0].settled = 4;
    });
    let shown = found(&more, Rule::Counted);
    assert!(
        shown.contains("5 records are counted as settled, only 4"),
        "{shown}"
    );
}

#[test]
fn a_worker_about_to_get_its_share_is_not_steady() {
    let mut evidence = good();
    let joined = Shown {
        name: "worker 3".to_owned(),
        ready: true,
        ..Shown::default()
    };
    evidence.looks[0].workers.push(joined);
    accepted(&evidence);
    assert!(!evidence.looks[0].is_steady());
}

#[test]
fn a_worker_that_is_not_alive_is_found() {
    let worker = |silence: u64, denied: Option<&str>| WorkerRun {
        name: "worker 1".to_owned(),
        peak_bytes: 0,
        budget_bytes: 0,
        silence: Duration::from_secs(silence),
        denied: denied.map(str::to_owned),
        exit: Exit::Running,
    };
    let mut evidence = good();
    evidence.workers = vec![worker(20, None)];
    accepted(&evidence);
    evidence.workers = vec![worker(21, None)];
    found(&evidence, Rule::Alive);
    evidence.workers = vec![worker(0, Some("503 runtime"))];
    found(&evidence, Rule::Alive);
}

#[test]
fn a_spared_partition_that_stands_still_is_found() {
    let during = |from_ms, until_ms, produced_ms| {
        let mut evidence = good();
        let log = evidence.log.lineages[0].partitions.get_mut(&0).unwrap();
        log.records[2].timestamp_ms = Some(produced_ms);
        evidence.spared.push(Spared {
            what: "WorkerFrozen".to_owned(),
            from_ms,
            until_ms,
            partitions: [0].into(),
        });
        evidence
    };
    // The checkpoint moves in the last event but one.
    let events = good().events;
    let moved = events[events.len() - 2].get_datetime("wallTime").unwrap();
    let at_ms = moved.timestamp_millis();
    accepted(&during(at_ms - 4_000, at_ms, at_ms - 3_900));
    let shown = found(
        &during(at_ms - 5_000, at_ms - 1, at_ms - 4_900),
        Rule::Progress,
    );
    assert!(shown.contains("partition 0 offset 2"), "{shown}");
    // Too late for it to be applied for certain, or not produced at all.
    accepted(&during(at_ms - 4_000, at_ms - 1, at_ms - 1_000));
    accepted(&during(at_ms - 4_000, at_ms - 1, at_ms + 1_000));
}
