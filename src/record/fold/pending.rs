//! The writes of a plan while it is made: each entity's states, folded as far as they may be. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::union::{same_names, union};
use super::{Folding, Write, WriteMode};
use crate::record::document::DOCUMENT_BYTES_MAX;
use crate::record::mapping::CollectionId;

/// One accepted record.
#[derive(Clone, Copy)]
pub(super) struct State<'a> {
    pub(super) record: usize,
    pub(super) id: &'a str,
    pub(super) document: &'a [u8],
    pub(super) names: usize,
}

/// The writes gathered so far, by collection, with the place of each entity's latest one.
pub(super) struct Pending<'a> {
    groups: Vec<(CollectionId, Vec<Folded<'a>>)>,
    latest: ahash::HashMap<(CollectionId, &'a str), usize>,
    /// The collection of each entity, where it must be one.
    homes: ahash::HashMap<&'a str, CollectionId>,
    /// Whether there is a state that no tombstone may overtake: the server must see it first, since
    /// it may refuse it, or accept it only because of what the tombstone deletes.
    apart: bool,
}

impl<'a> Pending<'a> {
    pub(super) fn with_capacity(states: usize) -> Self {
        Pending {
            groups: Vec::new(),
            latest: HashMap::with_capacity_and_hasher(states, ahash::RandomState::new()),
            homes: ahash::HashMap::default(),
            apart: false,
        }
    }

    /// Notes that a state of an entity goes into this collection. `false` where one that is pending
    /// goes into another.
    pub(super) fn settle_in(&mut self, collection: CollectionId, id: &'a str) -> bool {
        *self.homes.entry(id).or_insert(collection) == collection
    }

    /// Takes a state in. `true` if it made an earlier one unnecessary.
    pub(super) fn add(
        &mut self,
        collection: CollectionId,
        state: State<'a>,
        folding: &Folding<'_>,
    ) -> bool {
        let group = match self.groups.iter().position(|(id, _)| *id == collection) {
            Some(group) => group,
            None => {
                self.groups.push((collection, Vec::new()));
                self.groups.len() - 1
            }
        };
        let writes = &mut self.groups[group].1;
        let mut apart = !folding.enabled || folding.unfoldable.contains(&collection);
        let slot = match self.latest.entry((collection, state.id)) {
            Entry::Vacant(vacant) => vacant.insert(0),
            Entry::Occupied(occupied) => {
                let slot = occupied.into_mut();
                if !apart && writes[*slot].fold(&state, folding.mode) {
                    return true;
                }
                apart = true;
                slot
            }
        };
        *slot = writes.len();
        self.apart |= apart;
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
    pub(super) fn forget(&mut self, id: &'a str) -> Option<usize> {
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
    pub(super) fn into_writes(self) -> Vec<(CollectionId, Vec<Write<'a>>)> {
        let mut known = ahash::HashSet::default();
        let mut writes = |folded: Vec<Folded<'a>>| -> Vec<Write<'a>> {
            let standing = folded.into_iter().filter(|folded| folded.states > 0);
            let writes = standing.map(|folded| folded.into_write(&mut known));
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

    fn into_write(self, known: &mut ahash::HashSet<&'a [u8]>) -> Write<'a> {
        let latest = self.latest;
        let (document, names) = union(&self.earlier, latest.document, latest.names, known);
        Write {
            record: latest.record,
            states: self.states,
            id: latest.id,
            names,
            document,
        }
    }
}
