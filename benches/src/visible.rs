//! When a majority has what: the moves of a group's checkpoints, as a change stream shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bson::{Document, doc};
use futures_util::StreamExt as _;
use mongodb::Client;
use mongodb::change_stream::event::ChangeStreamEvent;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use workflows_sink::checkpoint;

const CATCH_UP_DEADLINE: Duration = Duration::from_secs(60);
const CATCH_UP_POLL: Duration = Duration::from_millis(20);

/// One move of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// What stands below this offset is in the database.
    pub next_offset: i64,
    /// When a majority was known to have it.
    pub at: Instant,
}

/// The moves of each partition, in the order in which they came.
pub type Moves = BTreeMap<i32, Vec<Moved>>;

/// Takes the moves down until it is dropped.
pub struct Watch {
    moves: Arc<Mutex<Moves>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Sees what moves after this call.
    pub async fn start(client: &Client, group: &str) -> Result<Watch> {
        let checkpoints = client
            .database(local_stack::mongo::DATABASE)
            .collection::<Document>(checkpoint::COLLECTION);
        let only = doc! { "$match": { "operationType": "update", "documentKey._id.group": group } };
        let mut events = checkpoints.watch().pipeline([only]).await?;
        let moves = Arc::<Mutex<Moves>>::default();
        let noted = Arc::clone(&moves);
        let task = tokio::spawn(async move {
            while let Some(Ok(event)) = events.next().await {
                if let Some((partition, moved)) = read(&event, Instant::now()) {
                    lock(&noted).entry(partition).or_default().push(moved);
                }
            }
        });
        Ok(Watch { moves, task })
    }

    fn is_past(&self, last: &BTreeMap<i32, i64>) -> bool {
        let moves = lock(&self.moves);
        last.iter().all(|(partition, offset)| {
            let reached = moves.get(partition).and_then(|moves| moves.last());
            reached.is_some_and(|moved| moved.next_offset > *offset)
        })
    }

    /// Waits until every partition has moved past the offset that is given of it.
    pub async fn reached(&self, last: &BTreeMap<i32, i64>) -> Result<()> {
        let end = Instant::now() + CATCH_UP_DEADLINE;
        while !self.is_past(last) {
            ensure!(Instant::now() < end, "the service did not catch up");
            sleep(CATCH_UP_POLL).await;
        }
        Ok(())
    }

    /// What was seen.
    pub fn stop(self) -> Result<Moves> {
        ensure!(!self.task.is_finished(), "the change stream broke off");
        Ok(std::mem::take(&mut *lock(&self.moves)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn read(event: &ChangeStreamEvent<Document>, at: Instant) -> Option<(i32, Moved)> {
    let id = event.document_key.as_ref()?.get_document("_id").ok()?;
    let changed = event.update_description.as_ref()?;
    let next_offset = changed.updated_fields.get_i64("next_offset").ok()?;
    Some((id.get_i32("partition").ok()?, Moved { next_offset, at }))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
