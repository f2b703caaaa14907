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
    if changes.iter().all(|(_, kinds, _)| kinds.is_empty()) {
        report.good(
            "mapping",
            "the other mapping routes every kind as the one in use does",
        );
    }
    for (does, kinds, remedy) in changes.iter().filter(|(_, kinds, _)| !kinds.is_empty()) {
        let what = format!("the other mapping {does} {}", listed(kinds));
        report.warn("mapping", what, *remedy);
    }
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
        let mut out = Vec::new();
        mappings(&builtin, &other, true, &mut out).unwrap();
        assert_schema("mapping check", &[out], &[]);
    }
}
