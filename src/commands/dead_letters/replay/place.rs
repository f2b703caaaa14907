//! The letters of one partition, in passes over its log: what does not fit into memory, and what
//! changed meanwhile, waits for another one.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use bson::{DateTime, Document};
use mongodb::Database;
use tokio::task::block_in_place;

use super::ReplayOptions;
use super::apply::{Applied, Applier};
use super::collect::{ChosenLetter, LetterPlace, checkpoint, letters_of, take_gone};
use super::life::{LetterPart, ReplayRules};
use super::pass::ReplayPass;
use super::report::{Kept, ReplayReport};
use crate::backoff::Backoff;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::commands::progress::CommandProgress;
use crate::kafka::broker::Broker;
use crate::kafka::scan::Scanner;
use crate::telemetry::causes::told;
use crate::writer::dead_letter::{COLLECTION, REPLAYED};
use crate::writer::replay::ReplaySession;

/// The most bytes of folded documents that one pass holds.
const PASS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most letters in one transaction.
const TRANSACTION_LETTERS_MAX: usize = 200;

/// The longest time that is left to the lane after a transaction, beyond the rate that was asked
/// for: the longest that it waits between two tries.
const GIVEN_WAY_MAX: Duration = Duration::from_secs(2);

/// How many passes in a row may apply nothing.
const FRUITLESS_MAX: u32 = 20;

/// One partition, of which letters are applied.
pub(super) struct PlaceReplay<'a> {
    pub(super) database: &'a Database,
    pub(super) broker: &'a Broker,
    pub(super) scanner: &'a Scanner,
    pub(super) place: &'a LetterPlace,
    pub(super) filter: &'a Document,
    pub(super) rules: &'a ReplayRules,
    pub(super) options: &'a ReplayOptions,
    pub(super) progress: &'a CommandProgress,
    pub(super) stop: &'a AtomicBool,
    pub(super) report: &'a mut ReplayReport,
}

/// What is kept from pass to pass.
#[derive(Default)]
pub(super) struct Course {
    /// Letters that are counted, by their offsets.
    pub(super) decided: HashSet<i64>,
    /// Keys whose states are written one by one.
    pub(super) one_by_one: HashSet<String>,
    /// Commits that were not answered.
    pub(super) in_doubt: Vec<UnansweredReplay>,
    /// The most letters in the next transaction.
    pub(super) letters_max: usize,
}

/// A commit that was not answered: when it closed its letters, and of each whether its document
/// changed.
pub(super) struct UnansweredReplay {
    pub(super) at: DateTime,
    pub(super) letters: Vec<(i64, bool)>,
}

