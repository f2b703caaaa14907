//! `summary`: the letters of a group on one screen.

use std::io::{self, Write};

use bson::{Bson, Document, doc};
use serde_json::{Value, json};

use super::super::{or_dash, print_json, print_table};
use super::list::place;
use super::{Letters, count_of};
use crate::commands::text::{bson_json, cut, one_line, plain, thousands};
use crate::writer::dead_letter::{DISCARDED, OPEN, REPLAYED};

/// How many rows are shown, so that they fit a screen.
const ROWS_MAX: usize = 15;

/// How much of a kind is shown, in characters.
const KIND_CHARS_MAX: usize = 30;

/// Counts the group's letters, and prints the counts.
pub(super) async fn summary(
    of_group: &Letters,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let key = doc! {
        "state": { "$ifNull": ["$state", OPEN] }, "reason": "$reason", "kind": "$detail.kind",
    };
    let pipeline = [
        doc! { "$match": { "_id.group": &of_group.group } },
        doc! { "$sort": { "rejected_at": 1, "_id": 1 } },
        doc! { "$group": {
            "_id": key,
            "letters": { "$sum": 1_i64 },
            "first": { "$first": "$rejected_at" },
            "last": { "$last": "$rejected_at" },
            "oldest": { "$first": "$_id" },
            "newest": { "$last": "$_id" },
        } },
        doc! { "$sort": { "letters": -1, "_id": 1 } },
    ];
    let counts = of_group.aggregate(pipeline).await?;
    if counts.is_empty() && !json {
        return Ok(writeln!(out, "{}", of_group.none().await?)?);
    }
    print(&of_group.group, &counts, json, out)
}

/// Prints the counts of a group, one document for each state, reason and kind.
pub(super) fn print(
    group: &str,
    counts: &[Document],
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let is = |count: &Document, state: &str| {
        part(count, "state").is_some_and(|found| found.as_str() == Some(state))
    };
    let sum = |state: &str| -> i64 {
        let counts = counts.iter().filter(|count| is(count, state));
        counts.map(|count| count_of(count.get("letters"))).sum()
    };
    let open: Vec<&Document> = counts.iter().filter(|count| is(count, OPEN)).collect();
    let oldest = open
        .iter()
        .min_by_key(|count| count.get_datetime("first").ok());
    let newest = open
        .iter()
        .max_by_key(|count| count.get_datetime("last").ok());
    let ends = [
        ("oldest", oldest.copied(), "first"),
        ("newest", newest.copied(), "last"),
    ];
    if json {
        let mut summary = json!({
            "group": group,
            "open": sum(OPEN),
            "replayed": sum(REPLAYED),
            "discarded": sum(DISCARDED),
            "by": open.iter().map(|count| row_json(count)).collect::<Vec<_>>(),
        });
        for (name, count, time) in ends {
            summary[name] = count.map_or(Value::Null, |count| {
                json!({
                    "rejected_at": count.get(time).map(bson_json),
                    "_id": count.get(name).map(bson_json),
                })
            });
        }
        return Ok(print_json(out, &summary)?);
    }
    writeln!(
        out,
        "group {}: {} open, {} replayed, {} discarded",
        one_line(group),
        thousands(sum(OPEN)),
        thousands(sum(REPLAYED)),
        thousands(sum(DISCARDED))
    )?;
    if open.is_empty() {
        return Ok(());
    }
    print_rows(&open, out)?;
    for (name, count, time) in ends {
        let Some(count) = count else { continue };
        let time = or_dash(count.get(time).map(plain));
        let at = count.get_document(name);
        let at = at.map_or_else(|_| "-".to_owned(), place);
        writeln!(out, "{name}  {time}  {at}")?;
    }
    Ok(())
}

/// A part of what a count is of.
fn part(count: &Document, name: &str) -> Option<Bson> {
    let key = count.get_document("_id").ok()?;
    key.get(name).cloned()
}

fn row_json(count: &Document) -> Value {
    json!({
        "reason": part(count, "reason").as_ref().map(bson_json),
        "kind": part(count, "kind").as_ref().map(bson_json),
        "letters": count_of(count.get("letters")),
        "first": count.get("first").map(bson_json),
        "last": count.get("last").map(bson_json),
    })
}

fn print_rows(open: &[&Document], out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    let rows = open.iter().take(ROWS_MAX).map(|count| {
        let kind = or_dash(part(count, "kind").as_ref().map(plain));
        vec![
            or_dash(part(count, "reason").as_ref().map(plain)),
            cut(&one_line(&kind), KIND_CHARS_MAX),
            thousands(count_of(count.get("letters"))),
            or_dash(count.get("first").map(plain)),
            or_dash(count.get("last").map(plain)),
        ]
    });
    let header = ["open by reason", "kind", "letters", "first", "last"];
    print_table(out, &header, &["letters"], rows)?;
    if open.len() > ROWS_MAX {
        let rest = open.len() - ROWS_MAX;
        writeln!(out, "… and {rest} more; all with `list --by kind`")?;
    }
    writeln!(out)
}
