//! `status`: whether the service does its work, on one screen.

mod print;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Database;

use self::print::{print_json_of, print_screen};
use super::NotHealthy;
use super::offsets::{Place, places};
use crate::config::Config;
use crate::config::startup::StartupError;
use crate::database;
use crate::database::facts::{Facts, facts};
use crate::kafka::broker::Broker;
use crate::kafka::group::GroupFacts;
use crate::kafka::scan::Scanner;
use crate::record::Partition;
use crate::writer;
use crate::writer::dead_letter::{COLLECTION, is_open};

/// Between the two looks that a rate follows from, and between two screens.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long the records at the checkpoints may take to be read, all together.
const AGES_DEADLINE: Duration = Duration::from_secs(5);

/// One look.
struct Status {
    group_name: String,
    database: String,
    group: GroupFacts,
    rows: Vec<Row>,
    mongodb: Facts,
    /// Open dead letters by reason.
    letters: BTreeMap<String, i64>,
}

/// A partition.
struct Row {
    place: Place,
    /// How old the oldest record is that is not applied, in milliseconds.
    age_ms: Option<i64>,
    /// How many offsets the checkpoint moves on in a second.
    rate: Option<f64>,
}

/// Shows the status once, or again and again until the output is closed.
///
/// # Errors
/// [`NotHealthy`], where it is not; others where a server does not answer.
pub async fn execute(
    config: &Config,
    watch: bool,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    loop {
        match show(config, watch, json, out).await {
            // What is watched is watched through an outage too.
            Err(error) if watch && !json && !is_for_a_person(&error) => {
                clear(out)?;
                writeln!(out, "nothing can be looked at: {error:#}")?;
                out.flush()?;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            shown => return shown,
        }
    }
}

/// Whether it does not pass by itself: what is configured, or an output that was closed.
fn is_for_a_person(error: &anyhow::Error) -> bool {
    error.is::<StartupError>() || error.is::<NotHealthy>() || error.is::<std::io::Error>()
}

/// The same until a server does not answer.
async fn show(
    config: &Config,
    watch: bool,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let database = database::open(&config.mongodb).await?;
    let broker = Broker::new(&config.kafka)?;
    let look_at = || places(&database, &config.kafka, &broker, None);
    let mut before = (Instant::now(), offsets(&look_at().await?));
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let places = look_at().await?;
        let now = (Instant::now(), offsets(&places));
        let rates = rates(&before.1, &now.1, now.0 - before.0);
        before = now;
        let status = look(config, &database, &broker, places, &rates).await?;
        if watch && !json {
            clear(out)?;
        }
        match json {
            true => print_json_of(&status, out)?,
            false => print_screen(&status, out)?,
        }
        out.flush()?;
        if !watch {
            return match status.faults().is_empty() {
                true => Ok(()),
                false => Err(NotHealthy.into()),
            };
        }
    }
}

/// Clears the screen of a terminal, and begins at its top.
fn clear(out: &mut impl Write) -> std::io::Result<()> {
    match std::io::stdout().is_terminal() {
        true => write!(out, "\x1b[2J\x1b[H"),
        false => Ok(()),
    }
}

/// Where each checkpoint stands.
fn offsets(places: &[Place]) -> BTreeMap<Partition, i64> {
    let offset = |place: &Place| Some((place.partition.clone(), place.next_offset()?));
    places.iter().filter_map(offset).collect()
}

/// How many offsets each partition's checkpoint has moved on in a second.
fn rates(
    before: &BTreeMap<Partition, i64>,
    now: &BTreeMap<Partition, i64>,
    took: Duration,
) -> BTreeMap<Partition, f64> {
    let rate = |(partition, now): (&Partition, &i64)| {
        let moved = now - before.get(partition)?;
        Some((partition.clone(), moved as f64 / took.as_secs_f64()))
    };
    now.iter().filter_map(rate).collect()
}

async fn look(
    config: &Config,
    database: &Database,
    broker: &Broker,
    places: Vec<Place>,
    rates: &BTreeMap<Partition, f64>,
) -> anyhow::Result<Status> {
    let collections = writer::collections(&config.mapping);
    let mongodb = facts(database, &collections, COLLECTION)
        .await
        .map_err(|why| anyhow!("MongoDB: {why}"))?;
    let wanted: Vec<(Partition, i64, i64)> = (places.iter())
        .filter_map(|place| {
            let next = place.next_offset().or(place.log.committed)?;
            let next = next.max(place.log.offsets.start);
            (next < place.log.stable_end)
                .then(|| (place.partition.clone(), next, place.log.stable_end))
        })
        .collect();
    let kafka = config.kafka.clone();
    let ages = tokio::task::spawn_blocking(move || {
        let scanner = Scanner::new(&kafka)?;
        anyhow::Ok(oldest(&scanner, &wanted))
    });
    let ages = ages.await??;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let rows = places.into_iter().map(|place| Row {
        age_ms: ages.get(&place.partition).map(|ms| (now_ms - ms).max(0)),
        rate: rates.get(&place.partition).copied(),
        place,
    });
    Ok(Status {
        group_name: config.kafka.group.clone(),
        database: database.name().to_owned(),
        group: broker.group()?,
        rows: rows.collect(),
        mongodb,
        letters: open_letters(database, &config.kafka.group).await?,
    })
}

/// The timestamps of the first records from the given offsets on, as far as they come in time.
fn oldest(scanner: &Scanner, wanted: &[(Partition, i64, i64)]) -> BTreeMap<Partition, i64> {
    let until = Instant::now() + AGES_DEADLINE;
    let mut found = BTreeMap::new();
    for (partition, from, end) in wanted {
        let mut timestamp = None;
        let scanned = scanner.scan(partition, *from..*end, Some(until), |record| {
            timestamp = record.timestamp_ms;
            ControlFlow::Break(())
        });
        if let Err(error) = scanned {
            tracing::debug!(%partition, error = format!("{error:#}"), "its age is not known");
        }
        found.extend(timestamp.map(|ms| (partition.clone(), ms)));
    }
    found
}

/// How many dead letters of the group are open, by reason.
async fn open_letters(database: &Database, group: &str) -> anyhow::Result<BTreeMap<String, i64>> {
    let pipeline = [
        doc! { "$match": { "_id.group": group, "state": is_open() } },
        doc! { "$group": { "_id": "$reason", "count": { "$sum": 1_i64 } } },
    ];
    let collection = database.collection::<Document>(COLLECTION);
    let found: Vec<Document> = collection.aggregate(pipeline).await?.try_collect().await?;
    let count = |found: &Document| {
        let reason = found.get_str("_id").ok()?.to_owned();
        Some((reason, found.get_i64("count").ok()?))
    };
    Ok(found.iter().filter_map(count).collect())
}
