//! The documents of one entity as states make them, and as MongoDB has them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bson::raw::RawDocument;
use bson::{Bson, RawBson};
use serde_json::{Map, Value};

use super::states::ExplainRules;
use crate::commands::text::bson_json;
use crate::record::fold::{KindChanges, WriteMode};
use crate::record::mapping::CollectionId;

/// The top-level fields of a document, but for its `_id`. Their order is the server's, and no part
/// of the contract; below them it counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TopFields(BTreeMap<String, RawBson>);

impl TopFields {
    /// Those of a document.
    ///
    /// # Errors
    /// Where its bytes are no BSON.
    pub(super) fn read(document: &RawDocument) -> anyhow::Result<TopFields> {
        let mut fields = BTreeMap::new();
        for element in document {
            let (name, value) = element?;
            if name != "_id" {
                fields.insert(name.as_str().to_owned(), value.into());
            }
        }
        Ok(TopFields(fields))
    }

    /// The text of a field, if it is one.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// As plain JSON.
    pub(super) fn json(&self) -> Value {
        let field = |(name, value): (&String, &RawBson)| {
            let value =
                Bson::try_from(value.clone()).map_or(Value::Null, |value| bson_json(&value));
            (name.clone(), value)
        };
        Value::Object(self.0.iter().map(field).collect::<Map<_, _>>())
    }

    /// These, and of `others` those whose names are not among them.
    pub(super) fn with(mut self, others: &TopFields, names: &BTreeSet<String>) -> TopFields {
        for name in names {
            if let (false, Some(value)) = (self.0.contains_key(name), others.0.get(name)) {
                self.0.insert(name.clone(), value.clone());
            }
        }
        self
    }
}

/// What states, one after the other, make of the documents of one entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FoldedEntity {
    documents: BTreeMap<CollectionId, FoldedDocument>,
    newest: Option<CollectionId>,
    /// Whether a tombstone deleted all that came before.
    pub(super) is_deleted: bool,
}

/// What states make of one document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FoldedDocument {
    pub(super) fields: TopFields,
    /// The offset of its last state.
    pub(super) until: i64,
}

impl FoldedEntity {
    /// Takes a later state in.
    pub(super) fn push(
        &mut self,
        collection: CollectionId,
        state: TopFields,
        offset: i64,
        rules: &ExplainRules,
    ) {
        self.newest = Some(collection);
        if rules.kind_changes == KindChanges::Delete && !self.documents.contains_key(&collection) {
            self.documents.clear();
        }
        match (rules.mode, self.documents.get_mut(&collection)) {
            (WriteMode::Set, Some(document)) => {
                document.fields.0.extend(state.0);
                document.until = offset;
            }
            _ => {
                let (fields, until) = (state, offset);
                let document = FoldedDocument { fields, until };
                self.documents.insert(collection, document);
            }
        }
    }

    /// Takes in a tombstone that deletes.
    pub(super) fn delete(&mut self) {
        *self = FoldedEntity {
            is_deleted: true,
            ..FoldedEntity::default()
        };
    }

    /// The collection of the newest state.
    pub(super) fn newest(&self) -> Option<CollectionId> {
        self.newest
    }

    /// The document in a collection.
    pub(super) fn document(&self, collection: CollectionId) -> Option<&FoldedDocument> {
        self.documents.get(&collection)
    }
}

/// A document as it is, beside what the log says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Comparison {
    pub(super) stored: Option<TopFields>,
    /// As the applied states make it.
    pub(super) expected: Option<TopFields>,
    /// As it will be once all states are applied.
    pub(super) would_be: Option<TopFields>,
    /// Fields with another value than expected.
    pub(super) differs: BTreeSet<String>,
    /// Fields that only the log has.
    pub(super) missing: BTreeSet<String>,
    /// Fields that only MongoDB has.
    pub(super) only_stored: BTreeSet<String>,
    /// Fields that only MongoDB has, where the log may have lost the states that they are from.
    pub(super) of_lost_states: BTreeSet<String>,
}

impl Comparison {
    /// `may_lack`: whether states that left fields behind may no longer be in the log.
    pub(super) fn new(
        stored: Option<TopFields>,
        expected: Option<TopFields>,
        would_be: Option<TopFields>,
        may_lack: bool,
    ) -> Comparison {
        let none = TopFields::default();
        let (is, should) = (stored.as_ref().unwrap_or(&none), expected.as_ref());
        let should = should.unwrap_or(&none);
        let mut found = Comparison::default();
        for (name, value) in &should.0 {
            match is.0.get(name) {
                None => found.missing.insert(name.clone()),
                Some(other) if other != value => found.differs.insert(name.clone()),
                Some(_) => false,
            };
        }
        let only_stored = is.0.keys().filter(|name| !should.0.contains_key(*name));
        let only_stored: BTreeSet<String> = only_stored.cloned().collect();
        match may_lack {
            true => found.of_lost_states = only_stored,
            false => found.only_stored = only_stored,
        }
        found.would_be = would_be.map(|fields| fields.with(is, &found.of_lost_states));
        (found.stored, found.expected) = (stored, expected);
        found
    }

    /// The names of the fields in which it is not what the log says.
    pub(super) fn faulty(&self) -> BTreeSet<&String> {
        let faulty = self.differs.iter().chain(&self.missing);
        faulty.chain(&self.only_stored).collect()
    }

    /// Whether it is not what the log says.
    pub(super) fn is_faulty(&self) -> bool {
        let is_missing = self.expected.is_some() && self.stored.is_none();
        is_missing || !self.faulty().is_empty()
    }
}
