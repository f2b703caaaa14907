//! Lines of the mapping that match nothing in an export: most are a name that is misspelt.

use std::collections::BTreeMap;

use anyhow::Result;
use datastore_export::{Entity, Value};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::mapping::{Kind, Mapping};

/// What the platform's API gives every entity: a default may add it though no old entity has it.
const OF_EVERY_ENTITY: [&str; 8] = [
    "account",
    "annotations",
    "creationTime",
    "labels",
    "lastTransitionTime",
    "reason",
    "schemaVersion",
    "status",
];

/// A line that matches nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unmatched {
    /// The mapping's file, or that it is the one that is compiled in.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is not there.
    pub reason: String,
}

/// The lines that no entity has matched yet.
#[derive(Debug)]
pub struct Watch {
    file: String,
    kinds: BTreeMap<String, OfKind>,
}

#[derive(Debug)]
struct OfKind {
    line: usize,
    is_met: bool,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    number: usize,
    /// Such as `drop`.
    of: &'static str,
    name: String,
    /// The properties that it is about, as paths of old names; one of them is enough.
    properties: Vec<String>,
}

/// The mapping's text as it is watched: names with their places.
#[derive(Deserialize)]
struct Text {
    kinds: BTreeMap<Spanned<String>, TextOfKind>,
    accounts: TextOfAccounts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TextOfKind {
    rename: BTreeMap<Spanned<String>, IgnoredAny>,
    defaults: BTreeMap<Spanned<String>, IgnoredAny>,
    drop: Vec<Spanned<String>>,
    references: BTreeMap<Spanned<String>, IgnoredAny>,
}

#[derive(Deserialize)]
struct TextOfAccounts {
    name: Option<Spanned<String>>,
    creation_time: Option<Spanned<String>>,
    keys: Option<Spanned<String>>,
    key_kind: Option<Spanned<String>>,
    #[serde(default)]
    references: BTreeMap<Spanned<String>, IgnoredAny>,
}

impl Watch {
    /// Watches the lines of a mapping.
    ///
    /// # Errors
    /// Where its text is no TOML.
    pub fn new(mapping: &Mapping) -> Result<Watch> {
        let text: Text = toml::from_str(&mapping.text)?;
        let kinds = text.kinds.into_iter().map(|(name, text)| {
            let kind = &mapping.kinds[name.as_ref()];
            let lines = lines(text, kind, &mapping.text);
            let of_kind = OfKind {
                line: number(&name, &mapping.text),
                is_met: false,
                // The rest of such a kind is ignored.
                lines: if kind.left_out.is_none() {
                    lines
                } else {
                    vec![]
                },
            };
            (name.into_inner(), of_kind)
        });
        Ok(Watch {
            kinds: kinds.collect(),
            file: mapping.name.clone(),
        })
    }

    /// Notes an entity, whatever becomes of it.
    pub fn meet(&mut self, entity: &Entity) {
        if let Some(kind) = self.kinds.get_mut(entity.key.kind()) {
            kind.is_met = true;
            kind.lines.retain(|line| !line.is_met_by(entity));
        }
    }

    /// The lines that are left.
    pub fn unmatched(&self) -> Vec<Unmatched> {
        let mut unmatched = Vec::new();
        let mut tell = |line, reason| {
            let file = self.file.clone();
            unmatched.push(Unmatched { file, line, reason });
        };
        for (name, kind) in &self.kinds {
            if !kind.is_met {
                tell(
                    kind.line,
                    format!("kinds.{name}: no entity is of this kind"),
                );
                continue;
            }
            for line in &kind.lines {
                let (of, property) = (line.of, &line.name);
                let so = match of {
                    "defaults" => ", so that each gets it",
                    _ => "",
                };
                let why = format!("kinds.{name}.{of}: no {name} has a property `{property}`{so}");
                tell(line.number, why);
            }
        }
        unmatched.sort_by_key(|unmatched| unmatched.line);
        unmatched
    }
}

impl Line {
    fn is_met_by(&self, entity: &Entity) -> bool {
        self.properties.iter().any(|name| match self.of {
            "references" => has(&entity.properties, name),
            // Only whole properties are renamed, dropped or lacking; a name may hold dots.
            _ => entity.get(name).is_some(),
        })
    }
}

/// The lines about accounts that none has matched yet.
#[derive(Debug)]
pub struct WatchOfAccounts<'a> {
    mapping: &'a Mapping,
    /// Whether there was an account.
    pub is_met: bool,
    /// Whether an account had keys in it.
    has_embedded: bool,
    /// Whether a key was an entity.
    has_entities: bool,
    lines: Vec<Line>,
}

