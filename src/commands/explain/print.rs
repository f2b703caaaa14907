//! An explanation as text, and as JSON.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use similar::TextDiff;

use super::document::EntityDocument;
use super::fields::TopFields;
use super::letters::LetterStanding;
use super::states::{KeyState, StateOutcome};
use super::{Explained, PlaceLog};
use crate::commands::dead_letters::print_list;
use crate::commands::text::{document_json, on_terminal, one_line, thousands};
use crate::commands::{or_dash, print_json, print_table, shown_ms};
use crate::record::entity::Skip;

/// How long the lines of a difference may be looked for; then more is printed than need be.
const DIFF_MAX: Duration = Duration::from_secs(5);

/// How many lines that are the same stand around those that differ.
const CONTEXT_LINES: usize = 3;

pub(super) fn print_explained(explained: &Explained, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "{}\n", explained.verdict())?;
    writeln!(out, "key        {}", one_line(&explained.key))?;
    for log in explained.shown() {
        writeln!(out, "partition  {}", partition_line(log))?;
    }
    for note in explained.notes() {
        writeln!(out, "note       {note}")?;
    }
    print_states(explained, out)?;
    if !explained.letters.is_empty() {
        writeln!(out, "\nletters")?;
        let all = explained.letters.len() as u64;
        print_list(&explained.letters, all, false, out)?;
    }
    print_document(&explained.document, out)
}

impl Explained {
    /// The logs with states; where there are none, those where a Java client would put them.
    fn shown(&self) -> Vec<&PlaceLog> {
        let with_states: Vec<&PlaceLog> = self.with_states().collect();
        match with_states.is_empty() {
            true => self.logs.iter().filter(|log| log.is_home).collect(),
            false => with_states,
        }
    }

    /// What a reader should know, and need not act on.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.logs.iter().any(|log| !log.is_home) {
            let all = self.partitions;
            notes.push(format!("the logs of all {all} partitions were read"));
        }
        if self.with_states().any(|log| !log.is_home) {
            let home = self.logs.iter().filter(|log| log.is_home);
            let home: Vec<String> = home.map(|log| log.place.partition.to_string()).collect();
            notes.push(format!(
                "the producer uses another partitioner: by murmur2 the key is in {}",
                home.join(", ")
            ));
        }
        for log in self.with_states() {
            let (shown, all) = (log.found.states.len(), log.found.states_count);
            if (shown as u64) < all {
                notes.push(format!(
                    "the last {} of {} states are shown",
                    thousands(shown as i64),
                    thousands(all as i64)
                ));
            }
        }
        if self.letters_are_cut() {
            let shown = thousands(self.letters.len() as i64);
            notes.push(format!("only the latest {shown} letters were looked at"));
        }
        let document = &self.document;
        let lost = &document.comparison.of_lost_states;
        if !lost.is_empty() {
            let names: Vec<String> = lost.iter().map(|name| one_line(name)).collect();
            notes.push(format!(
                "fields from states that are no longer in the log: {}",
                names.join(", ")
            ));
        }
        if let Some(collection) = &document.moves_to {
            notes.push(format!("its newest state goes to `{collection}`"));
        }
        for older in &document.older {
            let kind = older.kind.as_deref().map_or("?".to_owned(), one_line);
            let until = older.until.map(|offset| format!(" until offset {offset}"));
            notes.push(format!(
                "an older document in `{}`: its kind was {kind}{}",
                older.collection,
                until.unwrap_or_default()
            ));
        }
        notes
    }
}

fn partition_line(log: &PlaceLog) -> String {
    let place = &log.place;
    let home = if log.is_home { "" } else { " (not by murmur2)" };
    let host = place.host.as_deref().map(one_line);
    format!(
        "{}{home}: log {} to {}, {} records read; checkpoint {}, {}, last claimed by {}",
        place.partition,
        place.log.offsets.start,
        place.log.stable_end,
        thousands(log.found.records as i64),
        or_dash(place.next_offset()),
        place.state(),
        or_dash(host),
    )
}

fn print_states(explained: &Explained, out: &mut impl Write) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = (explained.with_states())
        .flat_map(|log| log.found.states.iter().map(|state| row(log, state)))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let header = ["partition", "offset", "time", "kind", "outcome", "trace"];
    writeln!(out)?;
    Ok(print_table(out, &header, &["partition", "offset"], rows)?)
}

fn row(log: &PlaceLog, state: &KeyState) -> Vec<String> {
    vec![
        log.place.partition.to_string(),
        state.offset.to_string(),
        or_dash(state.timestamp_ms.map(shown_ms)),
        or_dash(state.kind.as_deref().map(one_line)),
        one_line(&state.words()),
        or_dash(state.trace_id.as_ref()),
    ]
}

