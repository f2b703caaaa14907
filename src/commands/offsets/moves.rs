//! Moves of checkpoints: planned, and written.

use anyhow::{Context as _, bail, ensure};
use bson::Uuid;
use mongodb::Database;

use super::place::{Move, Place, Resolution, Stored, resolution, target};
use crate::backoff::Backoff;
use crate::checkpoint::{Checkpoints, Key, Reset};
use crate::cli::{HaltResolution, ResetTarget};
use crate::config::Start;
use crate::kafka::broker::Broker;
use crate::record::Partition;

/// How often the write of a checkpoint is retried before the command gives up.
const TRIES_MAX: u32 = 5;

/// Where each partition is moved to.
pub(super) fn offsets(moves: &[Move]) -> Vec<(Partition, i64)> {
    let offset = |planned: &Move| (planned.place.partition.clone(), planned.to);
    moves.iter().map(offset).collect()
}

/// Moves each checkpoint to `to`.
pub(super) fn reset(
    places: Vec<Place>,
    to: ResetTarget,
    broker: &Broker,
) -> anyhow::Result<Vec<Move>> {
    let at = match to {
        ResetTarget::Time(time_ms) => {
            let partitions: Vec<Partition> =
                places.iter().map(|place| place.partition.clone()).collect();
            broker.offsets_at(&partitions, time_ms)?
        }
        _ => vec![None; places.len()],
    };
    ensure!(
        !matches!(to, ResetTarget::Offset(_)) || places.len() == 1,
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
pub(super) fn resolve(
    places: Vec<Place>,
    start: Start,
    way: HaltResolution,
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
pub(super) async fn write(database: &Database, group: &str, planned: &Move) -> anyhow::Result<()> {
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
                "the checkpoint of {} has moved since it was read, and stays as it is: look again",
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
