//! `offsets forget`: the checkpoints of another group go.

use std::io::Write;

use anyhow::{Context as _, ensure};
use mongodb::Database;
use serde_json::json;

use super::{partitions, stopped};
use crate::checkpoint::{count_checkpoints, forget_checkpoints};
use crate::commands::print_json;
use crate::config::Kafka;
use crate::kafka::broker::Broker;

/// Removes the checkpoints that `group` has of the configured topics; without `yes` it counts them.
///
/// # Errors
/// Where it is the configured group or has members, or a server does not answer.
pub(super) async fn execute(
    database: &Database,
    kafka: &Kafka,
    group: String,
    yes: bool,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    ensure!(
        group != kafka.group,
        "{group} is the group of this configuration, which continues from its checkpoints: \
         `offsets reset` moves them"
    );
    let other = kafka.of_group(group);
    let broker = Broker::new(&other)?;
    stopped(&broker.members()?, &other.group)?;
    let checkpoints = match yes {
        true => {
            // Members of group.protocol=consumer are not listed, but their group takes no commit.
            let partitions = partitions(&other, None).await?;
            (broker.commit_again(&partitions)).with_context(|| still_in_use(&other.group))?;
            forget_checkpoints(database, &other.group, &other.topics).await?
        }
        false => count_checkpoints(database, &other.group, &other.topics).await?,
    };
    print_forgotten(&other.group, checkpoints, yes, json, out)
}

fn still_in_use(group: &str) -> String {
    format!("the group {group} does not take a commit: if it has members, stop that service first")
}

fn print_forgotten(
    group: &str,
    checkpoints: u64,
    done: bool,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if json {
        let forgotten = json!({ "group": group, "checkpoints": checkpoints, "done": done });
        return Ok(print_json(out, &forgotten)?);
    }
    let what = format!("{checkpoints} checkpoint(s) of the group {group}");
    match (checkpoints, done) {
        (0, _) => writeln!(out, "nothing to do: there are {what}")?,
        (_, true) => writeln!(out, "removed {what}")?,
        (_, false) => writeln!(
            out,
            "would remove {what}\nnothing was changed; add --yes to do it"
        )?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::schema::assert_schema;

    #[test]
    fn what_is_forgotten_is_said_with_its_group() {
        let text = |checkpoints, done, json| {
            let mut out = Vec::new();
            print_forgotten("other", checkpoints, done, json, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        for (checkpoints, done, name) in [
            (0, true, "nothing_to_forget"),
            (12, false, "would_forget"),
            (12, true, "forgotten"),
        ] {
            insta::assert_snapshot!(name, text(checkpoints, done, false));
        }
        assert_schema("offsets forget", &[text(12, true, true)], &[]);
    }
}
