//! `discard`: letters that nobody will apply.

use std::io::Write;

use bson::doc;
use mongodb::options::WriteConcern;
use serde_json::{Value, json};

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
        if json {
            return Ok(print_json(out, &self::json(count, false))?);
        }
        if count > 0 {
            list::count(of_group, query, LetterGrouping::Reason, false, out).await?;
        }
        let count = letters(count as i64);
        return Ok(writeln!(
            out,
            "{count} would be discarded; do it with --yes"
        )?);
    }
    let set = doc! { "$set": { "state": DISCARDED, "closed": closed(why) } };
    let update = of_group.collection.update_many(query, set);
    let updated = update.write_concern(WriteConcern::majority()).await?;
    let count = updated.modified_count;
    match json {
        true => print_json(out, &self::json(count, true))?,
        false => writeln!(out, "{} discarded", letters(count as i64))?,
    }
    Ok(())
}

/// How many letters were given up, or would be.
pub(super) fn json(count: u64, is_done: bool) -> Value {
    match is_done {
        true => json!({ "discarded": count }),
        false => json!({ "would_discard": count }),
    }
}
