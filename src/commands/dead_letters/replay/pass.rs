//! The records of one pass over a log, each given to the life of its key. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bson::DateTime;

use super::life::{KeyLife, LetterPart, ReplayRules};
use crate::record::detail::rejection;
use crate::record::entity::{Decoded, Decoder, Reason};
use crate::record::fold::Step;

/// The letters of one partition that are looked at together, with the lives of their keys.
pub(super) struct ReplayPass {
    rules: ReplayRules,
    decoder: Decoder,
    keys: BTreeMap<Vec<u8>, KeyLife>,
    /// Of each other letter, by its offset, whether its record was applied after all.
    others: HashMap<i64, bool>,
    bytes: usize,
    postponed: usize,
}

impl ReplayPass {
    /// Of these letters, each with when it was rejected and its key, which is text. `others` has of
    /// every other letter of the partition whether its record was applied after all. States of the
    /// keys in `one_by_one` are not folded.
    pub(super) fn new(
        rules: ReplayRules,
        letters: impl IntoIterator<Item = (i64, DateTime, String)>,
        others: HashMap<i64, bool>,
        one_by_one: &HashSet<String>,
    ) -> Self {
        let mut keys: BTreeMap<Vec<u8>, KeyLife> = BTreeMap::new();
        for (offset, rejected_at, id) in letters {
            let life = keys.entry(id.clone().into_bytes()).or_default();
            life.one_by_one = one_by_one.contains(&id);
            life.id = id;
            life.letters.insert(offset, LetterPart::Awaited);
            life.rejected_at.insert(offset, rejected_at);
        }
        ReplayPass {
            decoder: Decoder::new(Arc::clone(&rules.mapping), rules.tombstones),
            rules,
            keys,
            others,
            bytes: 0,
            postponed: 0,
        }
    }

    /// The rules that it goes by.
    pub(super) fn rules(&self) -> &ReplayRules {
        &self.rules
    }

    /// The keys, with their lives.
    pub(super) fn keys(&self) -> &BTreeMap<Vec<u8>, KeyLife> {
        &self.keys
    }

    /// The life of one of its keys.
    pub(super) fn life(&mut self, key: &[u8]) -> &mut KeyLife {
        self.keys.get_mut(key).expect("a key of this pass")
    }

    /// Whether records of this key are of interest.
    pub(super) fn has(&self, key: Option<&[u8]>) -> bool {
        key.is_some_and(|key| self.keys.contains_key(key))
    }

    /// Notes another letter, and whether its record was applied after all.
    pub(super) fn add_other(&mut self, offset: i64, is_replayed: bool) {
        self.others.insert(offset, is_replayed);
    }

    /// Takes in a record of the log, in the order of the offsets.
    pub(super) fn record(&mut self, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let Some(life) = key.and_then(|key| self.keys.get_mut(key)) else {
            return;
        };
        if !life.may_be_applied() || life.letters.keys().next() > Some(&offset) {
            return;
        }
        let bytes_before = life.bytes();
        life.first_in_log.get_or_insert(offset);
        let is_letter = life.letters.contains_key(&offset);
        if !is_letter && self.others.get(&offset) == Some(&false) {
            return;
        }
        let decoded = decode(&mut self.decoder, offset, key, value);
        let part = match decoded {
            Ok(Some(step)) => {
                let folding = self.rules.folding();
                life.later.push(&life.id, step, folding, life.one_by_one);
                LetterPart::InLog
            }
            Ok(None) => LetterPart::Nothing,
            Err(Undecoded::Delete) => {
                life.later.clear();
                life.deleted_at = Some(offset);
                for letter in life.letters.range_mut(..offset) {
                    if letter.1.counts() {
                        *letter.1 = LetterPart::Nothing;
                    }
                }
                LetterPart::Nothing
            }
            Err(Undecoded::Rejected(reason)) => {
                let why = rejection(&self.rules.mapping, key, value, reason);
                if !is_letter {
                    let why = format!("a later state is rejected by today's mapping: {why}");
                    life.refuse(&LetterPart::Refused(why));
                    self.bytes = self.bytes + life.bytes() - bytes_before;
                    return;
                }
                LetterPart::RejectedAgain(why)
            }
        };
        self.bytes = self.bytes + life.bytes() - bytes_before;
        if let Some(letter) = life.letters.get_mut(&offset)
            && *letter == LetterPart::Awaited
        {
            *letter = part;
        }
    }

