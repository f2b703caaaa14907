//! The states of one key, as a partition's log has them, in bounded memory. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bson::raw::RawDocument;

use super::fields::{FoldedEntity, TopFields};
use super::letters::{LetterOfKey, LetterStanding};
use crate::record::Record;
use crate::record::detail::{detail, rejection};
use crate::record::entity::{Decoded, Decoder, Skip, Tombstones};
use crate::record::fold::{KindChanges, WriteMode};
use crate::record::mapping::Mapping;
use crate::writer::dead_letter::trace_id;

/// By what the service reads states and writes them.
#[derive(Clone)]
pub(super) struct ExplainRules {
    pub(super) mapping: Arc<Mapping>,
    pub(super) tombstones: Tombstones,
    pub(super) mode: WriteMode,
    pub(super) kind_changes: KindChanges,
}

/// What became of a record, or what will become of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StateOutcome {
    Applied,
    /// Rejected when it came, and applied after all.
    Replayed,
    /// A tombstone that deletes.
    Deletes,
    Skipped(Skip),
    Rejected {
        why: String,
        standing: LetterStanding,
        /// Whether today's mapping would accept it.
        is_accepted_today: bool,
    },
    /// Rejected by today's mapping, and there is no letter.
    RejectedToday(String),
}

impl StateOutcome {
    /// Whether its letter is open, and today's mapping would accept it.
    pub(super) fn is_open_and_accepted_today(&self) -> bool {
        matches!(
            self,
            StateOutcome::Rejected {
                standing: LetterStanding::Open,
                is_accepted_today: true,
                ..
            }
        )
    }
}

/// One record of the key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeyState {
    pub(super) offset: i64,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) kind: Option<String>,
    pub(super) trace_id: Option<String>,
    /// Whether the checkpoint is not past it.
    pub(super) waits: bool,
    pub(super) outcome: StateOutcome,
}

/// What states make of the documents of the key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FoldedLog {
    /// Those that are applied.
    pub(super) now: FoldedEntity,
    /// All of them.
    pub(super) end: FoldedEntity,
}

impl FoldedLog {
    fn take_in(&mut self, waits: bool, take_in: impl Fn(&mut FoldedEntity)) {
        if !waits {
            take_in(&mut self.now);
        }
        take_in(&mut self.end);
    }
}

/// What a log has of the key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KeyLog {
    /// The last states.
    pub(super) states: VecDeque<KeyState>,
    /// How many there are.
    pub(super) states_count: u64,
    /// How many records were read, of all keys.
    pub(super) records: u64,
    /// How many records the checkpoint is before the newest state, that one included.
    pub(super) behind: u64,
    /// What became of the newest record that is not skipped.
    pub(super) newest: Option<StateOutcome>,
    /// What the states make of it.
    pub(super) folded: FoldedLog,
    /// The same, if the records of open letters that would be accepted today were applied since, by
    /// going back with `offsets reset`: the letters do not tell. `None` where there are none.
    pub(super) with_open: Option<FoldedLog>,
    /// How many letters of the key stand in it and are open.
    pub(super) letters_open: usize,
    /// Of how many of these the record would be accepted today.
    pub(super) open_and_accepted_today: usize,
    /// Whether no state that was applied may be missing here.
    pub(super) is_whole: bool,
}

/// Reads the log of one partition for one key.
pub(super) struct KeyReader<'a> {
    rules: &'a ExplainRules,
    decoder: Decoder,
    key: &'a [u8],
    letters: &'a BTreeMap<i64, LetterOfKey>,
    applied_to: i64,
    states_shown_max: usize,
    /// How many records stand before the checkpoint, and behind it.
    before: i64,
    behind: u64,
    /// Whether a state was applied by another mapping.
    is_uncertain: bool,
    log: KeyLog,
}

impl<'a> KeyReader<'a> {
    /// All before `applied_to` is applied, but for the `letters` of this partition, by offset.
    pub(super) fn new(
        rules: &'a ExplainRules,
        key: &'a [u8],
        letters: &'a BTreeMap<i64, LetterOfKey>,
        applied_to: i64,
        states_shown_max: usize,
    ) -> Self {
        KeyReader {
            decoder: Decoder::new(Arc::clone(&rules.mapping), rules.tombstones),
            rules,
            key,
            letters,
            applied_to,
            states_shown_max,
            before: 0,
            behind: 0,
            is_uncertain: false,
            log: KeyLog::default(),
        }
    }

