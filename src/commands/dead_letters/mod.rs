//! `dead-letters`: the records that were rejected, shown, given up, and applied after all.

mod discard;
mod filter;
mod list;
mod replay;
mod show;
mod summary;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal as _, Write, stdout};

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Collection;

pub(in crate::commands) use self::filter::matching;
pub(in crate::commands) use self::list::{listed, print_list};
use super::text::{one_line, thousands};
use crate::cli::DeadLetters;
use crate::config::Config;
use crate::database::{self, values::number};
use crate::writer::dead_letter::{COLLECTION, OPEN, is_open};

/// The most groups that a message names.
const GROUPS_NAMED_MAX: usize = 5;

/// Executes a command, and prints its result.
///
/// # Errors
/// The driver's or the server's; a letter that does not exist; a filter that is missing.
pub async fn execute(
    config: &Config,
    command: DeadLetters,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    // before a server is waited for
    let after = match &command {
        DeadLetters::List {
            after: Some(after), ..
        } => Some(filter::read_cursor(after)?),
        _ => None,
    };
    let database = database::open(&config.mongodb).await?;
    let letters = Letters {
        collection: database.collection(COLLECTION),
        group: config.kafka.group.clone(),
    };
    match command {
        DeadLetters::List {
            filter,
            state,
            by,
            limit,
            json,
            ..
        } => {
            let filter = matching(&letters.group, &filter, state);
            match by {
                Some(by) => list::count(&letters, filter, by, json, out).await,
                None => list::list(&letters, filter, after, limit, json, out).await,
            }
        }
        DeadLetters::Summary { json } => summary::summary(&letters, json, out).await,
        DeadLetters::Show {
            topic,
            partition,
            offset,
            json,
        } => {
            let found = letters.at(&topic, partition, offset).await?;
            show::print(&found, json, stdout().is_terminal(), out)
        }
        DeadLetters::Discard {
            filter,
            why,
            yes,
            json,
            ..
        } => discard::discard(&letters, &filter, &why, (yes, json), out).await,
        DeadLetters::Replay {
            filter,
            yes,
            rate,
            json,
        } => {
            let options = replay::ReplayOptions { yes, rate, json };
            replay::replay(config, &database, &letters, &filter, &options, out).await
        }
    }
}

/// The letters of one group.
struct Letters {
    collection: Collection<Document>,
    group: String,
}

impl Letters {
    /// The letters of one offset: there may be one for each topic of that name.
    async fn at(&self, topic: &str, partition: i32, offset: i64) -> anyhow::Result<Vec<Document>> {
        let filter = doc! {
            "_id.group": &self.group,
            "_id.topic": topic,
            "_id.partition": partition,
            "_id.offset": offset,
        };
        let found: Vec<Document> = self.collection.find(filter).await?.try_collect().await?;
        if found.is_empty() {
            let place = format!("{topic}[{partition}] offset {offset}");
            let group = &self.group;
            let all = self.none().await?;
            anyhow::bail!("the group {group} has no dead letter at {place}: {all}");
        }
        Ok(found)
    }

    async fn aggregate(
        &self,
        pipeline: impl IntoIterator<Item = Document>,
    ) -> mongodb::error::Result<Vec<Document>> {
        self.collection
            .aggregate(pipeline)
            .await?
            .try_collect()
            .await
    }

    /// What to say where no letter matches: what the group has, and where it has none, which groups
    /// have some.
    async fn none(&self) -> anyhow::Result<String> {
        let state = doc! { "$ifNull": ["$state", OPEN] };
        let of_group = [
            doc! { "$match": { "_id.group": &self.group } },
            doc! { "$sortByCount": state },
        ];
        let of_group = self.aggregate(of_group).await?;
        if !of_group.is_empty() {
            let counts = counts(&of_group, |count, state| format!("{count} {state}"));
            return Ok(format!(
                "no dead letters match; the group {} has {counts}",
                self.group
            ));
        }
        let others = self
            .aggregate([
                doc! { "$match": { "state": is_open() } },
                doc! { "$sortByCount": "$_id.group" },
            ])
            .await?;
        let others = match others.is_empty() {
            true => String::new(),
            false => format!(
                "; {}",
                counts(&others, |count, group| format!(
                    "{count} open for group {group}"
                ))
            ),
        };
        Ok(format!("no dead letters for group {}{others}", self.group))
    }
}

fn counts(found: &[Document], shown: impl Fn(&str, &str) -> String) -> String {
    let one = |found: &Document| {
        let count = thousands(count_of(found.get("count")));
        shown(&count, &one_line(found.get_str("_id").unwrap_or("?")))
    };
    let mut named: Vec<String> = found.iter().take(GROUPS_NAMED_MAX).map(one).collect();
    if found.len() > GROUPS_NAMED_MAX {
        named.push("…".to_owned());
    }
    named.join(", ")
}

/// A count that the server gives; 0 for what is none.
fn count_of(value: Option<&Bson>) -> i64 {
    number(value).unwrap_or(0)
}