    /// The letters whose records were not met in the log.
    pub(super) fn awaited(&self) -> Vec<i64> {
        let letters = self.keys.values().flat_map(|life| &life.letters);
        let awaited = letters.filter(|(_, part)| **part == LetterPart::Awaited);
        let mut offsets: Vec<i64> = awaited.map(|(offset, _)| *offset).collect();
        offsets.sort_unstable();
        offsets
    }

    /// Takes in the record of a letter that is no longer in the log, as the letter has it; `None`
    /// where the letter does not have all of it. In the order of the offsets.
    pub(super) fn gone(&mut self, offset: i64, key: &[u8], value: Option<Option<&[u8]>>) {
        let Some(life) = self.keys.get_mut(key) else {
            return;
        };
        let part = match value.map(|value| {
            decode(&mut self.decoder, offset, Some(key), value).map_err(|error| (error, value))
        }) {
            None => LetterPart::Refused(
                "the letter was cut, and its record is no longer in the log".to_owned(),
            ),
            Some(Ok(None)) => LetterPart::Nothing,
            Some(Ok(Some(_))) if life.deleted_at > Some(offset) => LetterPart::Nothing,
            Some(Ok(Some(_))) if life.first_in_log.is_some_and(|first| first < offset) => {
                LetterPart::Refused("its record is missing in the log".to_owned())
            }
            Some(Ok(Some(step))) => {
                let folding = self.rules.folding();
                let bytes_before = life.bytes();
                life.gone.push(&life.id, step, folding, life.one_by_one);
                self.bytes = self.bytes + life.bytes() - bytes_before;
                LetterPart::Gone
            }
            Some(Err((Undecoded::Delete, _))) => {
                LetterPart::Refused("a tombstone that is no longer in the log".to_owned())
            }
            Some(Err((Undecoded::Rejected(reason), value))) => {
                let mapping = &self.rules.mapping;
                LetterPart::RejectedAgain(rejection(mapping, Some(key), value, reason))
            }
        };
        if let Some(letter) = life.letters.get_mut(&offset)
            && *letter == LetterPart::Awaited
        {
            *letter = part;
        }
    }

    /// Leaves keys to a later pass until what is held is at most `bytes_max`, but for one key.
    pub(super) fn keep_within(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max && self.keys.len() > 1 {
            let (_, last) = self.keys.pop_last().expect("there are two");
            self.bytes -= last.bytes();
            self.postponed += last.letters.len();
        }
    }

    /// How many letters were left to a later pass.
    pub(super) fn postponed(&self) -> usize {
        self.postponed
    }
}

/// Why a record is no state.
enum Undecoded {
    Delete,
    Rejected(Reason),
}

/// The state of a record, if it has one; `None` where it is skipped.
fn decode(
    decoder: &mut Decoder,
    offset: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<Option<Step>, Undecoded> {
    let mut encoded = Vec::new();
    match decoder.decode(key, value, &mut encoded) {
        Decoded::Accepted {
            collection,
            document,
            names,
        } => Ok(Some(Step {
            collection,
            offset,
            states: 1,
            document: encoded[document].to_vec(),
            names: names as usize,
        })),
        Decoded::Skipped(_) => Ok(None),
        Decoded::Delete => Err(Undecoded::Delete),
        Decoded::Rejected(reason) => Err(Undecoded::Rejected(reason)),
    }
}