impl KeyState {
    /// What became of it, in words.
    fn words(&self) -> String {
        let outcome = match &self.outcome {
            StateOutcome::Applied if self.waits => return "waiting".to_owned(),
            StateOutcome::Applied => "applied".to_owned(),
            StateOutcome::Replayed => "applied, by a replay".to_owned(),
            StateOutcome::Deletes => "tombstone: deletes".to_owned(),
            StateOutcome::Skipped(Skip::Tombstone) => "tombstone: ignored".to_owned(),
            StateOutcome::Skipped(Skip::NullId) => "skipped: the null id".to_owned(),
            StateOutcome::RejectedToday(why) if self.waits => {
                return format!("will be rejected: {why}");
            }
            StateOutcome::RejectedToday(why) => {
                format!("rejected today: {why} (no letter: it was accepted, or its letter is gone)")
            }
            StateOutcome::Rejected {
                why,
                standing,
                is_accepted_today,
            } => match (is_accepted_today, standing) {
                (true, LetterStanding::Open) => {
                    format!("was rejected: {why}; would be accepted today: dead-letters replay")
                }
                _ => format!("rejected: {why} ({})", standing.as_str()),
            },
        };
        match self.waits {
            true => format!("waiting: {outcome}"),
            false => outcome,
        }
    }

    /// The same in a word, for programs.
    fn code(&self) -> &'static str {
        match self.outcome {
            StateOutcome::Applied => "applied",
            StateOutcome::Replayed => "replayed",
            StateOutcome::Deletes => "deletes",
            StateOutcome::Skipped(_) => "skipped",
            StateOutcome::Rejected { .. } => "rejected",
            StateOutcome::RejectedToday(_) => "rejected_today",
        }
    }
}

fn print_document(document: &EntityDocument, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(collection) = &document.collection else {
        return Ok(());
    };
    let comparison = &document.comparison;
    let text = |fields: &Option<TopFields>| match fields {
        Some(fields) => format!("{:#}\n", fields.json()),
        None => String::new(),
    };
    let (is, would_be) = (text(&comparison.stored), text(&comparison.would_be));
    if is != would_be {
        writeln!(
            out,
            "\ndocument in `{collection}`, as it is (-) and as all states make it (+)"
        )?;
        let diff = TextDiff::configure()
            .timeout(DIFF_MAX)
            .diff_lines(&is, &would_be);
        let diff = diff
            .unified_diff()
            .context_radius(CONTEXT_LINES)
            .to_string();
        return Ok(write!(out, "{}", on_terminal(&diff))?);
    }
    writeln!(out, "\ndocument in `{collection}`")?;
    if comparison.is_faulty() {
        writeln!(
            out,
            "(it differs in BSON types, or in the order of inner fields)"
        )?;
    }
    Ok(write!(out, "{}", on_terminal(&is))?)
}

pub(super) fn print_json_of(explained: &Explained, out: &mut impl Write) -> anyhow::Result<()> {
    let faults = explained.faults();
    let states = explained.with_states();
    let states = states.flat_map(|log| log.found.states.iter().map(|state| state_json(log, state)));
    let document = &explained.document;
    let comparison = &document.comparison;
    let fields = |fields: &Option<TopFields>| fields.as_ref().map(TopFields::json);
    let older = document.older.iter().map(|older| {
        json!({
            "collection": older.collection,
            "kind": older.kind,
            "until_offset": older.until,
            "document": older.fields.json(),
        })
    });
    let value = json!({
        "key": explained.key,
        "up_to_date": faults.is_empty(),
        "verdict": explained.verdict(),
        "faults": faults,
        "notes": explained.notes(),
        "partitions": explained.shown().into_iter().map(partition_json).collect::<Vec<_>>(),
        "states": states.collect::<Vec<_>>(),
        "letters": explained.letters.iter().map(document_json).collect::<Vec<_>>(),
        "document": {
            "collection": document.collection,
            "stored": fields(&comparison.stored),
            "expected": fields(&comparison.expected),
            "would_be": fields(&comparison.would_be),
            "differs": comparison.differs,
            "missing": comparison.missing,
            "only_stored": comparison.only_stored,
            "of_lost_states": comparison.of_lost_states,
            "moves_to": document.moves_to,
            "has_open_letters": document.has_open_letters,
        },
        "older_documents": older.collect::<Vec<_>>(),
    });
    Ok(print_json(out, &value)?)
}

fn partition_json(log: &PlaceLog) -> Value {
    json!({
        "topic": *log.place.partition.topic,
        "partition": log.place.partition.number,
        "is_by_murmur2": log.is_home,
        "log_start": log.place.log.offsets.start,
        "stable_end": log.place.log.stable_end,
        "next_offset": log.place.next_offset(),
        "state": log.place.state(),
        "worker": log.place.host,
        "records_read": log.found.records,
        "states": log.found.states_count,
        "records_behind": log.found.behind,
    })
}

fn state_json(log: &PlaceLog, state: &KeyState) -> Value {
    let (why, letter, is_accepted_today) = match &state.outcome {
        StateOutcome::Rejected {
            why,
            standing,
            is_accepted_today,
        } => (Some(why), Some(standing.as_str()), Some(is_accepted_today)),
        StateOutcome::RejectedToday(why) => (Some(why), None, Some(&false)),
        _ => (None, None, None),
    };
    json!({
        "topic": *log.place.partition.topic,
        "partition": log.place.partition.number,
        "offset": state.offset,
        "timestamp": state.timestamp_ms.map(shown_ms),
        "kind": state.kind,
        "trace_id": state.trace_id,
        "waits": state.waits,
        "outcome": state.code(),
        "why": why,
        "letter": letter,
        "is_accepted_today": is_accepted_today,
    })
}
