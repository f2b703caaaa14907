//! `offsets`: the checkpoints beside their logs, shown, moved and removed.

mod code;
mod forget;
mod moves;
mod place;
mod print;

use std::{collections::HashMap, io::Write, mem, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::{Database, options::ReadConcern};

use self::moves::{offsets, reset, resolve, write};
pub(in crate::commands) use self::place::Place;
#[cfg(test)]
pub(in crate::commands) use self::place::tests;
use self::place::{Move, Stored, reject};
use self::print::{Head, print_moves, print_places};
use crate::checkpoint::{COLLECTION, Standing, other_groups, standing};
use crate::cli::{MoveOptions, Offsets, Partitions, ResetTarget};
use crate::config::{Config, Kafka};
use crate::database;
use crate::kafka::broker::Broker;
use crate::kafka::preflight::{self, Absent};
use crate::record::{Partition, Position};
use crate::telemetry::code::Code;

/// How long Kafka may take to name the partitions.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(30);

/// Executes a command, and prints its result.
///
/// # Errors
/// Where a server does not answer, or what is asked for cannot be.
pub async fn execute(
    config: &Config,
    command: Offsets,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let database = database::open(&config.mongodb).await?;
    match command {
        Offsets::Show { partitions, json } => {
            let looked = Looked::at(database, &config.kafka, &partitions).await?;
            print_places(&looked.head()?, &looked.places, json, out)
        }
        Offsets::Reset { to, moving } => {
            let mut looked = Looked::at(database, &config.kafka, &moving.partitions).await?;
            let moves = looked.reset(to, &moving).await?;
            looked.finish(&moves, &moving, out).await
        }
        Offsets::Resolve { moving, way } => {
            let mut looked = Looked::at(database, &config.kafka, &moving.partitions).await?;
            let places = mem::take(&mut looked.places);
            let moves = match way.reject {
                true => reject(places)?,
                false => resolve(places, config.kafka.start, way, &looked.broker)?,
            };
            looked.finish(&moves, &moving, out).await
        }
        Offsets::Forget { group, yes, json } => {
            forget::execute(&database, &config.kafka, group, yes, json, out).await
        }
    }
}

/// The partitions that a command is about, as they were looked at.
struct Looked {
    database: Database,
    kafka: Kafka,
    broker: Broker,
    places: Vec<Place>,
}

impl Looked {
    async fn at(
        database: Database,
        kafka: &Kafka,
        partitions: &Partitions,
    ) -> anyhow::Result<Looked> {
        let kafka = selected(kafka, partitions);
        let broker = Broker::new(&kafka)?;
        let places = places(&database, &kafka, &broker, partitions.partition).await?;
        Ok(Looked {
            database,
            kafka,
            broker,
            places,
        })
    }

    fn head(&self) -> anyhow::Result<Head> {
        Ok(Head {
            group: self.kafka.group.clone(),
            members: self.broker.members()?,
            database: self.database.name().to_owned(),
        })
    }

    /// Where each checkpoint is moved to; the committed offsets are moved already.
    async fn reset(&mut self, to: ResetTarget, moving: &MoveOptions) -> anyhow::Result<Vec<Move>> {
        let group = &self.kafka.group;
        // One partition's worker is fenced by the new owner, and continues from there.
        let members = self.broker.members()?;
        let is_live = moving.partitions.partition.is_some() && !members.is_empty();
        if !is_live {
            stopped(&members, group)?;
        }
        known(&self.database, &self.kafka, &self.places).await?;
        let moves = reset(mem::take(&mut self.places), to, &self.broker)?;
        if moving.yes && !is_live {
            // also fails for members that the broker does not list, those of
            // group.protocol=consumer
            self.broker.commit(&offsets(&moves)).with_context(|| {
                format!(
                    "the committed offsets of the group {group} could not be moved; if it has \
                     members, stop the service first"
                )
            })?;
        }
        Ok(moves)
    }

    /// Moves the checkpoints, where that is asked for, and shows what was done or would be.
    async fn finish(
        &self,
        moves: &[Move],
        moving: &MoveOptions,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let head = self.head()?;
        if moving.yes {
            for (moved, planned) in moves.iter().enumerate() {
                let written = write(&self.database, &self.kafka.group, planned).await;
                written.with_context(|| format!("{moved} of {} were moved before", moves.len()))?;
            }
        }
        print_moves(&head, moves, moving.yes, moving.json, out)
    }
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
    if !places.iter().all(Place::is_new) || places.iter().any(|place| place.log.committed.is_some())
    {
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
    places_at(database, kafka, broker, partitions).await
}

/// These partitions of the topics, each with its log and checkpoint.
///
/// # Errors
/// Where a server does not answer.
pub(in crate::commands) async fn places_at(
    database: &Database,
    kafka: &Kafka,
    broker: &Broker,
    partitions: Vec<Partition>,
) -> anyhow::Result<Vec<Place>> {
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
    let mut partitions = preflight::partitions_of(&counts);
    partitions.retain(|partition| only.is_none_or(|only| partition.number == only));
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
        let of_worker = |name: &str| {
            let worker = found.as_ref()?.get_document("worker").ok()?;
            worker.get_str(name).ok().map(str::to_owned)
        };
        Place {
            updated_at: found
                .as_ref()
                .and_then(|found| found.get_datetime("updated_at").ok().copied()),
            host: of_worker("host"),
            member_id: of_worker("member_id"),
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
