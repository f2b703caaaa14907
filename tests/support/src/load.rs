//! Records that are produced all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use local_stack::Message;

use crate::entities::Entities;
use crate::scene::Scene;

/// A thread that produces.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Message>>,
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
    pub async fn finish(self) -> Vec<Message> {
        self.stop.store(true, Ordering::SeqCst);
        let joined = tokio::task::spawn_blocking(move || self.thread.join());
        joined.await.expect("no panic").expect("produced")
    }
}
