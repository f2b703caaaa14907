//! An old entity → the contract's JSON. Pure.
//!
//! | Datastore | JSON |
//! |---|---|
//! | null, boolean, integer, text | the same |
//! | double | the same; NaN and the infinities by the mapping: rejected, or null |
//! | timestamp | as the API writes it: `2023-01-02T03:04:05.678901+00:00`, no fraction if it is 0 |
//! | blob | base64 (RFC 4648, with padding) |
//! | key, and what the mapping calls a reference | the new id |
//! | point | `{"latitude": …, "longitude": …}`, in degrees |
//! | embedded entity, array | object, array |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datastore_export::{Entity, Id, Key, Step, Value};
use jiff::SignedDuration;
use jiff::civil::{DateTime, date};

use crate::id::{Fingerprint, NewId};
use crate::json::Json;
use crate::mapping::{Kind, Mapping, NotANumber, Reference};
use crate::rejection::Rejection;
use crate::resolve::{KEPT, NULL, Named, Refers, Resolver};

const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

/// What the new ids of old paths are.
pub trait Ids {
    /// The new id of the entity with this path.
    fn id(&self, path: Fingerprint) -> Option<NewId>;

    /// Whether some entity's key ends in this number, or is this `account/id`.
    fn looks_like_one(&self, value: Fingerprint) -> bool;
}

/// An entity of the contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// Its id, which is its record's key too.
    pub id: NewId,
    /// The kind, by its new name.
    pub kind: String,
    /// All of it; `id` and `kind` come first.
    pub json: Json,
    /// Properties whose values look like ids of old entities and that the mapping does not call
    /// references, by old kind and path.
    pub looks_like_ids: Vec<String>,
    /// References that name nothing, by old kind and path, and what becomes of them.
    pub as_mapped: Vec<(String, &'static str)>,
    /// What the mapping calls references and is not null.
    pub references: Vec<Refers>,
}

/// What becomes of an entity.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is moved.
    Moved(Box<Converted>),
    /// The mapping says that it is not, and why.
    LeftOut(String),
}

/// The path of a key as the remap file has it.
pub fn path_of(key: &Key) -> String {
    key.to_string()
}

/// An id as the old system wrote it in names of objects and in texts: without a path's escapes.
pub fn raw(id: &Id) -> String {
    match id {
        Id::Number(number) => number.to_string(),
        Id::Name(name) => name.clone(),
    }
}

/// The id of a key's account, if it has one above it or is one.
pub fn account_of(key: &Key, mapping: &Mapping) -> Option<Step> {
    let mut path = key.path.iter();
    path.find(|step| step.kind == mapping.account_kind).cloned()
}

/// The fingerprints of what may stand for a key: its number, and `account/id`.
pub fn shapes(key: &Key, mapping: &Mapping) -> Vec<Fingerprint> {
    let mut shapes = Vec::new();
    if let Some(Id::Number(number)) = key.id() {
        shapes.push(Fingerprint::of(number.to_string()));
    }
    if let (Some(account), Some(id)) = (account_of(key, mapping), key.id()) {
        shapes.push(Fingerprint::of(format!("{}/{}", raw(&account.id), raw(id))));
    }
    shapes
}

/// Converts an entity.
///
/// # Errors
/// Why it cannot be moved.
pub fn convert(entity: &Entity, mapping: &Mapping, ids: &impl Ids) -> Result<Outcome, Rejection> {
    let old_kind = entity.key.kind();
    if mapping.accounts.is_key(old_kind) {
        return Ok(Outcome::LeftOut(
            "`accounts` moves it with its account".to_owned(),
        ));
    }
    let kind = mapping.kinds.get(old_kind);
    let kind = kind.ok_or_else(|| Rejection::UnmappedKind(old_kind.to_owned()))?;
    if let Some(why) = &kind.left_out {
        return Ok(Outcome::LeftOut(why.clone()));
    }
    let id = id_of(entity, kind, mapping, ids)?;
    let new_kind = kind.kind.as_deref().unwrap_or(old_kind);
    let mut conversion = Conversion {
        kind,
        resolver: Resolver {
            own: &entity.key,
            mapping,
            ids,
        },
        looks_like_ids: Vec::new(),
        as_mapped: Vec::new(),
        references: Vec::new(),
    };
    let mut members = vec![
        ("id".to_owned(), Json::Text(id.to_string())),
        ("kind".to_owned(), Json::Text(new_kind.to_owned())),
    ];
    if let Some(field) = &kind.account {
        members.push((field.clone(), conversion.account(field)?));
    }
    for (name, value) in &entity.properties {
        let dropped = kind.drop.contains(name) || kind.id_from.as_ref() == Some(name);
        if !dropped {
            let value = conversion.value(name, value)?;
            members.push((kind.renamed(name).to_owned(), value));
        }
    }
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Rejection::TwiceNamed(twice[0].to_owned()));
    }
    let lacking = kind.defaults.iter();
    let lacking: Vec<(String, Json)> = lacking
        .filter(|(name, _)| names.binary_search(&name.as_str()).is_err())
        .map(|(name, value)| (name.clone(), Json::from(value)))
        .collect();
    members.extend(lacking);
    Ok(Outcome::Moved(Box::new(Converted {
        id,
        kind: new_kind.to_owned(),
        json: Json::Object(members),
        looks_like_ids: conversion.looks_like_ids,
        as_mapped: conversion.as_mapped,
        references: conversion.references,
    })))
}

