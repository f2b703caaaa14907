//! `discard`: letters that nobody will apply.

use std::io::Write;

use bson::doc;
use mongodb::options::WriteConcern;
use serde_json::json;

use super::super::print_json;
use super::filter::matching;
use super::{Letters, list};
use crate::cli::{LetterFilter, LetterGrouping, LetterState};
use crate::commands::text::letters;
use crate::writer::dead_letter::{DISCARDED, closed};

/// Gives the open letters up that match, or shows how many these are.
pub(super) async fn discard(
    of_group: &Letters,
    filter: &LetterFilter,
    why: &str,
    (yes, json): (bool, bool),
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let query = matching(&of_group.group, filter, LetterState::Open);
    if !yes {
        let count = of_group.collection.count_documents(query.clone()).await?;
        if count == 0 && !json {
            return Ok(writeln!(out, "{}", of_group.none().await?)?);
        }
        if !json {
            list::count(of_group, query, LetterGrouping::Reason, false, out).await?;
        }
        return print(count, false, json, out);
    }
    let set = doc! { "$set": { "state": DISCARDED, "closed": closed(why) } };
    let update = of_group.collection.update_many(query, set);
    let updated = update.write_concern(WriteConcern::majority()).await?;
    print(updated.modified_count, true, json, out)
}

/// Says how many letters were given up, or would be.
pub(super) fn print(
    count: u64,
    is_done: bool,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if json {
        let name = if is_done {
            "discarded"
        } else {
            "would_discard"
        };
        return Ok(print_json(out, &json!({ name: count }))?);
    }
    let count = letters(count as i64);
    match is_done {
        true => writeln!(out, "{count} discarded")?,
        false => writeln!(out, "{count} would be discarded; do it with --yes")?,
    }
    Ok(())
}