    /// Takes in a record, in the order of the offsets.
    ///
    /// # Errors
    /// Where what was decoded is no BSON.
    pub(super) fn record(&mut self, record: &Record<'_>) -> anyhow::Result<()> {
        let waits = record.offset >= self.applied_to;
        self.log.records += 1;
        match waits {
            true => self.behind += 1,
            false => self.before += 1,
        }
        if record.key != Some(self.key) {
            return Ok(());
        }
        let mut encoded = Vec::new();
        let decoded = self.decoder.decode(record.key, record.value, &mut encoded);
        let state = match &decoded {
            Decoded::Accepted { document, .. } => {
                let document = RawDocument::from_bytes(&encoded[document.clone()])?;
                Some(TopFields::read(document)?)
            }
            _ => None,
        };
        let mapping = &self.rules.mapping;
        let kind = match (&state, &decoded) {
            (Some(fields), _) => fields.text(mapping.kind()).map(str::to_owned),
            (None, Decoded::Rejected(reason)) => {
                detail(mapping, record.key, record.value, *reason).kind
            }
            _ => None,
        };
        let outcome = self.outcome(record, waits, &decoded);
        self.fold(&outcome, &decoded, state, record.offset, waits);
        self.show(KeyState {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            kind,
            trace_id: trace_id(&record.headers).map(str::to_owned),
            waits,
            outcome,
        });
        Ok(())
    }

    /// A record that waits is read again, whatever became of it before its checkpoint was moved.
    fn outcome(&self, record: &Record<'_>, waits: bool, decoded: &Decoded) -> StateOutcome {
        let letter = self.letters.get(&record.offset).filter(|_| !waits);
        let is_accepted_today = matches!(decoded, Decoded::Accepted { .. });
        match (letter, decoded) {
            (Some(letter), _) if letter.standing != LetterStanding::Replayed => {
                StateOutcome::Rejected {
                    why: letter.why.clone(),
                    standing: letter.standing,
                    is_accepted_today: is_accepted_today && !letter.is_refused_by_the_server,
                }
            }
            (Some(_), Decoded::Accepted { .. }) => StateOutcome::Replayed,
            (None, Decoded::Accepted { .. }) => StateOutcome::Applied,
            (_, Decoded::Delete) => StateOutcome::Deletes,
            (_, Decoded::Skipped(skip)) => StateOutcome::Skipped(*skip),
            (_, Decoded::Rejected(reason)) => StateOutcome::RejectedToday(rejection(
                &self.rules.mapping,
                record.key,
                record.value,
                *reason,
            )),
        }
    }

    fn fold(
        &mut self,
        outcome: &StateOutcome,
        decoded: &Decoded,
        state: Option<TopFields>,
        offset: i64,
        waits: bool,
    ) {
        let KeyLog {
            folded,
            with_open,
            open_and_accepted_today,
            ..
        } = &mut self.log;
        match (outcome, decoded, state) {
            (_, Decoded::Accepted { collection, .. }, Some(state)) => {
                let push = |folded: &mut FoldedEntity| {
                    folded.push(*collection, state.clone(), offset, self.rules);
                };
                match outcome {
                    StateOutcome::Applied | StateOutcome::Replayed => {
                        folded.take_in(waits, push);
                        with_open.iter_mut().for_each(|it| it.take_in(waits, push));
                    }
                    outcome if outcome.is_open_and_accepted_today() => {
                        let with_open = with_open.get_or_insert_with(|| folded.clone());
                        with_open.take_in(waits, push);
                        *open_and_accepted_today += 1;
                    }
                    _ => {}
                }
            }
            (StateOutcome::Deletes, ..) => {
                let both = [Some(folded), with_open.as_mut()];
                for folded in both.into_iter().flatten() {
                    folded.take_in(waits, FoldedEntity::delete);
                }
                self.is_uncertain &= waits;
            }
            (StateOutcome::RejectedToday(_), ..) => self.is_uncertain |= !waits,
            _ => {}
        }
    }

    fn show(&mut self, state: KeyState) {
        if !matches!(state.outcome, StateOutcome::Skipped(_)) {
            self.log.newest = Some(state.outcome.clone());
            self.log.behind = if state.waits { self.behind } else { 0 };
        }
        if self.log.states.len() == self.states_shown_max {
            self.log.states.pop_front();
        }
        self.log.states.push_back(state);
        self.log.states_count += 1;
    }

    /// What was read of a log that begins at 0 or later: a record that is missing in it, for
    /// whatever reason, may have been a state.
    pub(super) fn finish(mut self) -> KeyLog {
        let letters = self.letters.values();
        let open = letters.filter(|letter| letter.standing == LetterStanding::Open);
        self.log.letters_open = open.count();
        let has_all = self.before == self.applied_to || self.log.folded.now.is_deleted;
        self.log.is_whole = has_all && !self.is_uncertain;
        self.log
    }
}
