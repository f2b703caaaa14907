//! The checker, checked on made-up histories.

mod compacted;
mod corruptions;
mod health;
mod lineages;
mod properties;
mod sink;

use super::{Evidence, Rule, check};

/// That nothing is found.
fn accepted(evidence: &Evidence) {
    let found = check(evidence);
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{}", shown.join("\n"));
}

/// That a fault is found by this rule; what was found.
fn found(evidence: &Evidence, rule: Rule) -> String {
    let found = check(evidence);
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    let shown = shown.join("\n");
    assert!(
        found.iter().any(|v| v.rule == rule),
        "no {rule:?} in:\n{shown}"
    );
    shown
}
