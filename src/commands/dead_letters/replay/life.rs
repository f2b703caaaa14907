//! What letters come to together with the states of their keys: which states count, in which order,
//! and whether the result is certain. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bson::{DateTime, RawBsonRef, RawDocument};

use crate::record::entity::Tombstones;
use crate::record::fold::{History, HistoryFolding, KindChanges, Step, WriteMode};
use crate::record::mapping::{CollectionId, Mapping};

/// By which rules states are decoded and folded: those of the service.
#[derive(Clone)]
pub(super) struct ReplayRules {
    pub(super) mapping: Arc<Mapping>,
    pub(super) tombstones: Tombstones,
    pub(super) mode: WriteMode,
    pub(super) kind_changes: KindChanges,
    pub(super) unfoldable: HashSet<CollectionId>,
}

impl ReplayRules {
    /// How states are folded.
    pub(super) fn folding(&self) -> HistoryFolding<'_> {
        HistoryFolding {
            mode: self.mode,
            unfoldable: &self.unfoldable,
        }
    }
}

/// What becomes of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LetterPart {
    /// Its record was not met in the log yet.
    Awaited,
    /// Its record is in the log, and counts.
    InLog,
    /// Its record is no longer in the log, and counts as the letter has it.
    Gone,
    /// It counts, and changes nothing: it is skipped, or a later tombstone deletes it.
    Nothing,
    /// It is rejected again, with this reason.
    RejectedAgain(String),
    /// It cannot be applied exactly, for this reason.
    Refused(String),
}

impl LetterPart {
    /// Whether the letter is closed when what it takes part in is written.
    pub(super) fn counts(&self) -> bool {
        matches!(self, Self::InLog | Self::Gone | Self::Nothing)
    }
}

/// One key: its letters, and what it lives through from the first of them on.
#[derive(Debug, Default)]
pub(super) struct KeyLife {
    pub(super) id: String,
    pub(super) letters: BTreeMap<i64, LetterPart>,
    pub(super) rejected_at: HashMap<i64, DateTime>,
    /// The states of letters whose records are no longer in the log: others may be missing between
    /// them and `later`.
    pub(super) gone: History,
    /// Every state that counts from the first record on that is still in the log. Where a record is
    /// in the log, all later ones of its key are: compaction and deletion take older ones first.
    pub(super) later: History,
    pub(super) first_in_log: Option<i64>,
    /// Behind the last tombstone that deletes.
    pub(super) deleted_at: Option<i64>,
    /// Whether states are written one by one, to find the one that the server refuses.
    pub(super) one_by_one: bool,
}

/// What the document that is stored says about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It would change, or be created.
    Changes,
    /// It is as it would be.
    Unchanged,
    /// A later state that is no longer in the log may have set this field.
    Undecidable(String),
}

impl KeyLife {
    /// Its letters, by offset.
    pub(super) fn letters(&self) -> &BTreeMap<i64, LetterPart> {
        &self.letters
    }

    /// When one of its letters was rejected.
    pub(super) fn rejected_at(&self, offset: i64) -> DateTime {
        self.rejected_at[&offset]
    }

    /// The entity's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether a letter of it is left that can be applied.
    pub(super) fn is_open(&self) -> bool {
        self.letters.values().any(LetterPart::counts)
    }

    /// Whether a letter of it is not out.
    pub(super) fn may_be_applied(&self) -> bool {
        let mut letters = self.letters.values();
        letters.any(|part| part.counts() || *part == LetterPart::Awaited)
    }

