//! A partition that waits for a person: why, and when it no longer does.

use std::time::{Duration, Instant};

use bson::{Document, Uuid, doc};
use futures_util::TryStreamExt as _;
use tokio::time::timeout;

use super::claim::Claimant;
use super::doubt::Doubt;
use crate::checkpoint::{
    Checkpoint, Checkpoints, ClaimError, Halt, HaltReason, Key, stays_stopped,
};
use crate::record::Partition;
use crate::telemetry::code::Code;
use crate::telemetry::metrics::PartitionState;
use crate::writer::dead_letter;

/// How often it is looked whether what stopped a partition is resolved.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often the log is looked at too, while the checkpoint stays as it is.
const LOOK_AT_LOG_EVERY: Duration = Duration::from_secs(120);

/// How long MongoDB may take to say why the records of a row were rejected.
const REASONS_DEADLINE: Duration = Duration::from_secs(5);

/// A partition that waits for a person.
pub struct Stop {
    /// Which kind of stop it is.
    pub code: Code,
    /// Why, and what to do.
    pub why: String,
    /// The checkpoint's offset, where there is a checkpoint.
    pub next_offset: Option<i64>,
}

impl Stop {
    pub(super) fn new(code: Code, why: String) -> Stop {
        Stop {
            code,
            why,
            next_offset: None,
        }
    }

    /// As the metrics show it.
    pub(super) fn state(&self) -> PartitionState {
        match self.code {
            Code::BreakerOpen => PartitionState::Breaker,
            _ => PartitionState::Stopped,
        }
    }
}

/// Why the records were rejected whose row halts a partition, most of them first; empty where
/// MongoDB does not say.
pub(super) async fn reasons_of_row(
    checkpoints: &Checkpoints,
    found: &Checkpoint,
    halt: Halt,
) -> Vec<(String, i64)> {
    if halt.reason != HaltReason::Rejections {
        return Vec::new();
    }
    let id = |offset| dead_letter::id(checkpoints.key(), found.topic_id, offset);
    let row = doc! { "_id": { "$gte": id(halt.from), "$lt": id(found.next_offset) } };
    let count = doc! { "_id": "$reason", "count": { "$sum": 1_i64 } };
    let pipeline = [
        doc! { "$match": row },
        doc! { "$group": count },
        doc! { "$sort": { "count": -1, "_id": 1 } },
    ];
    let letters = (checkpoints.database()).collection::<Document>(dead_letter::COLLECTION);
    let counting = async {
        let counted = letters.aggregate(pipeline).max_time(REASONS_DEADLINE);
        counted.await?.try_collect::<Vec<Document>>().await
    };
    // A connection that is dead answers nothing, whatever the server's own limit is.
    let counted = timeout(REASONS_DEADLINE, counting).await;
    let read = |counted: &Document| {
        let reason = counted.get_str("_id").ok()?.to_owned();
        Some((reason, counted.get_i64("count").ok()?))
    };
    let counted = counted.ok().and_then(Result::ok).unwrap_or_default();
    counted.iter().filter_map(read).collect()
}

/// A checkpoint as it was found, or why it is none.
type Found = Result<Option<Checkpoint>, String>;

impl Claimant {
    /// Returns when what stopped a partition may have been resolved: its checkpoint has another
    /// owner than the claim that stopped, which `owner` made, or has changed in another way, or the
    /// log is another one, or says more than what stopped it with `code`. All of it is only read,
    /// so that owner, epoch and time stay what they were. `remind` is called whenever the log was
    /// looked at and nothing has changed.
    pub(super) async fn resolved(
        &self,
        partition: &Partition,
        (owner, code): (Uuid, Code),
        mut remind: impl FnMut(),
    ) {
        let mut first: Option<Found> = None;
        let mut looked_at = Instant::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(found) = self.found(partition).await else {
                continue;
            };
            let is_ours = match &found {
                Ok(Some(found)) => found.owner == Some(owner),
                Ok(None) | Err(_) => true,
            };
            if !is_ours || *first.get_or_insert_with(|| found.clone()) != found {
                return;
            }
            if looked_at.elapsed() < LOOK_AT_LOG_EVERY {
                continue;
            }
            let stays = match found {
                Ok(Some(found)) => {
                    let log = self.log(partition, &Doubt::default(), None).await;
                    stays_stopped(&found, &log, code == Code::LogExpired)
                }
                // Where the group's committed offset is what does not fit.
                Ok(None) => false,
                Err(_) => true,
            };
            if !stays {
                return;
            }
            looked_at = Instant::now();
            remind();
        }
    }

    /// The checkpoint now; `None` where MongoDB does not say.
    async fn found(&self, partition: &Partition) -> Option<Found> {
        let key = Key {
            group: self.group.clone(),
            partition: partition.clone(),
        };
        let checkpoints = Checkpoints::new(self.connection.current().database, key);
        match checkpoints.read().await {
            Ok(found) => Some(Ok(found)),
            Err(ClaimError::Unreadable(fault)) => Some(Err(fault)),
            Err(_) => None,
        }
    }
}
