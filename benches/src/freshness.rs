//! From a record's time to its place in the database.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bson::{Document, doc};
use local_stack::observe;
use local_stack::random::Random;
use mongodb::Client;
use mongodb::options::WriteConcern;
use rdkafka::producer::{Producer as _, ThreadedProducer};
use tokio::time::sleep;

use crate::figures::{Figures, quantile};
use crate::load::{scattered_id, sized};
use crate::sending::{self, Acknowledged};
use crate::stage::{Service, Stage};
use crate::visible::Watch;

const LASTS: Duration = Duration::from_secs(20);
/// What comes first is not counted: connections are made, code and pages are touched.
const WARM_UP: Duration = Duration::from_secs(2);
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
/// Loads that are not counted: the broker compiles meanwhile what it runs most, as one that has run
/// for long has done, and takes a core for it.
const COMPILING_LOADS: usize = 5;
const TRANSACTION_EVERY: Duration = Duration::from_millis(50);
const PARTITIONS: i32 = 12;
const ENTITY_BYTES: usize = 2_000;
const ENTITIES: usize = 10_000;
const BURST: usize = 5_000;
const RETRIES: &str = "workflows_sink_retries_total";
const DELAY: &str = "workflows_sink_record_delay_seconds_bucket";

/// Takes the figures.
pub async fn measure(stage: &mut Stage, rounds: usize, figures: &mut Figures) -> Result<()> {
    for _ in 0..COMPILING_LOADS {
        load(stage, 1_000, BURST).await?;
    }
    for _ in 0..rounds {
        for (case, rate, burst) in [
            ("100/s", 100, 0),
            ("1000/s", 1_000, 0),
            ("5000/s", 5_000, 0),
            ("1000/s and a burst of 5000", 1_000, BURST),
        ] {
            let (seen, cost) = load(stage, rate, burst).await?;
            let records = rate as f64 * LASTS.as_secs_f64() + burst as f64;
            figures.add("freshness", case, "retries", "", seen.retries);
            let per_second = cost.transactions / cost.took.as_secs_f64();
            figures.add("freshness", case, "transactions", "1/s", per_second);
            for (whose, cpu) in ["service", "mongod", "broker"].iter().zip(cost.cpu) {
                let name = format!("{whose}'s CPU a record");
                let us = cpu.as_secs_f64() * 1e6 / records;
                figures.add("freshness", case, &name, "µs", us);
            }
            for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
                figures.add(
                    "freshness",
                    case,
                    &format!("broker: acknowledged {name}"),
                    "ms",
                    quantile(&seen.acknowledged_ms, q),
                );
                figures.add(
                    "freshness",
                    case,
                    &format!("service: visible {name}"),
                    "ms",
                    quantile(&seen.visible_ms, q),
                );
                figures.add(
                    "freshness",
                    case,
                    &format!("service: settled {name}"),
                    "ms",
                    histogram_quantile(&seen.settled, q),
                );
            }
            let visible_p99 = quantile(&seen.visible_ms, 0.99);
            for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
                let transaction = quantile(&seen.transactions_ms, q);
                let beside = format!("a transaction beside it {name}");
                figures.add("freshness", case, &beside, "ms", transaction);
                let ratio = visible_p99 / transaction;
                let figure = format!("visible p99 ÷ a transaction's {name}");
                figures.add("freshness", case, &figure, "", ratio);
            }
        }
    }
    stage.clear().await
}

/// One load on an empty topic and database: what was seen, and what it took.
async fn load(stage: &mut Stage, rate: usize, burst: usize) -> Result<(Seen, Cost)> {
    stage.clear().await?;
    let topic = stage.topic(PARTITIONS).await?;
    let group = stage.name("group");
    let mut service = stage.spawn(&topic, &group, &[])?;
    service.ready().await?;
    let (began, before) = (Instant::now(), counted(stage, &mut service).await?);
    let seen = observe_load(stage, &mut service, &topic, &group, rate, burst).await?;
    let (transactions, cpu) = counted(stage, &mut service).await?;
    let cost = Cost {
        took: began.elapsed(),
        transactions: transactions - before.0,
        cpu: std::array::from_fn(|whose| cpu[whose] - before.1[whose]),
    };
    service.stop().await?;
    Ok((seen, cost))
}

