//! The transactions of one pass: keys by keys, each with all that its letters come to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::bail;
use bson::{DateTime, RawDocument, doc};

use super::life::{Effect, LetterPart};
use super::pass::ReplayPass;
use super::place::{Course, PlaceReplay, UnansweredReplay};
use crate::backoff::Backoff;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::record::fold::{Step, Write};
use crate::record::mapping::CollectionId;
use crate::writer::replay::{NotReplayed, ReplaySession};

/// The most bytes of documents in one transaction, for one more key to join it.
const TRANSACTION_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a transaction may hold the checkpoint: the lane's writes fail meanwhile, and are
/// repeated.
const TRANSACTION_MAX: Duration = Duration::from_secs(10);

/// How long it may hold it to read what was written since the pass.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

/// How long the lane may keep a transaction from its checkpoint. A transaction that a killed
/// process has left open holds it for a minute.
const CONFLICT_MAX: Duration = Duration::from_secs(90);

/// The longest wait between two tries to hold the checkpoint.
const CONFLICT_WAIT_MAX: Duration = Duration::from_millis(50);

/// How a pass ended.
pub(super) enum Applied {
    /// Each of its letters is counted.
    All,
    /// Some are not: look again. With the reason.
    Again(String),
}

/// What a transaction was to do.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) keys: Vec<Vec<u8>>,
    /// Of each write that was sent: whose it is, up to which offset, and of how many states.
    sent: Vec<(Vec<u8>, i64, usize)>,
    /// Of each letter, whether its document changes.
    letters: Vec<(i64, bool)>,
    at: Option<DateTime>,
}

/// Applies the letters of a pass.
pub(super) struct Applier<'a, 'r> {
    pub(super) replay: &'a mut PlaceReplay<'r>,
    pub(super) session: &'a mut ReplaySession,
    pub(super) checkpoints: &'a Checkpoints,
    pub(super) course: &'a mut Course,
    /// Up to where the log was read.
    pub(super) reached: i64,
    pub(super) found: &'a mut Checkpoint,
}

impl Applier<'_, '_> {
    /// Applies all letters of `pass`, or finds out what would become of them.
    pub(super) async fn apply_all(&mut self, pass: &mut ReplayPass) -> anyhow::Result<Applied> {
        let mut rest: Vec<Vec<u8>> = pass.keys().keys().cloned().collect();
        rest.reverse();
        loop {
            let mut chunk = self.next_chunk(pass, &mut rest);
            if chunk.keys.is_empty() {
                return Ok(Applied::All);
            }
            if self.replay.stop.load(Ordering::Relaxed) {
                return Ok(Applied::Again("interrupted".to_owned()));
            }
            let began = Instant::now();
            let applied = match self.replay.options.yes {
                true => self.apply(pass, &mut chunk).await?,
                false => {
                    let looked = self.look(pass, &mut chunk).await;
                    looked.map_or_else(
                        |error| Applied::Again(format!("{error:?}")),
                        |()| Applied::All,
                    )
                }
            };
            if let Applied::Again(why) = applied {
                return Ok(Applied::Again(why));
            }
            self.replay.count(&chunk.letters, self.course);
            self.count_out(pass, &chunk.keys);
            if self.replay.options.yes {
                let letters = chunk.letters.len();
                self.replay.give_way(letters, began.elapsed()).await;
            }
        }
    }

    /// The next keys of which something is left to apply. Counts the letters of the others.
    fn next_chunk(&mut self, pass: &ReplayPass, rest: &mut Vec<Vec<u8>>) -> Chunk {
        let mut chunk = Chunk::default();
        let (mut letters, mut bytes) = (0, 0);
        while let Some(key) = rest.pop() {
            let life = &pass.keys()[&key];
            if !life.is_open() {
                self.count_out(pass, &[key]);
                continue;
            }
            let (more_letters, more_bytes) = (life.letters().len(), life.bytes());
            let is_full = letters + more_letters > self.course.letters_max
                || bytes + more_bytes > TRANSACTION_BYTES_MAX;
            if is_full && !chunk.keys.is_empty() {
                rest.push(key);
                break;
            }
            (letters, bytes) = (letters + more_letters, bytes + more_bytes);
            chunk.keys.push(key);
        }
        chunk
    }

