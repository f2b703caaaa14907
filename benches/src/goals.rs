//! What must come out, and what did.

use comfy_table::{Table, presets};

use crate::figures::{Figures, short};

enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

use Goal::{AtLeast, AtMost};

/// Section, case, figure, goal.
const GOALS: [(&str, &str, &str, Goal); 31] = [
    (
        "drain",
        "12 partitions, empty",
        "service ÷ ceiling",
        AtLeast(0.95),
    ),
    (
        "drain",
        "12 partitions, existing",
        "service ÷ ceiling",
        AtLeast(0.9),
    ),
    (
        "drain",
        "12 partitions, empty, apart",
        "service ÷ ceiling",
        AtLeast(0.95),
    ),
    (
        "drain",
        "12 partitions, existing, apart",
        "service ÷ ceiling",
        AtLeast(0.9),
    ),
    (
        "drain",
        "12 partitions, empty",
        "service ÷ work-conserving bound",
        AtLeast(0.92),
    ),
    (
        "drain",
        "12 partitions, existing",
        "service ÷ work-conserving bound",
        AtLeast(0.92),
    ),
    (
        "drain",
        "12 partitions, empty, apart",
        "service ÷ work-conserving bound",
        AtLeast(0.85),
    ),
    (
        "drain",
        "12 partitions, existing, apart",
        "service ÷ work-conserving bound",
        AtLeast(0.85),
    ),
    (
        "peers",
        "routed by kind",
        "service ÷ connector",
        AtLeast(25.0),
    ),
    (
        "peers",
        "one collection",
        "service ÷ connector",
        AtLeast(8.0),
    ),
    (
        "peers",
        "one collection",
        "CPU, service ÷ connector",
        AtMost(0.05),
    ),
    (
        "cost",
        "none folds, over what is there",
        "allocations a record",
        AtMost(2.0),
    ),
    (
        "drain",
        "12 partitions, empty",
        "service's CPU a record ÷ that of the build beside it",
        AtMost(0.65),
    ),
    (
        "drain",
        "12 partitions, existing",
        "service's CPU a record ÷ that of the build beside it",
        AtMost(0.65),
    ),
    (
        "drain",
        "12 partitions, empty",
        "service's peak memory",
        AtMost(64.0),
    ),
    ("rest", "12 partitions", "memory", AtMost(20.0)),
    ("rest", "12 partitions", "CPU", AtMost(0.5)),
    (
        "freshness",
        "100/s",
        "visible p99 ÷ a transaction's p99",
        AtMost(1.3),
    ),
    (
        "freshness",
        "1000/s",
        "visible p99 ÷ a transaction's p99",
        AtMost(1.5),
    ),
    (
        "freshness",
        "5000/s",
        "visible p99 ÷ a transaction's p99",
        AtMost(2.0),
    ),
    ("standstill", "a worker leaves", "longest", AtMost(0.2)),
    ("standstill", "a worker joins", "longest", AtMost(0.4)),
    ("standstill", "a worker is replaced", "longest", AtMost(0.4)),
    ("start", "12 partitions", "ready beyond a join", AtMost(1.5)),
    (
        "start",
        "kill -9",
        "takeover beyond the session timeout",
        AtMost(0.3),
    ),
    ("scale", "192 partitions", "rate ÷ that of 12", AtLeast(0.9)),
    ("scale", "192 partitions", "peak memory", AtMost(128.0)),
    (
        "scale",
        "nested entities of 20 KB",
        "service ÷ ceiling without a broker",
        AtLeast(0.9),
    ),
    (
        "scale",
        "nested entities of 200 KB",
        "service ÷ ceiling without a broker",
        AtLeast(0.9),
    ),
    (
        "scale",
        "nested entities of 1000 KB",
        "service ÷ ceiling without a broker",
        AtLeast(0.9),
    ),
    (
        "scale",
        "nested entities of 1000 KB",
        "CPU a MB ÷ that at 20 KB",
        AtMost(1.1),
    ),
];

/// Goals beside medians.
pub fn table(figures: &Figures) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "case", "figure", "goal", "median", ""]);
    for (section, case, name, goal) in &GOALS {
        let Some(figure) = figures.get(section, case, name) else {
            continue;
        };
        let (text, met) = match goal {
            AtLeast(goal) => (format!("≥ {goal}"), figure.median() >= *goal),
            AtMost(goal) => (format!("≤ {goal}"), figure.median() <= *goal),
        };
        table.add_row([
            (*section).to_owned(),
            (*case).to_owned(),
            (*name).to_owned(),
            format!("{text} {}", figure.unit),
            short(figure.median()),
            if met { "met" } else { "missed" }.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_goals_and_no_others() {
        let page = include_str!("../../docs/benchmarks.md");
        let rows = page
            .lines()
            .skip_while(|line| !line.starts_with("| section | case | figure |"));
        let rows: Vec<String> = rows
            .skip(2)
            .map_while(|line| line.strip_prefix("| "))
            .map(|row| row.split(" | ").take(4).collect::<Vec<_>>().join(" | "))
            .collect();
        let goals = GOALS.iter().map(|(section, case, name, goal)| {
            let goal = match goal {
                AtLeast(goal) => format!("≥ {goal}"),
                AtMost(goal) => format!("≤ {goal}"),
            };
            format!("{section} | {case} | {name} | {goal}")
        });
        let goals: Vec<String> = goals.collect();
        assert_eq!(rows.len(), goals.len(), "{rows:#?}");
        for goal in goals {
            // The page names the unit too.
            let is = |row: &&String| **row == goal || row.starts_with(&format!("{goal} "));
            assert!(rows.iter().any(|row| is(&row)), "not on the page: {goal}");
        }
    }
}
