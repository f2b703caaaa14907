//! What a replay did, or would do: counted, and printed. Pure.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};

use super::super::super::print_json;
use crate::commands::text::{letters, one_line, thousands};

/// How many reasons are shown.
const REASONS_MAX: usize = 20;

/// What became of the letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReplayReport {
    /// Letters that matched.
    pub(super) letters: i64,
    /// Those of keys whose documents changed.
    pub(super) upserted: i64,
    /// Those that changed nothing.
    pub(super) unchanged: i64,
    /// The others, by what kept them, each with an example.
    out: BTreeMap<(Kept, String), (i64, String)>,
}

/// What kept a letter open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    RejectedAgain,
    Refused,
    /// Somebody else closed it, or it was rejected again by the service.
    Elsewhere,
}

impl ReplayReport {
    /// Counts `count` letters that were not applied, of which one is at `example`.
    pub(super) fn keep(&mut self, kept: Kept, why: &str, count: i64, example: &str) {
        let entry = self.out.entry((kept, why.to_owned()));
        entry.or_insert_with(|| (0, example.to_owned())).0 += count;
    }

    /// How many letters were counted one way or another.
    pub(super) fn counted(&self) -> i64 {
        self.upserted + self.unchanged + self.kept()
    }

    fn kept(&self) -> i64 {
        self.out.values().map(|(count, _)| count).sum()
    }

    /// How many letters could not be applied: those that somebody else has closed are not among
    /// them.
    pub(super) fn failed(&self) -> i64 {
        let failed = self
            .out
            .iter()
            .filter(|((kept, _), _)| *kept != Kept::Elsewhere);
        failed.map(|(_, (count, _))| count).sum()
    }

    fn json(&self, is_done: bool) -> Value {
        let kept = self.out.iter().map(|((kept, why), (count, example))| {
            json!({
                "outcome": kept.name(), "why": why, "letters": count, "example": example,
            })
        });
        json!({
            "done": is_done,
            "letters": self.letters,
            "upserted": self.upserted,
            "unchanged": self.unchanged,
            "not_replayed": kept.collect::<Vec<_>>(),
        })
    }

    /// Prints it. `is_done`: whether it was done, rather than looked at.
    pub(super) fn print(
        &self,
        is_done: bool,
        json: bool,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        if json {
            return Ok(print_json(out, &self.json(is_done))?);
        }
        let mut parts = Vec::new();
        if self.upserted > 0 {
            let verb = if is_done {
                "upserted"
            } else {
                "would be upserted"
            };
            parts.push(format!("{} {verb}", thousands(self.upserted)));
        }
        if self.unchanged > 0 {
            let verb = match (is_done, self.unchanged) {
                (true, _) => "changed",
                (false, 1) => "changes",
                (false, _) => "change",
            };
            parts.push(format!("{} {verb} nothing", thousands(self.unchanged)));
        }
        for ((kept, why), (count, _)) in self.out.iter().take(REASONS_MAX) {
            parts.push(format!(
                "{} {} ({})",
                thousands(*count),
                kept.words(),
                one_line(why)
            ));
        }
        if self.out.len() > REASONS_MAX {
            parts.push("…".to_owned());
        }
        if parts.is_empty() {
            parts.push("nothing to do".to_owned());
        }
        writeln!(out, "{}: {}", letters(self.letters), parts.join(", "))?;
        for ((_, why), (_, example)) in self.out.iter().take(REASONS_MAX) {
            writeln!(
                out,
                "  {}: see `dead-letters show {example}`",
                one_line(why)
            )?;
        }
        if !is_done && self.upserted + self.unchanged > 0 {
            writeln!(out, "do it with --yes")?;
        }
        Ok(())
    }
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Kept::RejectedAgain => "rejected_again",
            Kept::Refused => "refused",
            Kept::Elsewhere => "closed_elsewhere",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Kept::RejectedAgain => "rejected again",
            Kept::Refused => "not replayed",
            Kept::Elsewhere => "left",
        }
    }
}