impl WatchOfAccounts<'_> {
    /// Watches what a mapping says of accounts and their keys.
    ///
    /// # Errors
    /// As [`Watch::new`].
    pub fn new(mapping: &Mapping) -> Result<WatchOfAccounts<'_>> {
        let text = toml::from_str::<Text>(&mapping.text)?.accounts;
        let keys = mapping.accounts.keys.as_deref().unwrap_or_default();
        let line = |of, name: Spanned<String>| Line {
            number: number(&name, &mapping.text),
            of,
            properties: match of {
                "references" => vec![format!("{keys}.{}", name.as_ref())],
                _ => vec![name.as_ref().clone()],
            },
            name: name.into_inner(),
        };
        let name = text.name.map(|name| line("name", name));
        let created = text.creation_time.map(|name| line("creation_time", name));
        let of_keys = text.keys.map(|name| line("keys", name));
        let of_key_kind = text.key_kind.map(|name| line("key_kind", name));
        let references = text.references.into_keys();
        let references = references.map(|name| line("references", name));
        Ok(WatchOfAccounts {
            mapping,
            is_met: false,
            has_embedded: false,
            has_entities: false,
            lines: (name
                .into_iter()
                .chain(created)
                .chain(of_keys)
                .chain(of_key_kind))
            .chain(references)
            .collect(),
        })
    }

    /// Notes an entity, whatever becomes of it.
    pub fn meet(&mut self, entity: &Entity) {
        let names = &self.mapping.accounts;
        if entity.key.kind() == names.kind {
            self.is_met = true;
            let keys = names.keys.as_deref().and_then(|keys| entity.get(keys));
            self.has_embedded |= matches!(keys, Some(Value::Array(keys)) if !keys.is_empty());
            // A property may have the name of that kind.
            let is_met = |line: &Line| line.of != "key_kind" && line.is_met_by(entity);
            self.lines.retain(|line| !is_met(line));
        } else if names.is_key(entity.key.kind()) {
            self.has_entities = true;
            let is_met = |line: &Line| match line.of {
                "key_kind" => true,
                "references" => has(&entity.properties, &line.name),
                _ => false,
            };
            self.lines.retain(|line| !is_met(line));
        }
    }

    /// Whether a line is left without which accounts may lack something. Keys are within accounts, or
    /// entities: where there are the one, the line about the other is told, and may be left.
    pub fn is_lacking(&self) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| match line.of {
            "keys" => !self.has_entities,
            "key_kind" => !self.has_embedded,
            _ => true,
        })
    }

    /// The lines that are left.
    pub fn unmatched(&self) -> Vec<Unmatched> {
        let kind = &self.mapping.accounts.kind;
        let lines = self.lines.iter().map(|line| {
            let (of, name) = (line.of, &line.name);
            let why = match of {
                "references" => "no API key has a member",
                "key_kind" => "no entity is of this kind,",
                _ => &format!("no {kind} has a property"),
            };
            Unmatched {
                file: self.mapping.name.clone(),
                line: line.number,
                reason: format!("accounts.{of}: {why} `{name}`"),
            }
        });
        let mut unmatched: Vec<Unmatched> = lines.collect();
        unmatched.sort_by_key(|unmatched| unmatched.line);
        unmatched
    }
}

fn lines(text: TextOfKind, kind: &Kind, all: &str) -> Vec<Line> {
    let line = |of, name: Spanned<String>| {
        let number = number(&name, all);
        let name = name.into_inner();
        let mut properties = vec![name.clone()];
        if of == "defaults" {
            // A default is for a field by its new name.
            let renamed = kind.rename.iter().filter(|(_, new)| **new == name);
            properties.extend(renamed.map(|(old, _)| old.clone()));
        }
        Line {
            number,
            of,
            name,
            properties,
        }
    };
    let is_odd = |name: &Spanned<String>| !OF_EVERY_ENTITY.contains(&name.as_ref().as_str());
    let renamed = text.rename.into_keys().map(|name| line("rename", name));
    let defaults = text.defaults.into_keys().filter(is_odd);
    let defaults = defaults.map(|name| line("defaults", name));
    let dropped = text.drop.into_iter().map(|name| line("drop", name));
    let references = text.references.into_keys();
    let references = references.map(|name| line("references", name));
    (renamed.chain(defaults).chain(dropped))
        .chain(references)
        .collect()
}

/// The number of the line in which a name stands.
fn number(name: &Spanned<String>, text: &str) -> usize {
    let before = text.as_bytes().iter().take(name.span().start);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// Whether there is a property at a path of names with dots, also within arrays.
fn has(members: &[(String, Value)], path: &str) -> bool {
    members.iter().any(|(name, value)| {
        path == name
            || (path.strip_prefix(name.as_str()))
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| is_within(value, rest))
    })
}

fn is_within(value: &Value, path: &str) -> bool {
    match value {
        Value::Entity(members) => has(members, path),
        Value::Array(values) => values.iter().any(|value| is_within(value, path)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
