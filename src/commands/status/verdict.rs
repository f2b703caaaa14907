//! What a look amounts to: the first line, and whether a person has to act. Pure.

use super::{Row, Status};

/// How long a record may wait while nothing moves before its partition counts as one that stands
/// still: a rebalance and an election are over by then.
const STANDS_AFTER_MS: i64 = 60_000;

/// How far a majority may be behind the last write, in milliseconds.
const MAJORITY_LAG_MS_MAX: i64 = 10_000;

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

    pub(super) fn needs_a_person(&self) -> bool {
        match self.place.state() {
            "ok" => self.stands(),
            "no checkpoint" => self.stands() && self.place.lag().is_some_and(|lag| lag > 0),
            "the broker is behind" | "held by an open transaction" => self.stands(),
            _ => true,
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
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let standing = self.rows.iter().filter(|row| row.needs_a_person()).count();
        if standing > 0 {
            faults.push(format!(
                "{standing} of {} partitions stand still",
                self.rows.len()
            ));
        }
        let lag: i64 = self.rows.iter().filter_map(|row| row.place.lag()).sum();
        // Members of group.protocol=consumer are not listed, but their checkpoints move.
        let moves = self
            .rows
            .iter()
            .any(|row| row.rate.is_some_and(|rate| rate > 0.0));
        if self.group.members.is_empty() && lag > 0 && !moves {
            faults.push("no worker is in the group".to_owned());
        }
        if self.group.keeps_out() {
            let protocol = &self.group.protocol;
            faults.push(format!(
                "another program is in the group, by the protocol {protocol}"
            ));
        }
        if self.mongodb.primary.is_none() {
            faults.push("MongoDB has no primary".to_owned());
        }
        if let Some(lag_ms) = self
            .mongodb
            .majority_lag_ms
            .filter(|ms| *ms > MAJORITY_LAG_MS_MAX)
        {
            faults.push(format!("MongoDB's majority is {} s behind", lag_ms / 1000));
        }
        if let Some(missing) = &self.mongodb.missing {
            faults.push(format!("the service may not {missing}"));
        }
        faults
    }

    /// The first line.
    pub(super) fn verdict(&self) -> String {
        let mut parts = self.faults();
        if parts.is_empty() {
            parts.push("healthy".to_owned());
        }
        match self.letters.values().sum::<i64>() {
            0 => {}
            1 => parts.push("1 letter open".to_owned()),
            letters => parts.push(format!("{letters} letters open")),
        }
        parts.join("; ")
    }
}
