//! The mapping of kinds to collections: what it has, and what another one would change.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Report;
use crate::record::mapping::Mapping;

/// How many kinds a line names.
const KINDS_MAX: usize = 8;

pub(super) fn check(in_use: &Mapping, other: Option<&Mapping>, report: &mut Report) {
    let kinds = kinds(in_use);
    report.good(
        "mapping",
        format!(
            "{} kinds go into {} collections",
            kinds.len(),
            kinds.values().collect::<BTreeSet<_>>().len()
        ),
    );
    let Some(other) = other else {
        return;
    };
    let others = self::kinds(other);
    let only = |some: &BTreeMap<&str, &str>, in_others: &BTreeMap<&str, &str>| -> Vec<String> {
        let missing = some
            .iter()
            .filter(|(kind, _)| !in_others.contains_key(**kind));
        missing
            .map(|(kind, collection)| format!("{kind} ({collection})"))
            .collect()
    };
    let (added, removed) = (only(&others, &kinds), only(&kinds, &others));
    let moved: Vec<String> = (kinds.iter())
        .filter_map(|(kind, from)| {
            let to = others.get(kind).filter(|to| *to != from)?;
            Some(format!("{kind} from {from} to {to}"))
        })
        .collect();
    let changes = [
        (
            "adds",
            added,
            "replay the dead letters of these kinds once it is in use",
        ),
        (
            "no longer has",
            removed,
            "their records become dead letters (unknown_kind)",
        ),
        (
            "moves",
            moved,
            "documents that are there stay in the old collection, unless it is listed in \
             former_collections: docs/operations.md, Changing the mapping",
        ),
    ];
    let rules = rules_changed(in_use, other);
    if rules.is_empty() && changes.iter().all(|(_, kinds, _)| kinds.is_empty()) {
        report.good("mapping", "the other mapping does what the one in use does");
    }
    for (what, remedy) in rules {
        report.warn("mapping", what, remedy);
    }
    for (does, kinds, remedy) in changes.iter().filter(|(_, kinds, _)| !kinds.is_empty()) {
        let what = format!("the other mapping {does} {}", listed(kinds));
        report.warn("mapping", what, *remedy);
    }
}

/// What another mapping would change beside the collections: each with what that comes to.
fn rules_changed(in_use: &Mapping, other: &Mapping) -> Vec<(String, &'static str)> {
    let names = |names: &mut dyn Iterator<Item = &str>| {
        let names: BTreeSet<&str> = names.collect();
        Vec::from_iter(names).join(", ")
    };
    let of = |mapping: &Mapping| {
        [
            mapping.id().to_owned(),
            mapping.kind().to_owned(),
            names(&mut mapping.maps().iter().map(String::as_str)),
            names(&mut mapping.skipped_ids()),
            names(&mut mapping.former_collections()),
        ]
    };
    let rules = [
        ("id", "an entity's id is read from another field"),
        ("kind", "an entity's kind is read from another field"),
        (
            "maps",
            "states that come are stored in another form; documents that are there keep theirs until \
             their next state",
        ),
        ("skipped_ids", "other entities are skipped"),
        (
            "former_collections",
            "documents are removed from other collections as their kinds change",
        ),
    ];
    let pairs = of(in_use).into_iter().zip(of(other));
    let changed = rules
        .into_iter()
        .zip(pairs)
        .filter(|(_, (was, is))| was != is);
    changed
        .map(|((name, comes_to), (was, is))| {
            let what = format!("the other mapping's `{name}` is [{is}] and not [{was}]");
            (what, comes_to)
        })
        .collect()
}

/// Kind → collection.
fn kinds(mapping: &Mapping) -> BTreeMap<&str, &str> {
    let routes = mapping.routes();
    routes
        .map(|(kind, id)| (kind, mapping.collection(id)))
        .collect()
}

fn listed(names: &[String]) -> String {
    let shown = names.len().min(KINDS_MAX);
    let more = match names.len() - shown {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", names[..shown].join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::mappings;
    use super::super::report::Mark;
    use super::*;
    use crate::commands::schema::assert_schema;

    #[test]
    fn what_another_mapping_would_change_is_named() {
        let builtin = Mapping::builtin();
        let mut report = Report::default();
        check(&builtin, Some(&Mapping::builtin()), &mut report);
        assert!(report.findings.iter().all(|found| found.mark == Mark::Good));
        let text = include_str!("../../../config/mapping.toml");
        let changed = text.replace(
            "Account = \"accounts\"",
            "Account = \"customers\"\nNew = \"news\"",
        );
        assert_ne!(text, changed);
        let other = Mapping::parse(&changed).unwrap();
        let mut report = Report::default();
        check(&builtin, Some(&other), &mut report);
        let lines: Vec<&str> = report.findings.iter().map(|found| &*found.what).collect();
        assert!(
            lines.contains(&"the other mapping adds New (news)"),
            "{lines:?}"
        );
        assert!(
            lines.contains(&"the other mapping moves Account from accounts to customers"),
            "{lines:?}"
        );
        let lacking = text.replace("maps = [\"labels\"]", "");
        assert_ne!(text, lacking);
        let mut report = Report::default();
        check(
            &builtin,
            Some(&Mapping::parse(&lacking).unwrap()),
            &mut report,
        );
        let lines: Vec<&str> = report.findings.iter().map(|found| &*found.what).collect();
        assert!(
            lines.contains(&"the other mapping's `maps` is [] and not [labels]"),
            "{lines:?}"
        );
        let print = |json| {
            let mut out = Vec::new();
            mappings(&builtin, &other, json, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        insta::assert_snapshot!("mapping_check", print(false));
        assert_schema("mapping check", &[print(true)], &[]);
    }
}
