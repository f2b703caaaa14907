//! `offsets show`, `reset` and `resolve`: the checkpoints beside their logs.

mod code;
mod forget;
mod place;
mod print;

use std::{collections::HashMap, io::Write, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use bson::{Document, Uuid, doc};
use futures_util::TryStreamExt as _;
use mongodb::{Database, options::ReadConcern};

pub(in crate::commands) use self::place::Place;
#[cfg(test)]
pub(in crate::commands) use self::place::tests;
use self::place::{Move, Resolution, Stored, reject, resolution, target};
use self::print::{print_moves, print_places};
use crate::backoff::Backoff;
use crate::checkpoint::{COLLECTION, Checkpoints, Key, Reset, Standing, other_groups, standing};
use crate::cli::{Offsets, Partitions, To, Way};
use crate::config::{Config, Kafka, Start};
use crate::database;
use crate::kafka::broker::Broker;
use crate::kafka::preflight::{self, Absent};
use crate::record::{Partition, Position};
use crate::telemetry::code::Code;

/// How long Kafka may take to name the partitions.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the write of a checkpoint is retried before the command gives up.
const TRIES_MAX: u32 = 5;

/// Executes a command, and prints its result.
pub async fn execute(
    config: &Config,
    command: Offsets,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let database = database::open(&config.mongodb).await?;
    let (partitions, json) = match &command {
        Offsets::Forget { group, yes, json } => {
            let (group, kafka) = (group.clone(), &config.kafka);
            return forget::execute(&database, kafka, group, *yes, *json, out).await;
        }
        Offsets::Show { partitions, json } => (partitions, *json),
        Offsets::Reset { moving, .. } | Offsets::Resolve { moving, .. } => {
            (&moving.partitions, moving.json)
        }
    };
    let kafka = selected(&config.kafka, partitions);
    let broker = Broker::new(&kafka)?;
    let places = places(&database, &kafka, &broker, partitions.partition).await?;
    let (moves, yes) = match command {
        Offsets::Forget { .. } => unreachable!("it was executed above"),
        Offsets::Show { .. } => return show(&database, &kafka, &broker, &places, json, out).await,
        Offsets::Reset { to, moving } => {
            // One partition's worker is fenced by the new owner, and continues from there.
            let members = broker.members()?;
            let is_live = moving.partitions.partition.is_some() && !members.is_empty();
            if !is_live {
                stopped(&members, &kafka.group)?;
            }
            known(&database, &kafka, &places).await?;
            let moves = reset(places, to, &broker)?;
            if moving.yes && !is_live {
                // also fails for members that the broker does not list, those of
                // group.protocol=consumer
                broker.commit(&offsets(&moves)).with_context(|| {
                    format!(
                        "the committed offsets of the group {} could not be moved; \
                         if it has members, stop the service first",
                        kafka.group
                    )
                })?;
            }
            (moves, moving.yes)
        }
        Offsets::Resolve { moving, way } => {
            let moves = match way.reject {
                true => reject(places)?,
                false => resolve(places, config.kafka.start, way, &broker)?,
            };
            (moves, moving.yes)
        }
    };
    if yes {
        for planned in &moves {
            write(&database, &kafka.group, planned).await?;
        }
    }
    if !json {
        head(&database, &kafka, &broker, out)?;
    }
    print_moves(&moves, yes, json, out)
}

/// Says whose checkpoints these are: a name that is misspelt is seen.
fn head(
    database: &Database,
    kafka: &Kafka,
    broker: &Broker,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (group, members) = (&kafka.group, broker.members()?.len());
    let database = database.name();
    Ok(writeln!(
        out,
        "group {group}, {members} member(s); database {database}\n"
    )?)
}

async fn show(
    database: &Database,
    kafka: &Kafka,
    broker: &Broker,
    places: &[Place],
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if !json {
        head(database, kafka, broker, out)?;
    }
    print_places(places, json, out)
}

/// Fails while the group has members, and says which, and how long one that was killed stays.
fn stopped(members: &[String], group: &str) -> anyhow::Result<()> {
    ensure!(
        members.is_empty(),
        "the group {group} has {} member(s): stop the service first; one that was killed, or is a \
         static member (GROUP_INSTANCE_ID), stays until its session times out, by default 45 s:\n  {}",
        members.len(),
        members.join("\n  ")
    );
    Ok(())
}

/// Fails where the group has no checkpoint of these topics and another group has: its name may be
/// misspelt, and its checkpoints would be made in silence.
async fn known(database: &Database, kafka: &Kafka, places: &[Place]) -> anyhow::Result<()> {
    let is_new = |place: &Place| matches!(place.checkpoint, Stored::Absent);
    if !places.iter().all(is_new) || places.iter().any(|place| place.log.committed.is_some()) {
        return Ok(());
    }
    let others = other_groups(database, &kafka.group, &kafka.topics).await?;
    ensure!(
        others.is_empty(),
        "the group {} has no checkpoint and no committed offset in these topics, and {} has: is \
         DYFF_WORKFLOWS_SINK__GROUP what it should be? A new group is begun by starting the service",
        kafka.group,
        others.join(", ")
    );
    Ok(())
}

fn offsets(moves: &[Move]) -> Vec<(Partition, i64)> {
    let offset = |planned: &Move| (planned.place.partition.clone(), planned.to);
    moves.iter().map(offset).collect()
}

fn selected(kafka: &Kafka, partitions: &Partitions) -> Kafka {
    let mut kafka = kafka.clone();
    if let Some(topic) = &partitions.topic {
        kafka.topics = vec![topic.clone()];
        kafka.topics_variable = "--topic";
    }
    kafka
}

/// Every partition of the topics, or the `only` one of each, with its log and checkpoint.
///
/// # Errors
/// Where a server does not answer, or there is no such topic or partition.
pub(in crate::commands) async fn places(
    database: &Database,
    kafka: &Kafka,
    broker: &Broker,
    only: Option<i32>,
) -> anyhow::Result<Vec<Place>> {
    let partitions = partitions(kafka, only).await?;
    let checkpoints = database
        .collection::<Document>(COLLECTION)
        .find(of_topics(kafka))
        .read_concern(ReadConcern::majority())
        .await?
        .try_collect()
        .await?;
    places_of(partitions, checkpoints, broker)
}

/// Every partition of the topics, or the `only` one of each.
///
/// # Errors
/// Where Kafka does not answer, or there is no such topic or partition.
pub(in crate::commands) async fn partitions(
    kafka: &Kafka,
    only: Option<i32>,
) -> anyhow::Result<Vec<Partition>> {
    let nobody = Arc::default();
    let counts = preflight::topic_partitions(kafka, Absent::Refused, &nobody);
    let counts = tokio::time::timeout(KAFKA_TIMEOUT, counts);
    let counts = counts
        .await
        .with_context(|| format!("Kafka does not answer ({})", Code::KafkaAway))??
        .partitions;
    let partitions: Vec<Partition> = (counts.iter())
        .flat_map(|(topic, count)| (0..*count).map(|number| Partition::new(topic.as_str(), number)))
        .filter(|partition| only.is_none_or(|only| partition.number == only))
        .collect();
    ensure!(
        !partitions.is_empty(),
        "there is no partition {}: {}",
        only.unwrap_or_default(),
        (counts.iter())
            .map(|(topic, count)| format!("{topic} has {count}, from 0 to {}", count - 1))
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(partitions)
}

/// The query for the group's checkpoints of the topics.
pub(in crate::commands) fn of_topics(kafka: &Kafka) -> Document {
    doc! { "_id.group": &kafka.group, "_id.topic": { "$in": &kafka.topics } }
}

/// These partitions with their logs, and those of the checkpoints that are theirs.
///
/// # Errors
/// Where Kafka does not answer.
pub(in crate::commands) fn places_of(
    partitions: Vec<Partition>,
    checkpoints: Vec<Document>,
    broker: &Broker,
) -> anyhow::Result<Vec<Place>> {
    let mut checkpoints = by_partition(checkpoints);
    let known = |topic: &str| {
        checkpoints
            .keys()
            .any(|partition| *partition.topic == *topic)
    };
    let logs = broker.logs(&partitions, known)?;
    let places = partitions.into_iter().zip(logs).map(|(partition, log)| {
        let found = checkpoints.remove(&partition);
        Place {
            updated_at: found
                .as_ref()
                .and_then(|found| found.get_datetime("updated_at").ok().copied()),
            host: found.as_ref().and_then(|found| {
                let worker = found.get_document("worker").ok()?;
                worker.get_str("host").ok().map(str::to_owned)
            }),
            checkpoint: found.as_ref().map_or(Stored::Absent, Stored::read),
            partition,
            log,
        }
    });
    let mut places: Vec<Place> = places.collect();
    find_diverged(&mut places, broker)?;
    Ok(places)
}

/// Notes which logs have other records before a checkpoint that is inside them.
fn find_diverged(places: &mut [Place], broker: &Broker) -> anyhow::Result<()> {
    let position = |place: &Place| {
        let checkpoint = place.checkpoint.checkpoint()?;
        let position = checkpoint.position();
        let is_inside = standing(checkpoint, &place.log) == Standing::Resume;
        (is_inside && position.leader_epoch.is_some()).then_some(position)
    };
    let asked: Vec<(usize, (Partition, Position))> = (places.iter().enumerate())
        .filter_map(|(index, place)| Some((index, (place.partition.clone(), position(place)?))))
        .collect();
    let (indexes, positions): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    if positions.is_empty() {
        return Ok(());
    }
    for (index, diverged) in indexes.into_iter().zip(broker.diverged(&positions)?) {
        places[index].log.diverged = diverged;
    }
    Ok(())
}

fn by_partition(checkpoints: Vec<Document>) -> HashMap<Partition, Document> {
    let with_key = checkpoints.into_iter().filter_map(|found| {
        let id = found.get_document("_id").ok()?;
        let partition = Partition::new(id.get_str("topic").ok()?, id.get_i32("partition").ok()?);
        Some((partition, found))
    });
    with_key.collect()
}

fn reset(places: Vec<Place>, to: To, broker: &Broker) -> anyhow::Result<Vec<Move>> {
    let at = match to {
        To::Time(time_ms) => {
            let partitions: Vec<Partition> =
                places.iter().map(|place| place.partition.clone()).collect();
            broker.offsets_at(&partitions, time_ms)?
        }
        _ => vec![None; places.len()],
    };
    ensure!(
        !matches!(to, To::Offset(_)) || places.len() == 1,
        "an offset belongs to one partition: name it with --topic and --partition"
    );
    let moves = places.into_iter().zip(at).map(|(place, at)| {
        let to = target(to, &place, at)?;
        Ok(Move {
            place,
            to,
            reject_next: false,
        })
    });
    moves.collect()
}

/// Moves only what is stuck.
fn resolve(
    places: Vec<Place>,
    start: Start,
    way: Way,
    broker: &Broker,
) -> anyhow::Result<Vec<Move>> {
    let stuck = places.into_iter().filter(|place| place.is_stuck(start));
    let moves = stuck.map(|place| {
        let to = match resolution(&place, way)? {
            Resolution::To(to) => to,
            Resolution::BehindUnreadable(from) => {
                broker.readable_from(&place.partition, from, place.log.offsets.end)?
            }
        };
        Ok(Move {
            place,
            to,
            reject_next: false,
        })
    });
    moves.collect()
}

/// Writes a checkpoint under a new owner, so that its former owner can no longer write; only where
/// it still stands as it was shown. A stopped partition's checkpoint may be claimed meanwhile.
async fn write(database: &Database, group: &str, planned: &Move) -> anyhow::Result<()> {
    let place = &planned.place;
    let to = Reset {
        owner: Uuid::new(),
        next_offset: planned.to,
        topic_id: place.log.topic_id,
        reject_next: planned.reject_next,
    };
    let mut shown = place.checkpoint.clone();
    let checkpoints = Checkpoints::new(
        database.clone(),
        Key {
            group: group.to_owned(),
            partition: place.partition.clone(),
        },
    );
    let mut backoff = Backoff::new();
    loop {
        let tries = backoff.tries();
        let moved = async {
            let moved = checkpoints.reset(shown.as_found(), &to, tries);
            if moved.await?.is_some() {
                return Ok(None);
            }
            checkpoints.read().await
        };
        match moved.await {
            Ok(None) => return Ok(()),
            // An earlier try landed without an answer.
            Ok(Some(found)) if found.owner == Some(to.owner) => return Ok(()),
            Ok(Some(found)) if tries < TRIES_MAX && shown.was_only_claimed(&found) => {
                shown = Stored::Checkpoint(found);
                backoff.wait().await;
            }
            Ok(Some(_)) => bail!(
                "the checkpoint of {} has moved since it was read: nothing was changed; look again",
                place.partition
            ),
            Err(error) if tries >= TRIES_MAX => {
                return Err(error).with_context(|| {
                    format!(
                        "the checkpoint of {} may not have been moved",
                        place.partition
                    )
                });
            }
            Err(_) => backoff.wait().await,
        }
    }
}