    /// The bytes of documents that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.gone.bytes() + self.later.bytes()
    }

    /// Refuses each letter of it that is not out already.
    pub(super) fn refuse(&mut self, part: &LetterPart) {
        for letter in self.letters.values_mut() {
            if letter.counts() || *letter == LetterPart::Awaited {
                *letter = part.clone();
            }
        }
        self.gone.clear();
        self.later.clear();
    }

    /// Takes one letter out, whose state stands by itself. `false` where it does not.
    pub(super) fn take_out(&mut self, offset: i64, part: LetterPart) -> bool {
        let Some(letter) = self.letters.get_mut(&offset) else {
            return false;
        };
        let is_out = self.later.take_out(offset) || self.gone.take_out(offset);
        if is_out {
            *letter = part;
        }
        is_out
    }

    /// Takes the letters out whose records are no longer in the log.
    pub(super) fn refuse_gone(&mut self, why: &str) {
        for letter in self.letters.values_mut() {
            if *letter == LetterPart::Gone {
                *letter = LetterPart::Refused(why.to_owned());
            }
        }
        self.gone.clear();
    }

    /// The writes, in their order.
    pub(super) fn steps(&self, rules: &ReplayRules) -> Vec<Step> {
        let mut whole = self.gone.clone();
        for step in self.later.steps() {
            whole.push(&self.id, step.clone(), rules.folding(), self.one_by_one);
        }
        whole.steps().to_vec()
    }

    /// The collections that it is written to.
    pub(super) fn collections(&self) -> Vec<CollectionId> {
        let steps = self.gone.steps().iter().chain(self.later.steps());
        let mut collections: Vec<CollectionId> = steps.map(|step| step.collection).collect();
        collections.sort_unstable();
        collections.dedup();
        collections
    }

    /// What it does to the document that is `stored` in one of its collections.
    pub(super) fn effect(
        &self,
        collection: CollectionId,
        stored: Option<&RawDocument>,
        rules: &ReplayRules,
    ) -> Effect {
        let stored = stored.map(fields).unwrap_or_default();
        if let Some(field) = self.undecidable(collection, &stored, rules) {
            return Effect::Undecidable(field);
        }
        let steps = self.steps(rules);
        let mut steps = steps.iter().filter(|step| step.collection == collection);
        let (Some(step), None) = (steps.next(), steps.next()) else {
            // The server judges each of them.
            return Effect::Changes;
        };
        let written = of_step(step);
        let is_there = written
            .iter()
            .all(|(name, value)| is_same(stored.get(name), *value));
        let is_all = written.len() + 1 == stored.len();
        match is_there && !stored.is_empty() && (rules.mode == WriteMode::Set || is_all) {
            true => Effect::Unchanged,
            false => Effect::Changes,
        }
    }

    /// The first field of a letter that is no longer in the log of which nobody can say whether a
    /// state that is no longer there either has set it since. One that no later state in the log
    /// has, and that the document has with another value: under `$set` a field that was set once
    /// stays, so one that the document lacks was never set, unless tombstones or changes of kind
    /// delete.
    fn undecidable(
        &self,
        collection: CollectionId,
        stored: &HashMap<&str, RawBsonRef<'_>>,
        rules: &ReplayRules,
    ) -> Option<String> {
        let of_it = |step: &&Step| step.collection == collection;
        let mut known: HashSet<String> = HashSet::new();
        for step in self.later.steps().iter().filter(of_it) {
            if rules.mode == WriteMode::Replace {
                return None;
            }
            known.extend(of_step(step).into_keys().map(str::to_owned));
        }
        let may_be_new =
            rules.tombstones == Tombstones::Ignore && rules.kind_changes == KindChanges::Keep;
        for step in self.gone.steps().iter().rev().filter(of_it) {
            let written = of_step(step);
            if rules.mode == WriteMode::Replace {
                let is_same = written.len() + 1 == stored.len()
                    && written
                        .iter()
                        .all(|(name, value)| is_same(stored.get(name), *value));
                let is_new = stored.is_empty() && may_be_new;
                return (!is_same && !is_new).then(|| "any".to_owned());
            }
            let mut names: Vec<&str> = written.keys().copied().collect();
            names.sort_unstable();
            for name in names {
                let is_known = !known.insert(name.to_owned());
                let is_decided = match stored.get(name) {
                    None => may_be_new,
                    found => is_same(found, written[name]),
                };
                if !is_known && !is_decided {
                    return Some(name.to_owned());
                }
            }
        }
        None
    }
}

fn fields(document: &RawDocument) -> HashMap<&str, RawBsonRef<'_>> {
    let fields = document.iter().filter_map(Result::ok);
    fields.map(|(name, value)| (name.as_str(), value)).collect()
}

fn of_step(step: &Step) -> HashMap<&str, RawBsonRef<'_>> {
    let document = RawDocument::from_bytes(&step.document);
    fields(document.expect("what is decoded and folded is a document"))
}

fn is_same(stored: Option<&RawBsonRef<'_>>, value: RawBsonRef<'_>) -> bool {
    match (stored, value) {
        (Some(RawBsonRef::Double(one)), RawBsonRef::Double(other)) => {
            one.to_bits() == other.to_bits()
        }
        (stored, value) => stored == Some(&value),
    }
}
