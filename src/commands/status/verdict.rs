//! What a look amounts to: the first line, and whether a person has to act. Pure.

use std::collections::BTreeSet;
use std::fmt;

use super::{Row, Status};
use crate::commands::text::{letters, thousands};
use crate::database::facts::Facts;
use crate::kafka::group::GroupFacts;
use crate::telemetry::code::Code;

/// How long a record may wait while nothing moves before its partition counts as one that stands
/// still: a rebalance and an election are over by then.
const STANDS_AFTER_MS: i64 = 60_000;

/// How far a majority may be behind the last write, in milliseconds.
const MAJORITY_LAG_MS_MAX: i64 = 10_000;

/// Something that is wrong, and what the runbook calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatusFault {
    pub(super) what: String,
    /// At least one; several where partitions stand still for several reasons.
    pub(super) codes: BTreeSet<Code>,
}

impl StatusFault {
    pub(super) fn new(code: Code, what: impl Into<String>) -> StatusFault {
        StatusFault {
            what: what.into(),
            codes: [code].into(),
        }
    }
}

impl fmt::Display for StatusFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codes: Vec<String> = self.codes.iter().map(Code::to_string).collect();
        write!(out, "{} ({})", self.what, codes.join(", "))
    }
}

impl Row {
    /// What a person reads as its state.
    pub(super) fn state(&self) -> &'static str {
        match self.place.state() {
            "ok" if self.place.lag() == Some(0) => "caught up",
            "ok" if self.stands() => "stands still",
            "ok" => "running",
            other => other,
        }
    }

    /// Whether its next record waits for long, and nothing moves.
    fn stands(&self) -> bool {
        self.rate == Some(0.0) && self.age_ms.is_some_and(|age| age >= STANDS_AFTER_MS)
    }

    /// What the runbook calls it, where a person has to act.
    pub(super) fn code(&self) -> Option<Code> {
        match (self.place.state(), self.place.code()) {
            // A rebalance, an election or a commit is over in a while.
            ("the broker is behind" | "held by an open transaction", code) => {
                code.filter(|_| self.stands())
            }
            (_, Some(code)) => Some(code),
            (_, None) => self.stands().then_some(Code::NothingSettles),
        }
    }

    /// How many records stand in a log that no worker has begun.
    fn unbegun(&self) -> i64 {
        let log = &self.place.log;
        match self.place.lag() {
            None if self.place.is_new() => (log.stable_end - log.offsets.start).max(0),
            _ => 0,
        }
    }

    /// How many seconds it takes to catch up at this rate, where it moves and has to.
    pub(super) fn catch_up_seconds(&self) -> Option<f64> {
        let (lag, rate) = (self.place.lag()?, self.rate?);
        (lag > 0 && rate > 0.0).then(|| lag as f64 / rate)
    }
}

impl Status {
    /// What is wrong, each in words.
    pub(super) fn faults(&self) -> Vec<StatusFault> {
        let mut faults = self.unanswered.clone();
        faults.extend(self.standing());
        if let Some(group) = &self.group {
            faults.extend(self.faults_of_group(group));
        }
        if let Some(mongodb) = &self.mongodb {
            faults.extend(faults_of_mongodb(&mongodb.facts));
        }
        faults
    }

    /// The partitions that stand still, if any.
    fn standing(&self) -> Option<StatusFault> {
        let standing: Vec<Code> = self.rows.iter().filter_map(Row::code).collect();
        let (count, all) = (standing.len(), self.rows.len());
        (count > 0).then(|| StatusFault {
            what: format!("{count} of {all} partitions stand still"),
            codes: standing.into_iter().collect(),
        })
    }

    fn faults_of_group(&self, group: &GroupFacts) -> Vec<StatusFault> {
        let mut faults = Vec::new();
        let lag: i64 = self.rows.iter().filter_map(|row| row.place.lag()).sum();
        // Members of group.protocol=consumer are not listed, but their checkpoints move.
        let moves = |row: &Row| row.rate.is_some_and(|rate| rate > 0.0);
        let unbegun: i64 = self.rows.iter().map(Row::unbegun).sum();
        let waits = lag > 0 || unbegun > 0;
        if group.members.is_empty() && waits && !self.rows.iter().any(moves) {
            let what = match unbegun {
                0 => "no worker is in the group".to_owned(),
                count => {
                    let count = thousands(count);
                    format!("no worker is in the group, and {count} records have never been read")
                }
            };
            faults.push(StatusFault::new(Code::NoWorker, what));
        }
        if !self.other_groups.is_empty() {
            let (group, others) = (&self.group_name, self.other_groups.join(", "));
            let what = format!("the group {group} has no checkpoint, and {others} has");
            faults.push(StatusFault::new(Code::OtherGroups, what));
        }
        if group.keeps_out() {
            let protocol = &group.protocol;
            faults.push(StatusFault::new(
                Code::OutsideGroup,
                format!("another program is in the group, by the protocol {protocol}"),
            ));
        }
        faults
    }

    /// The first line.
    pub(super) fn verdict(&self) -> String {
        let mut parts: Vec<String> = self.faults().iter().map(ToString::to_string).collect();
        if parts.is_empty() {
            parts.push("healthy".to_owned());
        }
        let open = self.letters_open();
        if open > 0 {
            parts.push(format!("{} open ({})", letters(open), Code::Rejected));
        }
        parts.join("; ")
    }

    /// How many dead letters are known to be open.
    fn letters_open(&self) -> i64 {
        let mongodb = self.mongodb.as_ref();
        mongodb.map_or(0, |mongodb| mongodb.letters.values().sum())
    }

    /// What to look up in the runbook: of each fault, and of letters that are open.
    pub(super) fn codes(&self) -> BTreeSet<Code> {
        let of_letters = (self.letters_open() > 0).then_some(Code::Rejected);
        let of_faults = self.faults().into_iter().flat_map(|fault| fault.codes);
        of_faults.chain(of_letters).collect()
    }
}

fn faults_of_mongodb(facts: &Facts) -> Vec<StatusFault> {
    let mut whats = Vec::new();
    if facts.primary.is_none() {
        whats.push("MongoDB has no primary".to_owned());
    }
    if let Some(lag_ms) = facts.majority_lag_ms.filter(|ms| *ms > MAJORITY_LAG_MS_MAX) {
        whats.push(format!("MongoDB's majority is {} s behind", lag_ms / 1000));
    }
    if let Some(name) = &facts.differs_in_case {
        whats.push(format!(
            "the database is called {name}, which is written in other letters here"
        ));
    } else if let Some(missing) = &facts.missing {
        whats.push(format!("the service may not {missing}"));
    }
    let fault = |what| StatusFault::new(Code::MongodbAway, what);
    whats.into_iter().map(fault).collect()
}
