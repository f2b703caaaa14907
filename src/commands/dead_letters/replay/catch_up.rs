//! Reads what was written to the log since a pass over it.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::bail;
use bson::doc;
use tokio::task::block_in_place;

use super::apply::Applier;
use super::collect::IDS_MAX;
use super::pass::ReplayPass;
use crate::telemetry::causes::told;
use crate::writer::dead_letter::{COLLECTION, REPLAYED};
use crate::writer::replay::NotReplayed;

/// How many bytes of records are held to catch up.
const CATCH_UP_BYTES_MAX: usize = 32 * 1024 * 1024;

impl Applier<'_, '_> {
    /// Reads what was written since the pass, outside a transaction. `false` where nothing is
    /// gained.
    pub(super) async fn catch_up_outside(&mut self, pass: &mut ReplayPass) -> anyhow::Result<bool> {
        let (before, to) = (self.reached, self.found.next_offset);
        while self.reached < to {
            let from = self.reached;
            if let Err(failed) = self.catch_up(pass, to, None).await {
                bail!("the log was not read further: {failed:?}");
            }
            if self.reached == from {
                break;
            }
        }
        Ok(self.reached > before)
    }

    /// Takes in the records up to `to`, as far as they fit and until then. `false` where that is
    /// not all. Which of them were rejected is looked up in the same transaction, if there is one.
    pub(super) async fn catch_up(
        &mut self,
        pass: &mut ReplayPass,
        to: i64,
        until: Option<Instant>,
    ) -> Result<bool, NotReplayed> {
        let mut records: Vec<(i64, Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        let mut bytes = 0;
        let partition = &self.replay.place.key.partition;
        let (scanner, from) = (self.replay.scanner, self.reached);
        let scanned = block_in_place(|| {
            scanner.scan(partition, from..to, until, |record| {
                if let Some(key) = record.key.filter(|_| pass.has(record.key)) {
                    bytes += record.bytes();
                    let value = record.value.map(<[u8]>::to_vec);
                    records.push((record.offset, key.to_vec(), value));
                }
                match bytes < CATCH_UP_BYTES_MAX {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })
        });
        let reached = scanned.map_err(|error| NotReplayed::Transient(told(&error)))?;
        for run in records.chunks(IDS_MAX) {
            let ids = run
                .iter()
                .map(|(offset, ..)| self.replay.place.letter_id(*offset));
            let filter = doc! { "_id": { "$in": ids.collect::<Vec<_>>() } };
            let projection = doc! { "_id": 1, "state": 1 };
            let found = self.session.find(COLLECTION, filter, projection, |letter| {
                let id = letter.get_document("_id");
                if let Ok(offset) = id.and_then(|id| id.get_i64("offset")) {
                    let is_replayed = letter.get_str("state").is_ok_and(|state| state == REPLAYED);
                    pass.add_other(offset, is_replayed);
                }
            });
            found.await?;
        }
        for (offset, key, value) in &records {
            pass.record(*offset, Some(key), value.as_deref());
        }
        self.reached = reached;
        Ok(reached >= to)
    }
}
