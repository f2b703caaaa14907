//! `list`: letters one a line, or counted.

use std::io::Write;

use bson::{Bson, Document, doc};
use serde_json::{Value, json};

use super::super::{or_dash, print_json, print_table};
use super::filter::Cursor;
use super::{Letters, count_of};
use crate::cli::LetterGrouping;
use crate::commands::text::{bson_json, cut, document_json, letters, one_line, plain, thousands};

/// How much of a key a list shows, in characters.
const KEY_CHARS_MAX: usize = 40;

/// How much of a kind, in characters.
const KIND_CHARS_MAX: usize = 30;

/// How many counts are shown.
const COUNTS_MAX: i64 = 1_000;

/// Lists the latest `limit` letters that match, without their values, behind `after`.
pub(super) async fn list(
    of_group: &Letters,
    filter: Document,
    after: Option<Cursor>,
    limit: u32,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let filter = match after {
        Some(after) => doc! { "$and": [filter, after.query(&of_group.group)] },
        None => filter,
    };
    let count = of_group.collection.count_documents(filter.clone());
    let pipeline = [
        doc! { "$match": filter },
        doc! { "$sort": { "rejected_at": -1, "_id": -1 } },
        doc! { "$limit": i64::from(limit) },
        doc! { "$project": listed() },
    ];
    let (all, found) = tokio::try_join!(count.into_future(), of_group.aggregate(pipeline))?;
    if found.is_empty() && !json {
        return Ok(writeln!(out, "{}", of_group.none().await?)?);
    }
    print_list(&found, all, json, out)
}

/// The fields of a letter that a list has: those but its value and headers, of which it has the
/// value's size.
pub(in crate::commands) fn listed() -> Document {
    let is_bytes = doc! { "$eq": [{ "$type": "$value" }, "binData"] };
    doc! {
        "state": 1, "reason": 1, "detail": 1, "key": 1, "timestamp": 1, "error": 1,
        "rejected_at": 1, "service_version": 1, "cut": 1, "trace_id": 1, "closed": 1,
        "value_bytes": { "$ifNull": [
            "$cut.value.bytes",
            { "$cond": [is_bytes, { "$binarySize": "$value" }, null] },
        ] },
    }
}

/// Prints letters of which there are `all` in all, from the first of these on.
pub(in crate::commands) fn print_list(
    found: &[Document],
    all: u64,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if json {
        return Ok(print_json(out, &found.iter().map(with_cursor).collect())?);
    }
    let header = [
        "topic",
        "partition",
        "offset",
        "reason",
        "kind",
        "code",
        "key",
        "bytes",
        "rejected at",
        "state",
    ];
    print_table(
        out,
        &header,
        &["partition", "offset", "code", "bytes"],
        found.iter().map(row),
    )?;
    let rest = all.saturating_sub(found.len() as u64);
    if rest > 0
        && let Some(cursor) = found.last().and_then(Cursor::behind)
    {
        writeln!(
            out,
            "\n{} more; continue with --after {cursor}",
            thousands(rest as i64)
        )?;
    }
    Ok(())
}

fn row(letter: &Document) -> Vec<String> {
    let id = letter.get_document("_id").ok();
    let part = |name: &str| or_dash(id.and_then(|id| id.get(name)).map(plain));
    let inside = |outer: &str, name: &str| {
        let outer = letter.get_document(outer).ok();
        or_dash(outer.and_then(|outer| outer.get(name)).map(plain))
    };
    let field = |name: &str| or_dash(letter.get(name).map(plain));
    vec![
        part("topic"),
        part("partition"),
        part("offset"),
        field("reason"),
        cut(&one_line(&inside("detail", "kind")), KIND_CHARS_MAX),
        inside("error", "code"),
        cut(&one_line(&field("key")), KEY_CHARS_MAX),
        field("value_bytes"),
        field("rejected_at"),
        letter.get("state").map_or_else(|| "open".to_owned(), plain),
    ]
}

fn with_cursor(letter: &Document) -> Value {
    let mut json = document_json(letter);
    json["cursor"] = json!(Cursor::behind(letter).map(|cursor| cursor.to_string()));
    json
}

/// Counts the letters that match, and prints the counts, the largest first.
pub(super) async fn count(
    of_group: &Letters,
    filter: Document,
    by: LetterGrouping,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (name, of_letter) = match by {
        LetterGrouping::Reason => ("reason", Bson::from("$reason")),
        LetterGrouping::Kind => ("kind", Bson::from("$detail.kind")),
        LetterGrouping::Code => ("code", Bson::from("$error.code")),
        LetterGrouping::Day => {
            let day = doc! { "date": "$rejected_at", "format": "%Y-%m-%d" };
            ("day", Bson::from(doc! { "$dateToString": day }))
        }
    };
    let sort = match by {
        LetterGrouping::Day => doc! { "_id": -1 },
        _ => doc! { "letters": -1, "_id": 1 },
    };
    let pipeline = [
        doc! { "$match": filter },
        doc! { "$group": {
            "_id": of_letter,
            "letters": { "$sum": 1_i64 },
            "first": { "$min": "$rejected_at" },
            "last": { "$max": "$rejected_at" },
            "example": { "$max": "$_id" },
        } },
        doc! { "$sort": sort },
        doc! { "$limit": COUNTS_MAX },
    ];
    let found = of_group.aggregate(pipeline).await?;
    if found.is_empty() && !json {
        return Ok(writeln!(out, "{}", of_group.none().await?)?);
    }
    print_counts(name, &found, json, out)
}

/// Prints counts by `name`.
pub(super) fn print_counts(
    name: &str,
    found: &[Document],
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if json {
        let count = |found: &Document| {
            json!({
                name: found.get("_id").map(bson_json),
                "letters": count_of(found.get("letters")),
                "first": found.get("first").map(bson_json),
                "last": found.get("last").map(bson_json),
                "example": found.get("example").map(bson_json),
            })
        };
        return Ok(print_json(out, &found.iter().map(count).collect())?);
    }
    let rows = found.iter().map(|found| {
        let field = |name: &str| or_dash(found.get(name).map(plain));
        vec![
            cut(&one_line(&field("_id")), KEY_CHARS_MAX),
            thousands(count_of(found.get("letters"))),
            field("first"),
            field("last"),
            found
                .get_document("example")
                .map_or_else(|_| "-".to_owned(), place),
        ]
    });
    let header = [name, "letters", "first", "last", "example"];
    print_table(out, &header, &["letters"], rows)?;
    let all = found
        .iter()
        .map(|found| count_of(found.get("letters")))
        .sum();
    Ok(writeln!(out, "\n{} in all", letters(all))?)
}

/// A letter's place, as `show` takes it.
pub(super) fn place(id: &Document) -> String {
    let part = |name: &str| or_dash(id.get(name).map(plain));
    one_line(&format!(
        "{} {} {}",
        part("topic"),
        part("partition"),
        part("offset")
    ))
}