/// What has grown so far: mongod's transactions; CPU of the service, of mongod and of the broker.
async fn counted(stage: &mut Stage, service: &mut Service) -> Result<(f64, [Duration; 3])> {
    let cpu = [
        service.usage()?.cpu,
        stage.mongod_cpu()?,
        stage.broker_cpu()?,
    ];
    Ok((stage.transactions().await?, cpu))
}

/// What one load took, the change stream and the transactions beside it among it.
struct Cost {
    took: Duration,
    /// That mongod committed.
    transactions: f64,
    /// Of the service, of mongod and of the broker.
    cpu: [Duration; 3],
}

/// What was seen of one load.
struct Seen {
    /// Attempts of the service that failed.
    retries: f64,
    /// From when a record was due to the broker's answer, in milliseconds: no service can see it
    /// earlier.
    acknowledged_ms: Vec<f64>,
    /// From when a record was due until a majority had it in the database, in milliseconds.
    visible_ms: Vec<f64>,
    /// The service's own histogram of what it settled meanwhile: upper bounds in seconds, and
    /// counts up to them.
    settled: Vec<(f64, f64)>,
    /// Single transactions of another client, in milliseconds.
    transactions_ms: Vec<f64>,
}

async fn observe_load(
    stage: &Stage,
    service: &mut Service,
    topic: &str,
    group: &str,
    rate: usize,
    burst: usize,
) -> Result<Seen> {
    let producer = Arc::new(sending::producer(&stage.bootstrap())?);
    let visible = Watch::start(&stage.client().await?, group).await?;
    let producing = {
        let (producer, topic) = (Arc::clone(&producer), topic.to_owned());
        tokio::task::spawn_blocking(move || send(&producer, &topic, rate, burst))
    };
    let stop = Arc::new(AtomicBool::new(false));
    let beside = tokio::spawn(transactions(stage.client().await?, Arc::clone(&stop)));
    sleep(WARM_UP).await;
    let before = service.metrics().await?;
    let counted_from = producing.await??;
    let sent = producer.context().taken();
    visible.reached(&sending::last(&sent)).await?;
    stop.store(true, Ordering::Relaxed);
    let after = service.metrics().await?;
    Ok(Seen {
        retries: observe::total(&after, RETRIES),
        acknowledged_ms: (sent.iter().filter(|s| s.at >= counted_from))
            .map(|s| s.acknowledged_ms)
            .collect(),
        visible_ms: sending::delays_ms(&sent, &visible.stop()?, counted_from..),
        settled: grown(&before, &after),
        transactions_ms: beside.await??,
    })
}

