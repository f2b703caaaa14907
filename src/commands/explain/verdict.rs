//! What it all amounts to: the first line, and whether a person has to act. Pure.

use super::letters::LetterStanding;
use super::states::StateOutcome;
use super::{Explained, PlaceLog};
use crate::commands::text::{one_line, thousands};

/// How many fields the first line names.
const FIELDS_NAMED_MAX: usize = 10;

impl Explained {
    /// The logs that have states of the key.
    pub(super) fn with_states(&self) -> impl Iterator<Item = &PlaceLog> {
        self.logs.iter().filter(|log| log.found.states_count > 0)
    }

    /// What keeps the document from being what all states in the log say, each in words.
    pub(super) fn faults(&self) -> Vec<String> {
        let logs: Vec<&PlaceLog> = self.with_states().collect();
        let mut faults = Vec::new();
        let mut open: usize = self.logs.iter().map(|log| log.found.letters_open).sum();
        match logs[..] {
            [] => faults.push(self.without_states()),
            [log] => {
                let applied_since = match self.document.has_open_letters {
                    true => log.found.open_and_accepted_today,
                    false => 0,
                };
                if applied_since > 0 {
                    open = open.saturating_sub(applied_since);
                    faults.push(letters_left(applied_since));
                }
                if let Some(rejected) = newest_rejected(log, applied_since > 0) {
                    faults.push(rejected);
                    open = open.saturating_sub(usize::from(is_open(log)));
                }
                faults.extend(behind(log));
                faults.extend(self.differs());
            }
            _ => faults.push(format!(
                "its states are in {} partitions: their order is not defined",
                logs.len()
            )),
        }
        if open > 0 {
            let (states, letters) = match open {
                1 => ("state of it was", "letter is"),
                _ => ("states of it were", "letters are"),
            };
            let other = if faults.is_empty() { "" } else { "other " };
            faults.push(format!(
                "{} {other}{states} rejected, and the {letters} open",
                thousands(open as i64)
            ));
        }
        faults
    }

    /// The first line.
    pub(super) fn verdict(&self) -> String {
        match self.faults() {
            faults if !faults.is_empty() => faults.join("; "),
            _ if self.document.comparison.stored.is_some() => {
                "up to date: the document is what the log says".to_owned()
            }
            _ => "up to date: there is no document, as the log says".to_owned(),
        }
    }

    fn without_states(&self) -> String {
        match &self.document.collection {
            Some(collection) => format!(
                "no record of this key in the topics: what its document in `{collection}` is from \
                 is no longer there"
            ),
            None => "no record of this key in the topics, and no document".to_owned(),
        }
    }

    fn differs(&self) -> Option<String> {
        let document = &self.document;
        let collection = document.collection.as_deref().unwrap_or_default();
        let comparison = &document.comparison;
        if !comparison.is_faulty() {
            return None;
        }
        match (&comparison.stored, &comparison.expected) {
            (None, _) => return Some(format!("the document is missing in `{collection}`")),
            (_, None) => {
                return Some(format!(
                    "there is a document in `{collection}`, and none by the log"
                ));
            }
            _ => {}
        }
        let names = comparison.faulty();
        let mut named: Vec<String> = (names.iter().take(FIELDS_NAMED_MAX))
            .map(|name| one_line(name))
            .collect();
        if names.len() > FIELDS_NAMED_MAX {
            named.push("…".to_owned());
        }
        Some(format!(
            "the document differs from the log in: {}",
            named.join(", ")
        ))
    }
}

/// That the checkpoint has not reached the newest state, or that its partition stands.
fn behind(log: &PlaceLog) -> Option<String> {
    let state = match log.place.state() {
        "ok" | "held by an open transaction" => None,
        state => Some(format!("its partition: {state}")),
    };
    let behind = match log.found.behind {
        0 => return state,
        1 => "behind: the checkpoint is 1 record before its newest state".to_owned(),
        records => format!(
            "behind: the checkpoint is {} records before its newest state",
            thousands(records as i64)
        ),
    };
    Some(match state {
        Some(state) => format!("{behind}, and {state}"),
        None => behind,
    })
}

/// That letters are open though their records were applied since.
fn letters_left(letters: usize) -> String {
    let (letters, them) = match letters {
        1 => (
            "1 letter of it is open, though its record was".to_owned(),
            "it",
        ),
        many => {
            let many = thousands(many as i64);
            let letters = format!("{many} letters of it are open, though their records were");
            (letters, "them")
        }
    };
    format!("{letters} applied since: `dead-letters replay` closes {them}, and changes nothing")
}

/// `is_applied_since`: the document has the states of letters that would be accepted today.
fn newest_rejected(log: &PlaceLog, is_applied_since: bool) -> Option<String> {
    match log.found.newest.as_ref()? {
        newest if is_applied_since && newest.is_open_and_accepted_today() => None,
        StateOutcome::Rejected {
            why,
            standing,
            is_accepted_today,
        } => {
            let then = match (standing, is_accepted_today) {
                (LetterStanding::Discarded, _) => "and given up",
                (_, true) => "and would be accepted today: `dead-letters replay`",
                (_, false) => "`dead-letters replay` once the cause is mended",
            };
            Some(format!(
                "its newest state was rejected ({}), {then}",
                one_line(why)
            ))
        }
        StateOutcome::RejectedToday(why) if log.found.behind > 0 => Some(format!(
            "its newest state will be rejected ({})",
            one_line(why)
        )),
        _ => None,
    }
}

/// Whether the letter of the newest state is open.
fn is_open(log: &PlaceLog) -> bool {
    matches!(
        log.found.newest,
        Some(StateOutcome::Rejected {
            standing: LetterStanding::Open,
            ..
        })
    )
}
