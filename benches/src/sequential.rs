//! A loop that writes one record after the other, by the same driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bson::{Document, doc};
use local_stack::{Generator, observe};
use mongodb::options::WriteConcern;

use crate::figures::Figures;
use crate::load::Load;
use crate::stage::Stage;

/// A loop this slow needs no more for its rate.
const STATES: usize = 5_000;

/// Takes the figures.
pub async fn measure(
    stage: &mut Stage,
    load: Load,
    rounds: usize,
    figures: &mut Figures,
) -> Result<()> {
    for _ in 0..rounds {
        stage.clear().await?;
        let client = stage.client().await?;
        let database = client.database(local_stack::mongo::DATABASE);
        let written = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&written);
        let writing = tokio::spawn(async move {
            for state in Generator::new(1, load.entities, load.states).take(STATES) {
                let mut entity: Document = serde_json::from_str(&state.json)?;
                let id = entity.remove("id").context("an entity without an id")?;
                database
                    .collection::<Document>(state.kind)
                    .update_one(doc! { "_id": id }, doc! { "$set": entity })
                    .upsert(true)
                    .write_concern(WriteConcern::majority())
                    .await?;
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        });
        let own = std::process::id();
        let count = async || {
            let count = written.load(Ordering::Relaxed);
            ensure!(!writing.is_finished() || count == STATES, "the loop failed");
            Ok(count)
        };
        let drained = stage
            .follow(STATES, count, || -> Result<Duration> {
                Ok(observe::usage(own)?.cpu)
            })
            .await;
        writing.await??;
        let drained = drained?;
        let case = "one update_one a record";
        figures.add("peers", case, "loop", "records/s", drained.per_second);
        figures.add("peers", case, "loop's CPU a record", "µs", drained.cpu_us);
        figures.add(
            "peers",
            case,
            "mongod's CPU a record, by loop",
            "µs",
            drained.mongod_cpu_us,
        );
    }
    stage.clear().await
}