impl PlaceReplay<'_> {
    /// Applies them, or finds out what would become of them; counts each.
    ///
    /// # Errors
    /// Where the rest of the letters, in other partitions too, cannot be applied either.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let before = self.report.counted();
        let ended = self.passes().await;
        let rest = self.place.letters - (self.report.counted() - before);
        if rest <= 0 || self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let example = self.example(None);
        match ended {
            Ok(None) => {
                let why = "they stand behind the checkpoint, or were closed meanwhile";
                self.report.keep(Kept::Elsewhere, why, rest, &example);
            }
            Ok(Some(why)) => self.report.keep(Kept::Refused, &why, rest, &example),
            Err(error) => {
                let why = told(&error);
                self.report.keep(Kept::Refused, &why, rest, &example);
            }
        }
        Ok(())
    }

    /// Goes over the log until each letter is counted. Gives why none of the rest can be applied,
    /// if that is so.
    async fn passes(&mut self) -> anyhow::Result<Option<String>> {
        let checkpoints = Checkpoints::new(self.database.clone(), self.place.key.clone());
        let rules = self.rules;
        let session = ReplaySession::start(
            self.database,
            Arc::clone(&rules.mapping),
            rules.mode,
            rules.kind_changes,
        );
        let mut session = session.await?;
        let mut course = Course {
            letters_max: TRANSACTION_LETTERS_MAX
                .min(self.options.rate.unwrap_or(u32::MAX) as usize),
            ..Course::default()
        };
        let mut end = None;
        let mut backoff = Backoff::new();
        loop {
            let mut found = match checkpoint(&checkpoints, self.place).await? {
                Ok(found) => found,
                Err(why) => return Ok(Some(why)),
            };
            // What is behind a checkpoint that was reset, its lane applies again by itself.
            let end =
                *end.insert(end.map_or(found.next_offset, |end: i64| end.min(found.next_offset)));
            self.resolve_doubts(&mut course).await?;
            let before = self.report.counted();
            let mut pass = match self.read(&found, end, &mut course).await? {
                Some(pass) => pass,
                None => return Ok(None),
            };
            let mut applier = Applier {
                replay: &mut *self,
                session: &mut session,
                checkpoints: &checkpoints,
                course: &mut course,
                reached: found.next_offset,
                found: &mut found,
            };
            let applied = applier.apply_all(&mut pass).await?;
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            match applied {
                Applied::All if pass.postponed() == 0 => return Ok(None),
                Applied::All => backoff = Backoff::new(),
                Applied::Again(_) if self.report.counted() > before => backoff = Backoff::new(),
                Applied::Again(why) => {
                    ensure!(backoff.tries() < FRUITLESS_MAX, "gave up: {why}");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Reads the letters that are left and the log behind the first of them. `None` where none is
    /// left.
    async fn read(
        &mut self,
        found: &Checkpoint,
        end: i64,
        course: &mut Course,
    ) -> anyhow::Result<Option<ReplayPass>> {
        let (database, place) = (self.database, self.place);
        let letters = letters_of(database, place, self.filter, end, &course.decided).await?;
        let (with_key, without): (Vec<ChosenLetter>, Vec<ChosenLetter>) = (letters.chosen)
            .into_iter()
            .partition(|letter| letter.key.is_some());
        for letter in without {
            // Without a key that is text, a record is rejected whatever the mapping.
            let example = self.example(Some(letter.offset));
            self.report
                .keep(Kept::RejectedAgain, &letter.reason, 1, &example);
            course.decided.insert(letter.offset);
        }
        let Some(first) = with_key.first().map(|letter| letter.offset) else {
            return Ok(None);
        };
        self.progress.show(self.report.counted(), "reading the log");
        let chosen = with_key.into_iter();
        let chosen =
            chosen.filter_map(|letter| Some((letter.offset, letter.rejected_at, letter.key?)));
        let mut pass = ReplayPass::new(
            self.rules.clone(),
            chosen,
            letters.others,
            &course.one_by_one,
        );
        self.scan(first, found, &mut pass)?;
        let awaited = pass.awaited();
        take_gone(database, place, &awaited, &mut pass).await?;
        Ok(Some(pass))
    }

    fn scan(&self, first: i64, found: &Checkpoint, pass: &mut ReplayPass) -> anyhow::Result<()> {
        let (partition, to) = (&self.place.key.partition, found.next_offset);
        block_in_place(|| {
            let (log, topic_id) = self.scanner.log(partition)?;
            if let (Some(is), Some(was)) = (topic_id, self.place.topic_id)
                && is != was
            {
                bail!("they are of a former topic of this name");
            }
            ensure!(to <= log.stable_end, "the log ends before the checkpoint");
            if found.leader_epoch.is_some() && to >= log.start {
                let position = (partition.clone(), found.position());
                let diverged = self.broker.diverged(&[position])?;
                ensure!(diverged != [true], "the log was truncated");
            }
            let from = first.max(log.start).min(to);
            self.scanner.scan(partition, from..to, None, |record| {
                pass.record(record.offset, record.key, record.value);
                pass.keep_within(PASS_BYTES_MAX);
                ControlFlow::Continue(())
            })?;
            Ok(())
        })
    }

    /// Counts the letters of commits that have landed without an answer.
    async fn resolve_doubts(&mut self, course: &mut Course) -> anyhow::Result<()> {
        let collection = self.database.collection::<Document>(COLLECTION);
        for doubt in std::mem::take(&mut course.in_doubt) {
            let (offset, _) = doubt.letters[0];
            let query = bson::doc! {
                "_id": self.place.letter_id(offset), "state": REPLAYED, "closed.at": doubt.at,
            };
            match collection.find_one(query).await?.is_some() {
                true => self.count(&doubt.letters, course),
                false => course.in_doubt.push(doubt),
            }
        }
        Ok(())
    }

    /// Counts letters that were applied, each with whether its document changed.
    pub(super) fn count(&mut self, letters: &[(i64, bool)], course: &mut Course) {
        for (offset, changed) in letters {
            if course.decided.insert(*offset) {
                match changed {
                    true => self.report.upserted += 1,
                    false => self.report.unchanged += 1,
                }
            }
        }
        self.progress.show(self.report.counted(), "applying");
    }

    /// Counts a letter that is out.
    pub(super) fn count_out(&mut self, offset: i64, part: &LetterPart, course: &mut Course) {
        let (kept, why) = match part {
            LetterPart::RejectedAgain(why) => (Kept::RejectedAgain, why.as_str()),
            LetterPart::Refused(why) => (Kept::Refused, why.as_str()),
            LetterPart::Awaited => (Kept::Refused, "the letter was not found again"),
            LetterPart::InLog | LetterPart::Gone | LetterPart::Nothing => return,
        };
        if course.decided.insert(offset) {
            let example = self.example(Some(offset));
            self.report.keep(kept, why, 1, &example);
        }
    }

    fn example(&self, offset: Option<i64>) -> String {
        let partition = &self.place.key.partition;
        let offset = offset.map_or_else(|| "OFFSET".to_owned(), |offset| offset.to_string());
        format!("{} {} {offset}", partition.topic, partition.number)
    }

    /// Leaves the checkpoint to its lane for as long as a transaction `held` it, and until no more
    /// letters a second are applied than was asked for.
    pub(super) async fn give_way(&self, letters: usize, held: Duration) {
        let by_rate = |rate| Duration::from_secs_f64(letters as f64 / f64::from(rate));
        let by_rate = self.options.rate.map_or(Duration::ZERO, by_rate);
        tokio::time::sleep(by_rate.max(held.min(GIVEN_WAY_MAX))).await;
    }
}
