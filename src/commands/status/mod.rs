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
use mongodb::error::Error;

use self::print::{print_json_of, print_screen};
use self::verdict::StatusFault;
use super::NotHealthy;
use super::offsets::{Place, places_at};
use crate::checkpoint::other_groups;
use crate::config::startup::{self, StartupError};
use crate::config::{Config, Kafka};
use crate::database::facts::{Facts, facts};
use crate::database::{self, Away, errors};
use crate::kafka::broker::Broker;
use crate::kafka::group::GroupFacts;
use crate::kafka::preflight::{self, Unanswered};
use crate::kafka::scan::Scanner;
use crate::record::Partition;
use crate::telemetry::causes::told;
use crate::telemetry::code::Code;
use crate::writer;
use crate::writer::dead_letter::{COLLECTION, is_open};

/// Between the two looks that a rate follows from, and between two screens.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long the records at the checkpoints may take to be read, all together.
const AGES_DEADLINE: Duration = Duration::from_secs(5);

/// One look. What a server that does not answer would say is absent.
struct Status {
    group_name: String,
    database: String,
    /// Each server that does not answer, and why.
    unanswered: Vec<StatusFault>,
    group: Option<GroupFacts>,
    mongodb: Option<Mongodb>,
    /// Empty unless both servers answer: a partition is a log and its checkpoint.
    rows: Vec<Row>,
    /// Other groups with checkpoints of these topics, where this one has none.
    other_groups: Vec<String>,
}

/// What MongoDB says.
struct Mongodb {
    facts: Facts,
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
/// [`NotHealthy`], where it is not, a server that does not answer included; [`StartupError`] for
/// what is permanent.
pub async fn execute(
    config: &Config,
    watch: bool,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut looks = Looks::new(config)?;
    loop {
        let status = looks.next().await?;
        if watch && !json {
            clear(out)?;
        }
        match json {
            true => print_json_of(&status, out)?,
            false => print_screen(&status, out)?,
        }
        if !watch {
            return match status.faults().is_empty() {
                true => Ok(()),
                false => Err(NotHealthy.into()),
            };
        }
        out.flush()?;
        tokio::time::sleep(LOOK_EVERY).await;
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

/// What looks, again and again.
struct Looks<'a> {
    config: &'a Config,
    broker: Broker,
    /// Once it has answered.
    database: Option<Database>,
    /// When the checkpoints were looked at last, and where they stood.
    before: Option<(Instant, BTreeMap<Partition, i64>)>,
}

impl Looks<'_> {
    fn new(config: &Config) -> anyhow::Result<Looks<'_>> {
        Ok(Looks {
            config,
            broker: Broker::new(&config.kafka)?,
            database: None,
            before: None,
        })
    }

    /// Asks each server by itself first: what one says counts in an outage of the other.
    async fn next(&mut self) -> anyhow::Result<Status> {
        let mut unanswered = Vec::new();
        let (kafka, mongodb) = tokio::join!(partitions(&self.config.kafka), self.mongodb());
        let kafka = kafka.and_then(|partitions| Ok((self.broker.group()?, partitions)));
        let (group, partitions) = or_unanswered(kafka, &mut unanswered)?.unzip();
        let mongodb = or_unanswered(mongodb, &mut unanswered)?;
        let rows = match partitions.filter(|_| unanswered.is_empty()) {
            Some(partitions) => or_unanswered(self.rows(&partitions).await, &mut unanswered)?,
            None => None,
        };
        let rows = rows.unwrap_or_default();
        let others = self.other_groups(&rows).await;
        let others = or_unanswered(others, &mut unanswered)?;
        Ok(Status {
            group_name: self.config.kafka.group.clone(),
            database: self.config.mongodb.database.clone(),
            unanswered,
            group,
            mongodb,
            rows,
            other_groups: others.unwrap_or_default(),
        })
    }

    async fn mongodb(&mut self) -> anyhow::Result<Mongodb> {
        let database = self.database().await?;
        let collections = writer::collections(&self.config.mapping);
        Ok(Mongodb {
            facts: facts(&database, &collections, COLLECTION).await?,
            letters: open_letters(&database, &self.config.kafka.group).await?,
        })
    }

    async fn database(&mut self) -> anyhow::Result<Database> {
        if self.database.is_none() {
            self.database = Some(database::open(&self.config.mongodb).await?);
        }
        Ok(self.database.clone().expect("it was opened"))
    }

