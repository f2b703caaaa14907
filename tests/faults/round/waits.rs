//! What a run waits for: until all is applied, until the workers show it, until they have counted
//! it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bson::Uuid;
use test_support::scene::Scene;
use workflows_sink::checkpoint::Checkpoint;

use super::{POLL, RECOVERY_BOUND, Run};
use crate::checker::{Compacted, Recovery};
use crate::fleet;
use crate::look::Lookout;
use crate::witness;

/// How long the workers' counts are watched in the end.
const COUNTED_FOR: Duration = Duration::from_secs(1);

impl Run {
    pub(super) fn lookout(&self) -> Lookout<'_> {
        Lookout {
            fleet: &self.fleet,
            direct: &self.direct,
            topic: &self.scene.topic,
        }
    }

    /// Whether it has not recovered, so that nothing more can be learned.
    pub(super) fn is_stuck(&self) -> bool {
        self.recoveries
            .iter()
            .any(|recovery| recovery.took.is_none())
            || self.looks.iter().any(|look| look.fault().is_some())
    }

    /// How many records are in the log and not applied; `None` while servers are unavailable.
    pub async fn lag(&self) -> Option<i64> {
        let ends = witness::log_ends(&self.direct, &self.scene.topic)
            .await
            .ok()?;
        let checkpoints =
            witness::checkpoints(&self.scene.database, &self.scene.group, &self.scene.topic)
                .await
                .ok()?;
        let applied = |partition| {
            checkpoints
                .get(partition)
                .map_or(0, |checkpoint| checkpoint.next_offset)
        };
        Some(
            ends.iter()
                .map(|(partition, end)| (end - applied(partition)).max(0))
                .sum(),
        )
    }

    /// Waits until all that is in the log by now is applied, and says how long that took.
    pub async fn caught_up(&mut self, what: &str) -> Recovery {
        let began = Instant::now();
        let mut recovery = Recovery {
            what: what.to_owned(),
            took: None,
            bound: RECOVERY_BOUND,
        };
        let mut goal = None;
        while began.elapsed() < RECOVERY_BOUND {
            self.fleet.look();
            if goal.is_none() {
                goal = self.goal().await;
            }
            if let Some(goal) = &goal
                && self
                    .behind(goal)
                    .await
                    .is_some_and(|behind| behind.is_empty())
            {
                recovery.took = Some(began.elapsed());
                return recovery;
            }
            tokio::time::sleep(POLL).await;
        }
        eprintln!("a run that does not go on: {}", self.standing(goal).await);
        for member in &self.fleet.members {
            eprintln!(
                "{} of a run that does not go on:\n{}",
                member.name,
                fleet::tail(&member.worker.log())
            );
        }
        recovery
    }

    /// The topic's id and the ends of its log, once it has a record: workers that have applied one
    /// are up.
    async fn goal(&self) -> Option<(Uuid, BTreeMap<i32, i64>)> {
        let id = witness::id_of_topic(&self.direct, &self.scene.topic)
            .await
            .ok()?;
        let ends = witness::log_ends(&self.direct, &self.scene.topic)
            .await
            .ok()?;
        ends.values().any(|end| *end > 0).then_some((id, ends))
    }

    /// The partitions that have not got to a goal, each with the end of its log and its checkpoint;
    /// `None` while MongoDB does not answer.
    async fn behind(
        &self,
        (id, ends): &(Uuid, BTreeMap<i32, i64>),
    ) -> Option<Vec<(i32, i64, Option<Checkpoint>)>> {
        let mut checkpoints =
            witness::checkpoints(&self.scene.database, &self.scene.group, &self.scene.topic)
                .await
                .ok()?;
        let ends = ends
            .iter()
            .map(|(partition, end)| (*partition, *end, checkpoints.remove(partition)));
        let behind = ends.filter(|(_, end, found)| {
            let stands = found.as_ref().filter(|found| found.topic_id == Some(*id));
            *end > 0 && stands.is_none_or(|found| found.next_offset < *end)
        });
        Some(behind.collect())
    }

    /// What keeps a run from its goal, for people.
    async fn standing(&self, goal: Option<(Uuid, BTreeMap<i32, i64>)>) -> String {
        let Some(goal) = goal else {
            return "the log has no record, or the brokers do not say where it ends".to_owned();
        };
        let Some(behind) = self.behind(&goal).await else {
            return "MongoDB does not show the checkpoints".to_owned();
        };
        let mut standing = format!("topic {}", goal.0);
        for (partition, end, found) in behind {
            write!(standing, "; partition {partition} ends at {end}, {found:?}").expect("a string");
        }
        standing
    }

    /// Ends the load of the second topic, and waits until it is applied, too.
    pub(super) async fn end_second(&mut self) -> Compacted {
        let mut compacted = tokio::task::block_in_place(|| self.second.stop());
        let end = Instant::now() + RECOVERY_BOUND;
        let Scene {
            database, group, ..
        } = &self.scene;
        while Instant::now() < end {
            let ends = witness::log_ends(&self.direct, &compacted.topic).await;
            let found = witness::checkpoints(database, group, &compacted.topic).await;
            if let (Ok(ends), Ok(found)) = (ends, found) {
                compacted.ends = ends;
                let is_applied = |(partition, end): (&i32, &i64)| {
                    found.get(partition).map_or(0, |found| found.next_offset) == *end
                };
                if compacted.ends.iter().all(is_applied) {
                    break;
                }
            }
            tokio::time::sleep(POLL).await;
        }
        compacted
    }

    /// Stops the load for a moment, so that it is known what the workers count from there on: what
    /// they had counted, less all that was in the log.
    pub(super) async fn begin_count(&mut self) -> Option<i64> {
        if self.is_stuck() {
            return None;
        }
        self.load.pause().await;
        let recovery = self.caught_up("the pause of the load").await;
        self.recoveries.push(recovery);
        let look = self.lookout();
        let look = look.wait("the pause of the load", RECOVERY_BOUND, |look| {
            look.idle = true
        });
        let look = look.await;
        let ends = witness::log_ends(&self.direct, &self.scene.topic).await;
        let records: i64 = ends.expect("the ends of the log").values().sum();
        let counted: u64 = look.workers.iter().map(|worker| worker.settled).sum();
        let partitions = look.partitions.len() as i32;
        self.looks.push(look);
        self.load.resume(self.lineages.len(), partitions);
        tokio::time::sleep(COUNTED_FOR).await;
        Some(counted as i64 - records)
    }

    /// Waits until the workers have counted what was produced since.
    pub(super) async fn end_count(&mut self, counted: i64) {
        let ends = witness::log_ends(&self.direct, &self.scene.topic).await;
        let records: i64 = ends.expect("the ends of the log").values().sum();
        let look = self.lookout();
        let look = look.wait("the end of the load", RECOVERY_BOUND, |look| {
            look.idle = true;
            look.settled = u64::try_from(counted + records).ok();
        });
        let look = look.await;
        self.looks.push(look);
    }
}
