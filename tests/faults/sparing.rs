//! Which partitions a fault leaves healthy, where that can be known for certain.
//!
//! It is known of a fault that strikes alone, while the group moves no partition and every
//! partition is applied. A worker that stands still or is gone holds up its own partitions alone. A
//! broker that clients do not reach holds up those that it leads; where it coordinates the group,
//! all of them.

use std::collections::BTreeSet;

use bson::DateTime;

use crate::checker::{Look, Spared};
use crate::fault::{Fault, Side, Trouble};
use crate::look::Lookout;
use crate::stage::Stage;

/// Who could hold up what, just before a fault.
pub struct Before {
    fault: Fault,
    at_ms: i64,
    /// The partitions that each worker, or broker, could hold up.
    held: Vec<BTreeSet<i32>>,
    all: BTreeSet<i32>,
    /// A broker that could hold up all of them.
    coordinator: Option<usize>,
}

/// How things stand before these faults; `None` where nothing can be said of them.
pub async fn before(
    faults: &[Fault],
    lookout: &Lookout<'_>,
    stage: &Stage,
    group: &str,
) -> Option<Before> {
    let [fault] = faults else { return None };
    let of_worker = matches!(
        fault,
        Fault::WorkerKilled | Fault::WorkerFrozen | Fault::WorkerThrottled
    );
    let of_broker = *fault == Fault::Network(Side::Kafka, Trouble::OneWay);
    if !of_worker && !of_broker {
        return None;
    }
    let look = lookout.look("").await.filter(Look::is_steady)?;
    let (mut held, mut coordinator) = (Vec::new(), None);
    if of_worker {
        held.extend(
            look.workers
                .iter()
                .map(|worker| worker.states.keys().copied().collect()),
        );
    } else {
        let leaders = stage.cluster.leaders(lookout.topic).await.ok()?;
        coordinator = Some(stage.cluster.coordinator(group).await.ok()?);
        held.extend((0..stage.cluster.brokers()).map(|broker| {
            let led = leaders.iter().filter(|(_, leader)| **leader == broker);
            led.map(|(partition, _)| *partition).collect()
        }));
    }
    Some(Before {
        fault: *fault,
        at_ms: DateTime::now().timestamp_millis(),
        held,
        all: look.partitions,
        coordinator,
    })
}

impl Before {
    /// What the fault has spared that struck this worker or broker and is over now.
    pub fn spared(&self, target: usize) -> Option<Spared> {
        let held = self.held.get(target)?;
        (self.coordinator != Some(target)).then(|| Spared {
            what: self.fault.to_string(),
            from_ms: self.at_ms,
            until_ms: DateTime::now().timestamp_millis(),
            partitions: self.all.difference(held).copied().collect(),
        })
    }
}
