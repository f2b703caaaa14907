//! Records that are produced all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::entities::Entities;
use crate::support::worker::{Produced, Scene, until};

/// A thread that produces.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Produced>>,
}

impl Load {
    /// States of a hundred entities, a few hundred each second.
    pub fn start(scene: &Arc<Scene>, seed: u64) -> Load {
        let (scene, stop) = (Arc::clone(scene), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut entities, mut records) = (Entities::new(seed, 100), Vec::new());
            while !stopped.load(Ordering::SeqCst) {
                let states = entities.states(40);
                scene.produce(&states);
                records.extend(states);
                std::thread::sleep(Duration::from_millis(50));
            }
            records
        });
        Load { stop, thread }
    }

    /// Everything that was produced.
    pub async fn finish(self) -> Vec<Produced> {
        self.stop.store(true, Ordering::SeqCst);
        let joined = tokio::task::spawn_blocking(move || self.thread.join());
        joined.await.expect("no panic").expect("produced")
    }
}

impl Scene {
    /// Waits until what is in the log now is applied, whatever comes meanwhile.
    pub async fn goes_on(&self) {
        let ends = self.log_ends().await;
        until("what was in the log is applied", || async {
            let checkpoints = self.checkpoints().await;
            let applied = |(partition, end): (&i32, &i64)| {
                *end == 0 || checkpoints.get(partition).is_some_and(|next| next >= end)
            };
            ends.iter().all(applied)
        })
        .await;
    }
}