/// Sends records at a steady pace, a burst in the middle; returns from when on they count. Blocks.
fn send(
    producer: &ThreadedProducer<Acknowledged>,
    topic: &str,
    rate: usize,
    burst: usize,
) -> Result<Instant> {
    let mut random = Random::new(7);
    // Made before the clock starts.
    let mut messages: VecDeque<_> = (0..ENTITIES)
        .map(|n| sized(&mut random, scattered_id(n), n, ENTITY_BYTES))
        .collect();
    let mut one = |due: Instant| {
        messages.rotate_left(1);
        sending::send(producer, topic, &messages[0], due)
    };
    let began = Instant::now();
    let total = (rate as f64 * LASTS.as_secs_f64()) as usize;
    for n in 0..total {
        let due = began + Duration::from_secs_f64(n as f64 / rate as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        one(due)?;
        if n == total / 2 {
            (0..burst).try_for_each(|_| one(due))?;
        }
    }
    producer.flush(FLUSH_DEADLINE)?;
    Ok(began + WARM_UP)
}

/// Majority transactions of a guard and one upsert, one now and then, until asked to stop; their
/// times in milliseconds, from when each was due, as for records. From its beginning, one
/// transaction would meet a pause of the server that many records meet.
async fn transactions(client: Client, stop: Arc<AtomicBool>) -> Result<Vec<f64>> {
    let database = client.database(local_stack::mongo::DATABASE);
    let majority = WriteConcern::majority();
    let beside = |name: &str| database.collection::<Document>(&format!("beside_{name}"));
    let (guards, entities) = (beside("guards"), beside("entities"));
    guards.insert_one(doc! { "_id": 0, "n": 0_i64 }).await?;
    entities.insert_one(doc! { "_id": "none" }).await?;
    let text = "a".repeat(ENTITY_BYTES);
    let mut session = client.start_session().await?;
    let mut times = Vec::new();
    let mut n = 0_i64;
    let mut ticks = tokio::time::interval(TRANSACTION_EVERY);
    while !stop.load(Ordering::Relaxed) {
        let due = ticks.tick().await;
        session
            .start_transaction()
            .write_concern(majority.clone())
            .await?;
        guards
            .update_one(doc! { "_id": 0, "n": n }, doc! { "$set": { "n": n + 1 } })
            .session(&mut session)
            .await?;
        entities
            .update_one(
                doc! { "_id": format!("{n}") },
                doc! { "$set": { "text": &text } },
            )
            .upsert(true)
            .session(&mut session)
            .await?;
        session.commit_transaction().await?;
        times.push(due.elapsed().as_secs_f64() * 1e3);
        n += 1;
    }
    Ok(times)
}

/// By how much a histogram has grown: upper bounds and counts up to them.
fn grown(before: &str, after: &str) -> Vec<(f64, f64)> {
    let read = |metrics: &str| -> BTreeMap<String, f64> {
        let mut counts = BTreeMap::new();
        for (labels, count) in observe::samples(metrics, DELAY) {
            let bound = labels
                .split("le=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next());
            *counts
                .entry(bound.unwrap_or("+Inf").to_owned())
                .or_default() += count;
        }
        counts
    };
    let before = read(before);
    let mut grown: Vec<(f64, f64)> = read(after)
        .into_iter()
        .map(|(bound, count)| {
            let upper = bound.parse().unwrap_or(f64::INFINITY);
            (upper, count - before.get(&bound).copied().unwrap_or(0.0))
        })
        .collect();
    grown.sort_by(|a, b| a.0.total_cmp(&b.0));
    grown
}

/// As Prometheus takes it: linear within the bucket; in milliseconds.
fn histogram_quantile(buckets: &[(f64, f64)], q: f64) -> f64 {
    let wanted = q * buckets.last().map_or(0.0, |(_, count)| *count);
    let (mut lower, mut below) = (0.0, 0.0);
    for (upper, count) in buckets {
        if *count >= wanted {
            let share = (wanted - below) / (count - below).max(1.0);
            let width = if upper.is_finite() {
                upper - lower
            } else {
                0.0
            };
            return 1e3 * (lower + share * width);
        }
        (lower, below) = (*upper, *count);
    }
    f64::NAN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_read_from_what_a_histogram_grew_by() {
        let text = |a, b, c| {
            format!(
                "{DELAY}{{le=\"0.01\"}} {a}\n{DELAY}{{le=\"0.02\"}} {b}\n{DELAY}{{le=\"+Inf\"}} {c}\n"
            )
        };
        let grown = grown(&text(5, 5, 6), &text(55, 105, 106));
        assert_eq!(grown, [(0.01, 50.0), (0.02, 100.0), (f64::INFINITY, 100.0)]);
        assert!((histogram_quantile(&grown, 0.25) - 5.0).abs() < 1e-9);
        assert!((histogram_quantile(&grown, 0.75) - 15.0).abs() < 1e-9);
    }
}
