//! Which document a key has, and what the log says of it. Pure.

use std::collections::BTreeMap;

use super::PlaceLog;
use super::fields::{Comparison, FoldedEntity, TopFields};
use super::states::{ExplainRules, FoldedLog, KeyLog};
use crate::record::fold::WriteMode;
use crate::record::mapping::CollectionId;

/// The document of an entity.
#[derive(Debug, Default, PartialEq)]
pub(super) struct EntityDocument {
    /// Where it is, or should be.
    pub(super) collection: Option<String>,
    pub(super) comparison: Comparison,
    /// Whether it has the states of letters that are open and would be accepted today: they were
    /// applied since.
    pub(super) has_open_letters: bool,
    /// Where its waiting states go, if that is another collection.
    pub(super) moves_to: Option<String>,
    /// What is left of it in other collections.
    pub(super) older: Vec<OlderDocument>,
}

/// A document with the same id in another collection: a change of kind leaves it behind.
#[derive(Debug, PartialEq)]
pub(super) struct OlderDocument {
    pub(super) collection: String,
    pub(super) kind: Option<String>,
    /// The offset of the last state that it is from, if the log has it.
    pub(super) until: Option<i64>,
    pub(super) fields: TopFields,
}

/// What `stored` is beside what the logs say. States of several partitions have no order, so they
/// say nothing.
pub(super) fn entity_document(
    rules: &ExplainRules,
    logs: &[PlaceLog],
    stored: &BTreeMap<CollectionId, TopFields>,
) -> EntityDocument {
    let mut with_states = logs.iter().filter(|log| log.found.states_count > 0);
    let log = match (with_states.next(), with_states.next()) {
        (Some(log), None) => Some(&log.found),
        _ => None,
    };
    let document = document_by(rules, log.map(|log| (log, &log.folded)), stored);
    let Some(with_open) = log.and_then(|log| Some((log, log.with_open.as_ref()?))) else {
        return document;
    };
    // Only where the letters, as they stand, do not explain it.
    let other = document_by(rules, Some(with_open), stored);
    match document.comparison.is_faulty() && !other.comparison.is_faulty() {
        true => EntityDocument {
            has_open_letters: true,
            ..other
        },
        false => document,
    }
}

/// What `stored` is beside a log, and what its states were folded to.
fn document_by(
    rules: &ExplainRules,
    log: Option<(&KeyLog, &FoldedLog)>,
    stored: &BTreeMap<CollectionId, TopFields>,
) -> EntityDocument {
    let mapping = &rules.mapping;
    let name = |id: CollectionId| mapping.collection(id).to_owned();
    let folded = log.map(|(_, folded)| folded);
    let newest = folded.and_then(|folded| folded.now.newest().or(folded.end.newest()));
    let collection = newest.or_else(|| stored.keys().next().copied());
    let fields = |id| stored.get(&id).cloned();
    let comparison = match (collection, log) {
        (Some(id), Some((log, folded))) => {
            let of = |folded: &FoldedEntity| Some(folded.document(id)?.fields.clone());
            let may_lack = !log.is_whole && (rules.mode == WriteMode::Set || newest.is_none());
            let would_be = match of(&folded.end) {
                None if may_lack && !folded.end.is_deleted => fields(id),
                would_be => would_be,
            };
            Comparison::new(fields(id), of(&folded.now), would_be, may_lack)
        }
        (Some(id), None) => Comparison {
            stored: fields(id),
            would_be: fields(id),
            ..Comparison::default()
        },
        (None, _) => Comparison::default(),
    };
    let older = stored.iter().filter(|(id, _)| Some(**id) != collection);
    let older = older.map(|(id, fields)| OlderDocument {
        collection: name(*id),
        kind: fields.text(mapping.kind()).map(str::to_owned),
        until: folded.and_then(|folded| Some(folded.now.document(*id)?.until)),
        fields: fields.clone(),
    });
    let next = folded.and_then(|folded| folded.end.newest());
    EntityDocument {
        older: older.collect(),
        collection: collection.map(name),
        comparison,
        has_open_letters: false,
        moves_to: next.filter(|next| Some(*next) != collection).map(name),
    }
}