/// The id that a property holds, where the mapping says so.
///
/// # Errors
/// Where it holds none.
pub fn id_from(entity: &Entity, kind: &Kind) -> Result<Option<NewId>, Rejection> {
    let Some(property) = &kind.id_from else {
        return Ok(None);
    };
    match entity.get(property) {
        Some(Value::Text(text)) => text.parse().ok(),
        _ => None,
    }
    .map(Some)
    .ok_or_else(|| Rejection::IdFrom(format!("{}.{property}", entity.key.kind())))
}

fn id_of(
    entity: &Entity,
    kind: &Kind,
    mapping: &Mapping,
    ids: &impl Ids,
) -> Result<NewId, Rejection> {
    let given = id_from(entity, kind)?;
    let path = path_of(&entity.key);
    let id = ids.id(Fingerprint::of(&path));
    let id = id.ok_or_else(|| match mapping.gives_ids_on(&entity.key) {
        true => Rejection::NoId(path.clone()),
        false => Rejection::BelowNoId,
    })?;
    match given.is_some_and(|given| given != id) {
        true => Err(Rejection::OtherId(path, id.to_string())),
        false => Ok(id),
    }
}

struct Conversion<'a, I> {
    kind: &'a Kind,
    resolver: Resolver<'a, I>,
    looks_like_ids: Vec<String>,
    as_mapped: Vec<(String, &'static str)>,
    references: Vec<Refers>,
}

impl<I: Ids> Conversion<'_, I> {
    fn account(&self, field: &str) -> Result<Json, Rejection> {
        let Resolver {
            own: key,
            mapping,
            ids,
        } = self.resolver;
        let is_account = |step: &Step| step.kind == mapping.account_kind;
        let depth = key.path.iter().position(is_account);
        let depth = depth.ok_or_else(|| Rejection::NoAccount(path_of(key), field.to_owned()))?;
        let mut account = key.clone();
        account.path.truncate(depth + 1);
        let path = path_of(&account);
        match ids.id(Fingerprint::of(&path)) {
            Some(id) => Ok(Json::Text(id.to_string())),
            None => Err(Rejection::Dangling(self.named(field), path)),
        }
    }

    /// A reference, which is noted where it names an entity.
    fn refer(&mut self, at: &str, value: &Value, reference: &Reference) -> Result<Json, Rejection> {
        let refers = match self.resolver.resolve(self.named(at), value, reference)? {
            Named::Entity(refers) => refers,
            Named::Nothing => return Ok(Json::Null),
            Named::Null => {
                self.as_mapped.push((self.named(at), NULL));
                return Ok(Json::Null);
            }
            Named::AsItIs => {
                self.as_mapped.push((self.named(at), KEPT));
                return self.plain(at, value);
            }
        };
        let id = Json::Text(refers.id.to_string());
        // An account is moved by another command: that it has an id is all that is known of it.
        if self.resolver.mapping.is_moved(&refers.kind) {
            self.references.push(refers);
        }
        Ok(id)
    }

    fn named(&self, at: &str) -> String {
        format!("{}.{at}", self.resolver.own.kind())
    }

    /// `at` is the path of old names with dots.
    fn value(&mut self, at: &str, value: &Value) -> Result<Json, Rejection> {
        if let Value::Array(values) = value {
            let values = values.iter().map(|value| self.value(at, value));
            return Ok(Json::Array(values.collect::<Result<_, _>>()?));
        }
        if let Some(reference) = self.kind.references.get(at) {
            return self.refer(at, value, reference);
        }
        if self.resolver.looks_like_id(value) {
            self.looks_like_ids.push(self.named(at));
        }
        self.plain(at, value)
    }

    /// A value that is no reference.
    fn plain(&mut self, at: &str, value: &Value) -> Result<Json, Rejection> {
        Ok(match value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Integer(value) => Json::Integer(*value),
            Value::Double(value) => self.number(at, *value)?,
            Value::Timestamp(microseconds) => {
                let time = time(*microseconds);
                Json::Text(time.ok_or_else(|| Rejection::TimeOutOfRange(self.named(at)))?)
            }
            Value::Text(text) => Json::Text(text.clone()),
            Value::Blob(bytes) => Json::Text(STANDARD.encode(bytes)),
            Value::Key(_) => return Err(Rejection::UndeclaredKey(self.named(at))),
            Value::Point {
                latitude,
                longitude,
            } => Json::Object(vec![
                ("latitude".to_owned(), self.number(at, *latitude)?),
                ("longitude".to_owned(), self.number(at, *longitude)?),
            ]),
            Value::Entity(members) => {
                let mut object = Vec::with_capacity(members.len());
                for (name, value) in members {
                    object.push((name.clone(), self.value(&format!("{at}.{name}"), value)?));
                }
                Json::Object(object)
            }
            Value::Array(_) => unreachable!("arrays are above"),
        })
    }

    fn number(&self, at: &str, value: f64) -> Result<Json, Rejection> {
        match (value.is_finite(), self.kind.not_a_number) {
            (true, _) => Ok(Json::Double(value)),
            (false, NotANumber::Null) => Ok(Json::Null),
            (false, NotANumber::Reject) => Err(Rejection::NotANumber(self.named(at))),
        }
    }
}

/// A time as the API writes it: Python's `isoformat` of a time in UTC.
fn time(microseconds: i64) -> Option<String> {
    let since = SignedDuration::from_micros(microseconds);
    let time = EPOCH.checked_add(since).ok()?;
    let text = time.to_string();
    if time.year() < 1 {
        return None;
    }
    // Six digits, or none.
    let text = match text.split_once('.') {
        Some((seconds, fraction)) => format!("{seconds}.{fraction:0<6}"),
        None => text,
    };
    Some(format!("{text}+00:00"))
}

#[cfg(test)]
mod tests;