    /// Who else has checkpoints, where this group has none: its name may be misspelt.
    async fn other_groups(&mut self, rows: &[Row]) -> anyhow::Result<Vec<String>> {
        if rows.is_empty() || !rows.iter().all(|row| row.place.is_new()) {
            return Ok(Vec::new());
        }
        let (database, kafka) = (self.database().await?, &self.config.kafka);
        Ok(other_groups(&database, &kafka.group, &kafka.topics).await?)
    }

    /// Every partition; the first time after two looks, between which the rates are taken.
    async fn rows(&mut self, partitions: &[Partition]) -> anyhow::Result<Vec<Row>> {
        let (database, kafka) = (self.database().await?, &self.config.kafka);
        let look_at = || places_at(&database, kafka, &self.broker, partitions.to_vec());
        let before = match self.before.take() {
            Some(before) => before,
            None => {
                let before = (Instant::now(), offsets(&look_at().await?));
                tokio::time::sleep(LOOK_EVERY).await;
                before
            }
        };
        let places = look_at().await?;
        let now = (Instant::now(), offsets(&places));
        let rates = rates(&before.1, &now.1, now.0 - before.0);
        self.before = Some(now);
        let ages = ages(kafka, &places).await?;
        let rows = places.into_iter().map(|place| Row {
            age_ms: ages.get(&place.partition).copied(),
            rate: rates.get(&place.partition).copied(),
            place,
        });
        Ok(rows.collect())
    }
}

/// The partitions of the topics, if Kafka answers: asked once.
async fn partitions(kafka: &Kafka) -> anyhow::Result<Vec<Partition>> {
    let kafka = kafka.clone();
    let counts = tokio::task::spawn_blocking(move || preflight::partition_counts(&kafka));
    let counts = counts.await?.map_err(|why| match why {
        Unanswered::Transient(why) => anyhow!("Kafka does not answer: {why}"),
        Unanswered::Permanent(why) => StartupError::configuration(why).into(),
        // The service waits for it.
        absent @ Unanswered::Absent { .. } => absent.into(),
    })?;
    Ok(preflight::partitions_of(&counts))
}

/// An answer, or a note of why there is none.
///
/// # Errors
/// What is permanent until a person changes it.
fn or_unanswered<T>(
    answer: anyhow::Result<T>,
    unanswered: &mut Vec<StatusFault>,
) -> anyhow::Result<Option<T>> {
    let error = match answer {
        Ok(answer) => return Ok(Some(answer)),
        Err(error) if startup::code(&error) == Code::Configuration => return Err(error),
        Err(error) => error,
    };
    if let Some(absent) = error.downcast_ref::<Unanswered>() {
        unanswered.push(StatusFault::new(absent.code(), absent.to_string()));
        return Ok(None);
    }
    let (code, what) = match (error.downcast_ref(), error.downcast_ref()) {
        (Some(Away(why)), _) => (Code::MongodbAway, format!("MongoDB does not answer: {why}")),
        (_, Some(error)) => (
            Code::MongodbAway,
            format!("MongoDB: {}", errors::shown(error)),
        ),
        _ => (Code::KafkaAway, told(&error)),
    };
    unanswered.push(StatusFault::new(code, what));
    Ok(None)
}

/// How old the oldest record of each partition is that is not applied, in milliseconds.
async fn ages(kafka: &Kafka, places: &[Place]) -> anyhow::Result<BTreeMap<Partition, i64>> {
    let wanted: Vec<(Partition, i64, i64)> = (places.iter())
        .filter_map(|place| {
            let next = place.next_offset().or(place.log.committed)?;
            let next = next.max(place.log.offsets.start);
            (next < place.log.stable_end)
                .then(|| (place.partition.clone(), next, place.log.stable_end))
        })
        .collect();
    let kafka = kafka.clone();
    let oldest = tokio::task::spawn_blocking(move || {
        let scanner = Scanner::new(&kafka)?;
        anyhow::Ok(oldest(&scanner, &wanted))
    });
    let oldest = oldest.await??;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let age = |(partition, ms): (_, i64)| (partition, (now_ms - ms).max(0));
    Ok(oldest.into_iter().map(age).collect())
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
            tracing::debug!(%partition, error = told(&error), "its age is not known");
        }
        found.extend(timestamp.map(|ms| (partition.clone(), ms)));
    }
    found
}

/// How many dead letters of the group are open, by reason.
async fn open_letters(database: &Database, group: &str) -> Result<BTreeMap<String, i64>, Error> {
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
