//! From records to writes: several states of one entity become one, grouped by collection. Pure.
//!
//! Folding is allowed where the result is the same as writing state after state (contract, "Entity
//! → document"): under `$set` it is a top-level union in which the later field wins, under replace
//! the later document wins.

mod history;
mod pending;
#[cfg(test)]
mod tests;
mod union;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::Rejections;
use super::batch::{Batch, Entry};
use super::entity::Refusal;
use super::entity::{Decoded, Reason, Skip};
use super::mapping::CollectionId;

pub use self::history::{History, HistoryFolding, Step};
use self::pending::{Pending, State};

/// What a later state does to an earlier one (contract, "Entity → document").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// `$set`: fields that the later state no longer carries stay.
    Set,
    /// The whole document is replaced.
    Replace,
}

/// What becomes of an entity's documents in other collections, where a state creates a new one: its
/// kind has changed, or where its kind goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KindChanges {
    /// They stay, as the contract has it.
    #[default]
    Keep,
    /// They are deleted.
    Delete,
}

/// How states may be folded.
pub struct Folding<'a> {
    /// Whether a later state adds to the document or replaces it.
    pub mode: WriteMode,
    /// With [`KindChanges::Delete`], a plan has each entity in one collection: only the server
    /// knows which write creates a document.
    pub kind_changes: KindChanges,
    /// Collections whose states are written one by one: a validator or a unique index may refuse
    /// one of them.
    pub unfoldable: &'a HashSet<CollectionId>,
    /// `false` writes every state by itself, to find the one that the server refused.
    pub enabled: bool,
    /// The records before the first one that were rejected in a row.
    pub rejections: Rejections,
    /// How many in a row end the plan; 0: none.
    pub rejections_in_a_row_max: usize,
}

/// One upsert.
#[derive(Debug, PartialEq)]
pub struct Write<'a> {
    /// The index of the (last) record in its batch.
    pub record: usize,
    /// How many records this write stands for.
    pub states: usize,
    /// The entity's id.
    pub id: &'a str,
    /// The fields to write, as a BSON document.
    pub document: Cow<'a, [u8]>,
    /// How many fields these are, at most.
    pub names: usize,
}

/// A record that is not applied but kept, and why.
#[derive(Debug, PartialEq)]
pub struct Rejected<'a> {
    /// The record's index in its batch.
    pub record: usize,
    /// Its offset.
    pub offset: i64,
    /// The contract's reason.
    pub reason: Reason,
    /// What the server said, for [`Reason::WriteError`].
    pub refusal: Option<&'a Refusal>,
}

/// What one transaction does with a run of records of a batch.
#[derive(Debug, Default, PartialEq)]
pub struct Plan<'a> {
    /// The records covered, as a range of indexes into the batch.
    pub records: Range<usize>,
    /// The offsets covered: from where the checkpoint stands before it to where it stands after it.
    pub offsets: Range<i64>,
    /// The leader epoch of what stands before the end of `offsets`; `None` where it is not known.
    pub leader_epoch: Option<i32>,
    /// Ids to delete from every routed collection, before the writes; one for each tombstone.
    pub deletes: Vec<&'a str>,
    /// The writes of each collection, in the order of each one's first record.
    pub writes: Vec<(CollectionId, Vec<Write<'a>>)>,
    /// What goes to the dead letters.
    pub rejected: Vec<Rejected<'a>>,
    /// The records before its end that were rejected in a row.
    pub rejections: Rejections,
    /// Whether these are so many that nothing behind it may be applied.
    pub halts: bool,
    /// States that a later state of the same transaction made unnecessary.
    pub folded: usize,
    /// Records that the contract skips.
    pub skipped: usize,
}

impl<'a> Plan<'a> {
    /// Plans the records `range` of `batch`, or as many from its beginning as one transaction can
    /// take. `refused` holds what the server has refused so far, by record.
    pub fn new(
        batch: &'a Batch,
        range: Range<usize>,
        folding: &Folding<'_>,
        refused: &'a HashMap<usize, Refusal>,
    ) -> Plan<'a> {
        let mut plan = Plan {
            records: range.clone(),
            rejections: folding.rejections,
            ..Plan::default()
        };
        let mut pending = Pending::with_capacity(range.len());
        for index in range {
            let refusal = refused.get(&index);
            if !plan.take(index, batch, refusal, folding, &mut pending) {
                plan.records.end = index;
                break;
            }
            if plan.rejections.reach(folding.rejections_in_a_row_max) {
                plan.records.end = index + 1;
                plan.halts = true;
                break;
            }
        }
        let (start, end) = batch.span(plan.records.clone());
        plan.offsets = start..end.offset;
        plan.leader_epoch = end.leader_epoch;
        plan.writes = pending.into_writes();
        plan
    }
}

impl<'a> Plan<'a> {
    /// Takes in a record. `false` where the server must first have what is before it.
    fn take(
        &mut self,
        index: usize,
        batch: &'a Batch,
        refusal: Option<&'a Refusal>,
        folding: &Folding<'_>,
        pending: &mut Pending<'a>,
    ) -> bool {
        let entry = &batch.entries()[index];
        match &entry.decoded {
            _ if refusal.is_some() => self.reject(index, entry, Reason::WriteError, refusal),
            Decoded::Skipped(Skip::Tombstone | Skip::NullId) => self.skipped += 1,
            Decoded::Rejected(reason) => self.reject(index, entry, *reason, None),
            Decoded::Delete => {
                let id = batch.id(entry);
                let Some(forgotten) = pending.forget(id) else {
                    return false;
                };
                self.folded += forgotten;
                self.deletes.push(id);
                self.rejections.clear();
            }
            Decoded::Accepted {
                collection,
                document,
                names,
            } => {
                let id = batch.id(entry);
                if folding.kind_changes == KindChanges::Delete
                    && !pending.settle_in(*collection, id)
                {
                    return false;
                }
                let state = State {
                    record: index,
                    id,
                    document: &batch.encoded()[document.clone()],
                    names: *names as usize,
                };
                self.folded += usize::from(pending.add(*collection, state, folding));
                self.rejections.clear();
            }
        }
        true
    }

    fn reject(
        &mut self,
        record: usize,
        entry: &Entry,
        reason: Reason,
        refusal: Option<&'a Refusal>,
    ) {
        self.rejected.push(Rejected {
            record,
            offset: entry.offset,
            reason,
            refusal,
        });
        self.rejections.add(entry.offset);
    }

    /// Whether it is nothing but the states of a whole batch of `records`.
    pub fn is_plain(&self, records: usize) -> bool {
        self.records == (0..records) && self.deletes.is_empty() && self.rejected.is_empty()
    }

    /// How many documents it writes.
    pub fn count(&self) -> usize {
        self.writes.iter().map(|(_, writes)| writes.len()).sum()
    }
}