    /// Counts the letters of these keys that are out.
    pub(super) fn count_out(&mut self, pass: &ReplayPass, keys: &[Vec<u8>]) {
        for key in keys {
            for (offset, part) in pass.keys()[key].letters() {
                self.replay.count_out(*offset, part, self.course);
            }
        }
    }

    /// Applies a chunk; repeats what conflicts, and takes out what the server refuses.
    async fn apply(&mut self, pass: &mut ReplayPass, chunk: &mut Chunk) -> anyhow::Result<Applied> {
        let until = Instant::now() + CONFLICT_MAX;
        let mut backoff = Backoff::new();
        loop {
            chunk.keys.retain(|key| pass.keys()[key].is_open());
            if chunk.keys.is_empty() {
                return Ok(Applied::All);
            }
            chunk.at = None;
            let attempt = self.attempt(pass, chunk);
            let failed = match tokio::time::timeout(TRANSACTION_MAX, attempt).await {
                Ok(Ok(true)) => {
                    self.found.replays += 1;
                    return Ok(Applied::All);
                }
                Ok(Ok(false)) => {
                    // Behind: what came meanwhile is read while nobody waits.
                    self.session.abort().await;
                    if !self.catch_up_outside(pass).await? {
                        return Ok(Applied::Again("the log goes on too fast".to_owned()));
                    }
                    continue;
                }
                Ok(Err(failed)) => failed,
                Err(_) => {
                    self.course.letters_max = (self.course.letters_max / 2).max(1);
                    NotReplayed::Transient(format!("it took longer than {TRANSACTION_MAX:?}"))
                }
            };
            self.session.abort().await;
            if let Some(at) = chunk.at {
                // The commit was sent: it may have landed, or may still land.
                let letters = std::mem::take(&mut chunk.letters);
                self.course.in_doubt.push(UnansweredReplay { at, letters });
                return Ok(Applied::Again(format!("{failed:?}")));
            }
            match failed {
                NotReplayed::Conflict if Instant::now() < until => {
                    let wait = backoff.next_wait().min(CONFLICT_WAIT_MAX);
                    tokio::time::sleep(wait).await;
                }
                NotReplayed::Refused(record, refusal) => {
                    let sent = record.and_then(|record| chunk.sent.get(record).cloned());
                    if let Some(again) = self.take_out(pass, chunk, sent, &refusal).await? {
                        return Ok(again);
                    }
                }
                NotReplayed::Permanent(why) => bail!(why),
                failed => return Ok(Applied::Again(format!("{failed:?}"))),
            }
        }
    }

    /// One transaction. `false` where the checkpoint has gone on further than could be read.
    async fn attempt(
        &mut self,
        pass: &mut ReplayPass,
        chunk: &mut Chunk,
    ) -> Result<bool, NotReplayed> {
        let held = self.session.begin(self.checkpoints, self.found).await?;
        if held.next_offset < self.reached {
            return Err(NotReplayed::Changed);
        }
        let until = Instant::now() + CATCH_UP_MAX;
        if !self.catch_up(pass, held.next_offset, Some(until)).await? {
            self.found.next_offset = held.next_offset;
            return Ok(false);
        }
        chunk.keys.retain(|key| pass.keys()[key].is_open());
        let changes = self.effects(pass, &chunk.keys).await?;
        self.write(pass, chunk, &changes).await?;
        let mut close = Vec::new();
        chunk.letters.clear();
        for key in &chunk.keys {
            let life = &pass.keys()[key];
            for (offset, part) in life.letters().iter().filter(|(_, part)| part.counts()) {
                let is_changed = changes.contains(key) && *part != LetterPart::Nothing;
                chunk.letters.push((*offset, is_changed));
                close.push((
                    self.replay.place.letter_id(*offset),
                    life.rejected_at(*offset),
                ));
            }
        }
        let at = DateTime::now();
        self.session.close(&close, at).await?;
        chunk.at = Some(at);
        self.session.commit().await?;
        Ok(true)
    }

