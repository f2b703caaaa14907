//! The later life of one entity: states folded as they come, without a batch that holds them all.
//! Pure.

use std::borrow::Cow;
use std::collections::HashSet;

use super::union::union;
use super::{Write, WriteMode};
use crate::record::document::DOCUMENT_BYTES_MAX;
use crate::record::mapping::CollectionId;

/// How the states of a [`History`] are folded: as those of a batch are.
#[derive(Clone, Copy)]
pub struct HistoryFolding<'a> {
    /// Whether a later state adds to the document or replaces it.
    pub mode: WriteMode,
    /// Collections whose states are written one by one.
    pub unfoldable: &'a HashSet<CollectionId>,
}

/// One write of a [`History`].
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Where to.
    pub collection: CollectionId,
    /// The offset of the (last) state that it stands for.
    pub offset: i64,
    /// How many states it stands for.
    pub states: usize,
    /// The fields to write, as a BSON document.
    pub document: Vec<u8>,
    /// How many fields these are, at most.
    pub names: usize,
}

impl Step {
    /// As a write of the entity `id`, the `record`th of a command.
    pub fn write<'s>(&'s self, id: &'s str, record: usize) -> Write<'s> {
        Write {
            record,
            states: self.states,
            id,
            document: Cow::Borrowed(&self.document),
            names: self.names,
        }
    }
}

/// The writes that come to the same as the states of one entity, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    steps: Vec<Step>,
}

impl History {
    /// The writes, in their order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The bytes of documents that it holds.
    pub fn bytes(&self) -> usize {
        self.steps.iter().map(|step| step.document.len()).sum()
    }

    /// Takes a later state in. `one_by_one` folds nothing, to find the state that the server
    /// refuses. What would be larger than a document may be stays apart.
    pub fn push(&mut self, id: &str, state: Step, folding: HistoryFolding<'_>, one_by_one: bool) {
        let folds = !one_by_one && !folding.unfoldable.contains(&state.collection);
        let id_len = b"t_id\0llll\0".len() + id.len();
        let last = self.steps.last_mut().filter(|last| {
            let earlier = match folding.mode {
                WriteMode::Set => last.document.len(),
                WriteMode::Replace => 0,
            };
            let bytes = earlier + state.document.len() + id_len;
            folds && last.collection == state.collection && bytes <= DOCUMENT_BYTES_MAX
        });
        let Some(last) = last else {
            self.steps.push(state);
            return;
        };
        let states = last.states + state.states;
        let earlier: &[&[u8]] = match folding.mode {
            WriteMode::Set => &[&last.document],
            WriteMode::Replace => &[],
        };
        let mut known = ahash::HashSet::default();
        let (document, names) = union(earlier, &state.document, state.names, &mut known);
        let document = match document {
            Cow::Borrowed(_) => state.document,
            Cow::Owned(union) => union,
        };
        *last = Step {
            collection: state.collection,
            offset: state.offset,
            states,
            document,
            names,
        };
    }

    /// Forgets what came before: a tombstone deletes it.
    pub fn clear(&mut self) {
        self.steps.clear();
    }

    /// Takes a state out that stands by itself. `false` where it is folded into another, or is not
    /// there.
    pub fn take_out(&mut self, offset: i64) -> bool {
        let is_it = |step: &Step| step.offset == offset && step.states == 1;
        let found = self.steps.iter().position(is_it);
        found.map(|index| self.steps.remove(index)).is_some()
    }
}
