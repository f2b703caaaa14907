//! From records to writes: several states of one entity become one, grouped by collection. Pure.
//!
//! Folding is allowed where the result is the same as writing state after state (contract, "Entity
//! → document"): under `$set` it is a top-level union in which the later field wins, under replace
//! the later document wins.

mod history;
#[cfg(test)]
mod tests;
mod union;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::Rejections;
use super::batch::{Batch, Entry};
use super::document::DOCUMENT_BYTES_MAX;
use super::entity::Refusal;
use super::entity::{Decoded, Reason, Skip};
use super::mapping::CollectionId;

pub use self::history::{History, HistoryFolding, Step};
use self::union::{same_names, union};

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
            let entry = &batch.entries()[index];
            let refusal = refused.get(&index);
            match &entry.decoded {
                _ if refusal.is_some() => plan.reject(index, entry, Reason::WriteError, refusal),
                Decoded::Skipped(Skip::Tombstone | Skip::NullId) => plan.skipped += 1,
                Decoded::Rejected(reason) => plan.reject(index, entry, *reason, None),
                Decoded::Delete => {
                    let id = batch.id(entry);
                    match pending.forget(id) {
                        Some(forgotten) => plan.folded += forgotten,
                        None => {
                            plan.records.end = index;
                            break;
                        }
                    }
                    plan.deletes.push(id);
                    plan.rejections.clear();
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
                        plan.records.end = index;
                        break;
                    }
                    let state = State {
                        record: index,
                        id,
                        document: &batch.encoded()[document.clone()],
                        names: *names as usize,
                    };
                    plan.folded += usize::from(pending.add(*collection, state, folding));
                    plan.rejections.clear();
                }
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

/// One accepted record.
#[derive(Clone, Copy)]
struct State<'a> {
    record: usize,
    id: &'a str,
    document: &'a [u8],
    names: usize,
}

/// The writes gathered so far, by collection, with the place of each entity's latest one.
struct Pending<'a> {
    groups: Vec<(CollectionId, Vec<Folded<'a>>)>,
    latest: ahash::HashMap<(CollectionId, &'a str), usize>,
    /// The collection of each entity, where it must be one.
    homes: ahash::HashMap<&'a str, CollectionId>,
    /// Whether there is a state that no tombstone may overtake: the server must see it first, since
    /// it may refuse it, or accept it only because of what the tombstone deletes.
    apart: bool,
}

impl<'a> Pending<'a> {
    fn with_capacity(states: usize) -> Self {
        Pending {
            groups: Vec::new(),
            latest: HashMap::with_capacity_and_hasher(states, ahash::RandomState::new()),
            homes: ahash::HashMap::default(),
            apart: false,
        }
    }

    /// Notes that a state of an entity goes into this collection. `false` where one that is pending
    /// goes into another.
    fn settle_in(&mut self, collection: CollectionId, id: &'a str) -> bool {
        *self.homes.entry(id).or_insert(collection) == collection
    }

    /// Takes a state in. `true` if it made an earlier one unnecessary.
    fn add(&mut self, collection: CollectionId, state: State<'a>, folding: &Folding<'_>) -> bool {
        let group = match self.groups.iter().position(|(id, _)| *id == collection) {
            Some(group) => group,
            None => {
                self.groups.push((collection, Vec::new()));
                self.groups.len() - 1
            }
        };
        let writes = &mut self.groups[group].1;
        let mut apart = !folding.enabled || folding.unfoldable.contains(&collection);
        if !apart && let Some(&slot) = self.latest.get(&(collection, state.id)) {
            if writes[slot].fold(&state, folding.mode) {
                return true;
            }
            apart = true;
        }
        if apart {
            self.apart = true;
        }
        self.latest.insert((collection, state.id), writes.len());
        writes.push(Folded {
            latest: state,
            states: 1,
            earlier: Vec::new(),
            earlier_bytes: 0,
        });
        false
    }

    /// Drops what is pending for `id`, since a tombstone deletes it anyway, and says how many
    /// writes that were. `None` where that would hide a refusal: the states must reach the server
    /// first.
    fn forget(&mut self, id: &'a str) -> Option<usize> {
        if self.apart {
            return None;
        }
        let mut forgotten = 0;
        self.homes.remove(id);
        for (collection, writes) in &mut self.groups {
            if let Some(slot) = self.latest.remove(&(*collection, id)) {
                writes[slot].states = 0;
                forgotten += 1;
            }
        }
        Some(forgotten)
    }

    /// The writes that stand for any state.
    fn into_writes(self) -> Vec<(CollectionId, Vec<Write<'a>>)> {
        let mut names = ahash::HashSet::default();
        let mut writes = |folded: Vec<Folded<'a>>| -> Vec<Write<'a>> {
            let standing = folded.into_iter().filter(|folded| folded.states > 0);
            let writes = standing.map(|folded| folded.into_write(&mut names));
            writes.collect()
        };
        let groups = self.groups.into_iter();
        let groups = groups.map(|(collection, folded)| (collection, writes(folded)));
        groups.filter(|(_, writes)| !writes.is_empty()).collect()
    }
}

/// States of one entity that become one write.
struct Folded<'a> {
    latest: State<'a>,
    /// How many states these are; none once they are forgotten.
    states: usize,
    /// Documents before the latest one, of which fields may be left.
    earlier: Vec<&'a [u8]>,
    earlier_bytes: usize,
}

impl<'a> Folded<'a> {
    /// Takes a later state in. `false`, and nothing has changed, if the document might pass
    /// [`DOCUMENT_BYTES_MAX`].
    fn fold(&mut self, later: &State<'a>, mode: WriteMode) -> bool {
        let before = self.latest.document;
        // Whole entities have the fields that they had, in the same order.
        let is_needless = mode == WriteMode::Replace || same_names(before, later.document);
        let earlier_bytes = self.earlier_bytes + if is_needless { 0 } else { before.len() };
        let id_len = b"t_id\0llll\0".len() + later.id.len();
        if earlier_bytes + later.document.len() + id_len > DOCUMENT_BYTES_MAX {
            return false;
        }
        if !is_needless {
            self.earlier.push(before);
            self.earlier_bytes = earlier_bytes;
        }
        self.latest = *later;
        self.states += 1;
        true
    }

    fn into_write(self, names: &mut ahash::HashSet<&'a [u8]>) -> Write<'a> {
        let latest = self.latest;
        let document = union(&self.earlier, latest.document, names);
        Write {
            record: latest.record,
            states: self.states,
            id: latest.id,
            names: match document {
                Cow::Borrowed(_) => latest.names,
                Cow::Owned(_) => names.len(),
            },
            document,
        }
    }
}
