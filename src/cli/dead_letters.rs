//! `dead-letters`: the records that were rejected.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::Partitions;
use crate::record::entity::Reason;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List rejected records, the latest first, or count them
    ///
    /// Only open ones, unless --state says otherwise. The line below a list that is cut has the
    /// --after with which it continues.
    #[command(after_help = "Examples:\n  \
                  workflows-sink dead-letters list\n  \
                  workflows-sink dead-letters list --by kind\n  \
                  workflows-sink dead-letters list --reason unknown_kind --limit 1000 --json\n  \
                  workflows-sink dead-letters list --state all --key 0123abcd --since 7d")]
    List {
        /// Which letters.
        #[command(flatten)]
        filter: LetterFilter,
        /// In which state
        #[arg(long, value_enum, default_value_t = LetterState::Open)]
        state: LetterState,
        /// Count them by this, rather than list them
        #[arg(long, value_enum)]
        by: Option<LetterGrouping>,
        /// How many to list
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Continue a list behind this cursor, which the list before it has printed
        #[arg(long, value_name = "CURSOR", conflicts_with = "by")]
        after: Option<String>,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show on one screen how many there are, of which reasons and kinds, and since when
    #[command(after_help = "Example:\n  workflows-sink dead-letters summary")]
    Summary {
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show one rejected record in full, its value as it came
    #[command(
        after_help = "Example:\n  workflows-sink dead-letters show dyff.workflows.state 3 4711"
    )]
    Show {
        /// Its topic
        topic: String,
        /// Its partition
        #[arg(value_parser = clap::value_parser!(i32).range(0..))]
        partition: i32,
        /// Its offset
        #[arg(value_parser = clap::value_parser!(i64).range(0..))]
        offset: i64,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Apply open letters after all, exactly where they belong between the states of their keys
    ///
    /// Each letter is applied together with every later state of its key, by today's mapping, so
    /// that no document goes back. The service may keep running. Without --yes it only shows what
    /// it would do. May be killed and repeated at any moment. Exit code 0: each letter is applied,
    /// or, without --yes, would be as far as can be known before MongoDB is asked; 1: some are not.
    #[command(after_help = "Examples:\n  \
                  workflows-sink dead-letters replay --reason unknown_kind --kind Curve\n  \
                  workflows-sink dead-letters replay --reason unknown_kind --yes --rate 200")]
    Replay {
        /// Which letters.
        #[command(flatten)]
        filter: LetterFilter,
        /// Apply them, rather than show what would be done
        #[arg(long)]
        yes: bool,
        /// At most so many letters a second
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Give open letters up: they are kept, and count no more
    ///
    /// Needs a filter, or --all. Without --yes it only shows what it would do.
    #[command(after_help = "Examples:\n  \
                  workflows-sink dead-letters discard --key 0123abcd --why test\n  \
                  workflows-sink dead-letters discard --reason malformed_value --until \
                  2026-01-31T12:00:00Z --why ticket-4711 --yes")]
    Discard {
        /// Which letters.
        #[command(flatten)]
        filter: LetterFilter,
        /// All open letters of the group
        #[arg(long)]
        all: bool,
        /// Why, for whoever looks later
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// Give them up, rather than show what would be done
        #[arg(long)]
        yes: bool,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

/// Which letters a command is about: those that match all that is given.
#[derive(Args, Clone, Debug, Default)]
pub struct LetterFilter {
    /// Which partitions.
    #[command(flatten)]
    pub partitions: Partitions,
    /// Only those rejected for this reason
    #[arg(long, value_parser = reasons())]
    pub reason: Option<String>,
    /// Only those of entities of this kind
    #[arg(long)]
    pub kind: Option<String>,
    /// Only those that MongoDB refused with this code
    #[arg(long)]
    pub code: Option<i32>,
    /// Only those of this key
    #[arg(long)]
    pub key: Option<String>,
    /// Only those rejected since this time, such as 2026-01-31T12:00:00Z, or for so long: 90m, 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<i64>,
    /// Only those rejected before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<i64>,
}

impl LetterFilter {
    /// Whether nothing narrows it.
    pub fn is_all(&self) -> bool {
        let Partitions { topic, partition } = &self.partitions;
        topic.is_none()
            && partition.is_none()
            && self.reason.is_none()
            && self.kind.is_none()
            && self.code.is_none()
            && self.key.is_none()
            && self.since.is_none()
            && self.until.is_none()
    }
}

/// The states of letters that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LetterState {
    /// Not applied.
    Open,
    /// Applied after all.
    Replayed,
    /// Given up.
    Discarded,
    /// Any.
    All,
}

/// What letters are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LetterGrouping {
    /// Why they were rejected.
    Reason,
    /// The kind of their entities.
    Kind,
    /// MongoDB's code.
    Code,
    /// The day on which they were rejected, in UTC.
    Day,
}

fn reasons() -> clap::builder::PossibleValuesParser {
    Reason::ALL.map(Reason::as_str).into()
}

/// A time in milliseconds since 1970: itself, or how long ago it is.
fn time(text: &str) -> Result<i64, String> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let ago = UNITS.iter().find_map(|(unit, seconds)| {
        let count: u32 = text.strip_suffix(*unit)?.parse().ok()?;
        Some(Duration::from_secs(seconds * u64::from(count)))
    });
    let ago = ago.ok_or("neither a time such as 2026-01-31T12:00:00Z nor one ago, such as 90m")?;
    let ago = i64::try_from(ago.as_millis()).map_err(|_| "too long ago")?;
    Ok(jiff::Timestamp::now().as_millisecond() - ago)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_itself_or_how_long_ago_it_is() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1_000));
        let now = jiff::Timestamp::now().as_millisecond();
        for (text, ms) in [("90m", 5_400_000), ("2h", 7_200_000), ("7d", 604_800_000)] {
            let found = time(text).unwrap();
            assert!((now - ms..now - ms + 60_000).contains(&found), "{text}");
        }
        for bad in ["", "d", "yesterday", "-1d", "1w", "2026-01-31"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
