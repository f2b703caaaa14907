//! The change stream, read: each event with what became of its document.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::rc::Rc;

use bson::{Bson, Document, Uuid};

use super::violation::{Rule, Violation};
use super::{CHECKPOINTS, DEAD_LETTERS};

/// A document's contents, the order of top-level fields left out; none where there is no document.
pub type State = Option<u64>;

/// Where a document is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entity {
    /// Its collection.
    pub collection: String,
    /// Its `_id`; what is not a string as it is shown.
    pub id: String,
}

impl Entity {
    /// The document `id` of `collection`.
    pub fn new(collection: &str, id: Option<&Bson>) -> Entity {
        let id = match id {
            Some(Bson::String(id)) => id.clone(),
            other => format!("({})", other.unwrap_or(&Bson::Null)),
        };
        Entity {
            collection: collection.to_owned(),
            id,
        }
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.id)
    }
}

/// One event.
#[derive(Clone, Debug)]
pub struct Change {
    /// The document.
    pub entity: Entity,
    /// `insert`, `update`, `replace`, `delete`, or what else befell a collection.
    pub operation: String,
    /// Session and number of the transaction that it was part of.
    pub transaction: Option<(Uuid, i64)>,
    /// When, for a person.
    pub at: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The names of the fields that were set or removed; of a whole document `*`.
    pub fields: Vec<String>,
    /// The document after it.
    pub state: State,
    /// The document before and after it, of checkpoints and dead letters.
    pub document: (Option<Rc<Document>>, Option<Rc<Document>>),
}

/// Goes through the events and keeps every document as it goes.
#[derive(Debug, Default)]
pub struct Replay {
    /// The documents as they stand.
    pub documents: HashMap<Entity, Document>,
}

impl Replay {
    /// Reads all events. What cannot be is a violation.
    pub fn changes(&mut self, events: &[Document]) -> (Vec<Change>, Vec<Violation>) {
        let mut violations = Vec::new();
        let mut changes = Vec::with_capacity(events.len());
        for event in events {
            match self.change(event) {
                Ok(change) => changes.push(change),
                Err(fault) => {
                    let shown: String = event.to_string().chars().take(300).collect();
                    let violation = Violation::new(Rule::Evidence, fault);
                    violations.push(violation.showing(vec![shown]));
                }
            }
        }
        (changes, violations)
    }

    fn change(&mut self, event: &Document) -> Result<Change, String> {
        let collection = event.get_document("ns").and_then(|ns| ns.get_str("coll"));
        let key = event
            .get_document("documentKey")
            .ok()
            .and_then(|key| key.get("_id"));
        let entity = Entity::new(collection.unwrap_or_default(), key);
        let operation = event.get_str("operationType").unwrap_or("no operation");
        let is_ours = [CHECKPOINTS, DEAD_LETTERS].contains(&entity.collection.as_str());
        let kept = |document: Option<&Document>| document.filter(|_| is_ours).cloned().map(Rc::new);
        let before = kept(self.documents.get(&entity));
        let mut fields = Vec::new();
        match operation {
            "insert" | "replace" => {
                let document = event
                    .get_document("fullDocument")
                    .map_err(|_| format!("an {operation} without a document"))?;
                fields.push("*".to_owned());
                let replaced = self.documents.insert(entity.clone(), document.clone());
                if replaced.is_some() != (operation == "replace") {
                    return Err(format!("an {operation} of {entity}, seen before or never"));
                }
            }
            "update" => {
                let update = event
                    .get_document("updateDescription")
                    .map_err(|_| "an update without a description".to_owned())?;
                let document = self
                    .documents
                    .get_mut(&entity)
                    .ok_or_else(|| format!("an update of {entity}, which was never inserted"))?;
                fields = apply(document, update)?;
            }
            "delete" => {
                self.documents
                    .remove(&entity)
                    .ok_or_else(|| format!("a delete of {entity}, which was never inserted"))?;
            }
            _ => {}
        }
        let document = self.documents.get(&entity);
        Ok(Change {
            state: document.map(state),
            document: (before, kept(document)),
            transaction: transaction(event),
            at: at(event),
            at_ms: (event.get_datetime("wallTime")).map_or(0, |at| at.timestamp_millis()),
            operation: operation.to_owned(),
            fields,
            entity,
        })
    }
}

