//! The tables of `docs/capacity.md`.

use super::{estimates, runs, scale};

/// A table of the page.
pub struct Section {
    /// What the page calls it.
    pub name: &'static str,
    /// The table, as Markdown.
    pub table: String,
}

/// All tables, in the order of the page.
pub fn sections() -> Vec<Section> {
    [
        ("needed", estimates::needed as fn() -> String),
        ("drained", estimates::drained),
        ("sizes", estimates::sizes),
        ("partitions", scale::partitions),
        ("settings", scale::settings),
        ("idle", estimates::idle),
        ("drains", runs::drains),
        ("trickles", runs::trickles),
        ("constants", estimates::constants),
    ]
    .map(|(name, table)| Section {
        name,
        table: table(),
    })
    .into()
}

/// A Markdown table.
pub(super) fn markdown(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rows = rows.iter().map(|row| line(row));
    let under = "|---".repeat(head.len());
    format!("{}{under}|\n{}", line(&head), rows.collect::<String>())
}

/// A number to so many digits that count, with commas.
pub(super) fn digits(value: f64, count: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let places = value.abs().log10().floor() as i32 + 1;
    let unit = 10_f64.powi(places - count);
    let rounded = (value / unit).round() * unit;
    if rounded < 10_f64.powi(count - 1) {
        let decimals = usize::try_from(count - places).unwrap_or(0);
        return format!("{rounded:.decimals$}");
    }
    whole(rounded)
}

/// A number to two digits that count.
pub(super) fn short(value: f64) -> String {
    digits(value, 2)
}

/// A whole number, with commas.
pub(super) fn whole(value: f64) -> String {
    let plain = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// From what the quick machine needs to what the slow one does.
pub(super) fn range(values: [f64; 2], shown: fn(f64) -> String) -> String {
    match values.map(shown) {
        [quick, slow] if quick == slow => quick,
        [quick, slow] => format!("{quick} – {slow}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_as_many_digits_as_count() {
        for (value, expected) in [
            (0.0, "0"),
            (0.0444, "0.044"),
            (0.96, "0.96"),
            (1.0, "1.0"),
            (9.96, "10"),
            (12.4, "12"),
            (999.0, "1,000"),
            (74_321.0, "74,000"),
            (1_000_000.0, "1,000,000"),
        ] {
            assert_eq!(short(value), expected);
        }
        assert_eq!(digits(9_705.0, 3), "9,710");
        assert_eq!(digits(7.04, 3), "7.04");
    }
}
