//! The commands besides `run`: they show and repair what `run` keeps in MongoDB, and what it logs
//! in with.

pub mod admin;
pub mod check;
pub mod dead_letters;
pub mod explain;
pub mod offsets;
pub mod output;
mod progress;
#[cfg(test)]
mod schema;
pub mod settings;
pub mod status;
mod text;
pub mod verbose;

use std::io::{self, Write};

use bson::DateTime;
use comfy_table::{CellAlignment, Table, presets};
use jiff::Timestamp;
use serde_json::Value;

use self::text::one_line;

/// What a command found is not as it should be: it has said so, and its exit code is 1.
#[derive(Debug, thiserror::Error)]
#[error("not healthy")]
pub struct NotHealthy;

/// Prints rows under a header, for people. The columns named in `right` hold numbers.
fn print_table(
    out: &mut impl Write,
    header: &[&str],
    right: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> io::Result<()> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)));
    }
    for (column, name) in table.column_iter_mut().zip(header) {
        if right.contains(name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(out, "{}", table.trim_fmt())
}

fn print_json(out: &mut impl Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// A time in UTC, with milliseconds.
fn shown(time: DateTime) -> String {
    shown_ms(time.timestamp_millis())
}

/// A time in milliseconds since 1970, as [`shown`] has it.
fn shown_ms(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{ms} ms since 1970"),
    }
}

/// A cell for a value that may be absent.
fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_decimals_whatever_they_are() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_500, "1970-01-01T00:00:01.500Z"),
            (1_512, "1970-01-01T00:00:01.512Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (i64::MAX, "9223372036854775807 ms since 1970"),
        ] {
            assert_eq!(shown_ms(ms), text);
            assert_eq!(shown(DateTime::from_millis(ms)), text);
        }
    }

    #[test]
    fn a_table_has_its_numbers_on_the_right_and_no_control_characters() {
        let mut out = Vec::new();
        let rows = [
            vec!["a\x1b[31m".to_owned(), "7".to_owned()],
            vec!["b".to_owned(), "1234".to_owned()],
        ];
        print_table(&mut out, &["topic", "lag"], &["lag"], rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                " topic         lag",
                " a\\u{1b}[31m     7",
                " b            1234"
            ]
        );
    }
}