/// What a document holds, whatever the order of its top-level fields.
pub fn state(document: &Document) -> u64 {
    let mut fields: Vec<(&String, &Bson)> = document.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    let sorted: Document = fields
        .into_iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut hasher = DefaultHasher::new();
    hasher.write(&sorted.to_vec().unwrap_or_default());
    hasher.finish()
}

fn transaction(event: &Document) -> Option<(Uuid, i64)> {
    let number = event.get("txnNumber")?.as_i64()?;
    let session = match event.get_document("lsid").ok()?.get("id")? {
        Bson::Binary(binary) => binary.to_uuid().ok()?,
        _ => return None,
    };
    Some((session, number))
}

fn at(event: &Document) -> String {
    match (event.get("wallTime"), event.get("clusterTime")) {
        (Some(Bson::DateTime(time)), _) => time.try_to_rfc3339_string().unwrap_or_default(),
        (_, Some(Bson::Timestamp(time))) => format!("{}.{}", time.time, time.increment),
        _ => String::new(),
    }
}

/// Applies an `updateDescription`; the names of the fields that it changes.
fn apply(document: &mut Document, update: &Document) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let exact = update.get_document("disambiguatedPaths").ok();
    let path = |name: &str| -> Vec<String> {
        match exact.and_then(|exact| exact.get_array(name).ok()) {
            Some(steps) => steps.iter().map(step).collect(),
            None => name.split('.').map(str::to_owned).collect(),
        }
    };
    for truncated in update.get_array("truncatedArrays").into_iter().flatten() {
        let truncated = truncated.as_document().ok_or("a truncation of nothing")?;
        let name = truncated.get_str("field").map_err(|e| e.to_string())?;
        let size = truncated.get_i32("newSize").map_err(|e| e.to_string())?;
        let size = usize::try_from(size).map_err(|e| e.to_string())?;
        match at_path(document, &path(name)) {
            Some(Bson::Array(array)) if array.len() >= size => array.truncate(size),
            _ => return Err(format!("{name} is not an array to truncate")),
        }
        fields.push(name.to_owned());
    }
    for (name, value) in update.get_document("updatedFields").into_iter().flatten() {
        set(document, &path(name), value.clone())
            .ok_or_else(|| format!("there is no {name} to set"))?;
        fields.push(name.clone());
    }
    for name in update.get_array("removedFields").into_iter().flatten() {
        let name = name.as_str().ok_or("a removed field without a name")?;
        let path = path(name);
        let (last, parents) = path.split_last().ok_or("an empty path")?;
        let removed = match parents {
            [] => document.remove(last),
            parents => match at_path(document, parents) {
                Some(Bson::Document(parent)) => parent.remove(last),
                _ => None,
            },
        };
        removed.ok_or_else(|| format!("there is no {name} to remove"))?;
        fields.push(format!("-{name}"));
    }
    Ok(fields)
}

fn step(step: &Bson) -> String {
    match step {
        Bson::String(name) => name.clone(),
        index => index.to_string(),
    }
}

fn at_path<'d>(document: &'d mut Document, path: &[String]) -> Option<&'d mut Bson> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(document.get_mut(first)?, |value, step| match value {
            Bson::Document(document) => document.get_mut(step),
            Bson::Array(array) => array.get_mut(step.parse::<usize>().ok()?),
            _ => None,
        })
}

fn set(document: &mut Document, path: &[String], value: Bson) -> Option<()> {
    let (last, parents) = path.split_last()?;
    if parents.is_empty() {
        document.insert(last, value);
        return Some(());
    }
    match at_path(document, parents)? {
        Bson::Document(document) => drop(document.insert(last, value)),
        Bson::Array(array) => match last.parse::<usize>().ok()? {
            index if index < array.len() => array[index] = value,
            index if index == array.len() => array.push(value),
            _ => return None,
        },
        _ => return None,
    }
    Some(())
}