    /// As an attempt that writes nothing.
    async fn look(&mut self, pass: &mut ReplayPass, chunk: &mut Chunk) -> Result<(), NotReplayed> {
        let changes = self.effects(pass, &chunk.keys).await?;
        for key in &chunk.keys {
            for (offset, part) in pass.keys()[key].letters() {
                if part.counts() {
                    let is_changed = changes.contains(key) && *part != LetterPart::Nothing;
                    chunk.letters.push((*offset, is_changed));
                }
            }
        }
        Ok(())
    }

    /// Which of the keys change something, by the documents that are stored. Takes letters out of
    /// which these leave it open.
    async fn effects(
        &mut self,
        pass: &mut ReplayPass,
        keys: &[Vec<u8>],
    ) -> Result<HashSet<Vec<u8>>, NotReplayed> {
        let rules = pass.rules().clone();
        let mut changes = HashSet::new();
        let mut of_collection: BTreeMap<CollectionId, HashMap<String, Vec<u8>>> = BTreeMap::new();
        for key in keys {
            let life = &pass.keys()[key];
            for collection in life.collections() {
                let ids = of_collection.entry(collection).or_default();
                ids.insert(life.id().to_owned(), key.clone());
            }
        }
        for (collection, mut absent) in of_collection {
            let mut see = |key: &Vec<u8>, stored: Option<&RawDocument>| {
                let life = pass.life(key);
                let mut effect = life.effect(collection, stored, &rules);
                if let Effect::Undecidable(field) = &effect {
                    life.refuse_gone(&format!(
                        "a later state may have been compacted away: field {field}"
                    ));
                    effect = match life.collections().contains(&collection) {
                        true => life.effect(collection, stored, &rules),
                        false => Effect::Unchanged,
                    };
                }
                if effect == Effect::Changes {
                    changes.insert(key.clone());
                }
            };
            let ids: Vec<&String> = absent.keys().collect();
            let filter = doc! { "_id": { "$in": ids } };
            let name = rules.mapping.collection(collection);
            let found = self.session.find(name, filter, doc! {}, |stored| {
                if let Some(key) = stored.get_str("_id").ok().and_then(|id| absent.remove(id)) {
                    see(&key, Some(stored));
                }
            });
            found.await?;
            for key in absent.values() {
                see(key, None);
            }
        }
        Ok(changes)
    }

    /// Sends the writes of the keys that change something: the first of each key, then the second.
    async fn write(
        &mut self,
        pass: &ReplayPass,
        chunk: &mut Chunk,
        changes: &HashSet<Vec<u8>>,
    ) -> Result<(), NotReplayed> {
        let rules = pass.rules();
        let written: Vec<(&Vec<u8>, Vec<Step>)> = (chunk.keys.iter())
            .filter(|key| changes.contains(*key))
            .map(|key| (key, pass.keys()[key].steps(rules)))
            .collect();
        chunk.sent.clear();
        let rounds = written.iter().map(|(_, steps)| steps.len()).max();
        for round in 0..rounds.unwrap_or(0) {
            let mut of_collection: BTreeMap<CollectionId, Vec<Write<'_>>> = BTreeMap::new();
            for (key, steps) in &written {
                if let Some(step) = steps.get(round) {
                    let write = step.write(pass.keys()[*key].id(), chunk.sent.len());
                    of_collection
                        .entry(step.collection)
                        .or_default()
                        .push(write);
                    chunk.sent.push(((*key).clone(), step.offset, step.states));
                }
            }
            for (collection, writes) in of_collection {
                self.session.write(collection, &writes).await?;
            }
        }
        Ok(())
    }
}
