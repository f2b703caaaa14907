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
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TextOfKind {
    rename: BTreeMap<Spanned<String>, IgnoredAny>,
    defaults: BTreeMap<Spanned<String>, IgnoredAny>,
    drop: Vec<Spanned<String>>,
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
            let is_there = |path: &String| has(&entity.properties, path);
            kind.lines
                .retain(|line| !line.properties.iter().any(is_there));
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
mod tests {
    use super::*;
    use crate::mapping::BUILTIN;

    const KINDS: &str = "\
account_kind = 'Account'
[kinds.A]
rename = { old = 'new', odl = 'x' }
drop = [
  'gone',
  'goen',
]
defaults = { labels = {}, new = 1, lables = {}, other = 1 }
[kinds.A.references]
'inner.b' = { kind = 'B', form = 'key' }
'inner.c' = { kind = 'B', form = 'key' }
[kinds.B]
drop = ['x']
[kinds.Out]
left_out = 'x'
drop = ['y']
";

    fn mapping() -> Mapping {
        let accounts = &BUILTIN[BUILTIN.find("[accounts]").unwrap()..];
        Mapping::parse(&format!("{KINDS}{accounts}")).unwrap()
    }

    fn entity(key: &str, properties: Vec<(&str, Value)>) -> Entity {
        let own = |(name, value): (&str, Value)| (name.to_owned(), value);
        Entity {
            key: key.parse().unwrap(),
            properties: properties.into_iter().map(own).collect(),
        }
    }

    fn told(watch: &Watch) -> Vec<String> {
        let told = watch.unmatched().into_iter();
        told.map(|one| format!("{} {}", one.line, one.reason))
            .collect()
    }

    #[test]
    fn a_line_that_matches_nothing_is_told_with_its_number() {
        let mut watch = Watch::new(&mapping()).unwrap();
        let inner = Value::Entity(vec![("b".to_owned(), Value::Null)]);
        watch.meet(&entity(
            "A:1",
            vec![
                ("old", Value::Null),
                ("gone", Value::Null),
                ("inner", Value::Array(vec![Value::Null, inner])),
            ],
        ));
        watch.meet(&entity("A:2", vec![("other", Value::Null)]));
        watch.meet(&entity("Out:1", vec![]));
        assert_eq!(
            told(&watch),
            [
                "3 kinds.A.rename: no A has a property `odl`",
                "6 kinds.A.drop: no A has a property `goen`",
                "8 kinds.A.defaults: no A has a property `lables`, so that each gets it",
                "11 kinds.A.references: no A has a property `inner.c`",
                "12 kinds.B: no entity is of this kind",
            ]
        );
    }

    #[test]
    fn the_name_of_a_property_may_hold_a_dot() {
        let mut watch = Watch::new(&mapping()).unwrap();
        let both = vec![("inner.b", Value::Null), ("inner.c", Value::Null)];
        watch.meet(&entity("A:1", both));
        let told = told(&watch);
        assert!(!told.iter().any(|line| line.contains("inner")), "{told:?}");
    }
}
