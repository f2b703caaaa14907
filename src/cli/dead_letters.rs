//! `dead-letters`: the records that were rejected.

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::Partitions;
use super::time::time;
use crate::record::entity::Reason;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// List rejected records, the latest first, or count them
    ///
    /// Only open ones, unless --state says otherwise. The last line of a list that is not complete
    /// has the --after with which it continues.
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
        /// Continue a list after this cursor, which the list before it has printed
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
    /// Show one rejected record in full, with its value as it was received
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
        /// At most this many letters a second
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Discard open letters: they are kept, and no longer counted
    ///
    /// Needs a filter, or --all. Without --yes it only shows what it would do.
    #[command(group = which(), after_help = "Examples:\n  \
                  workflows-sink dead-letters discard --key 0123abcd --why test\n  \
                  workflows-sink dead-letters discard --kind Curve --since 7d --why typo --yes")]
    Discard {
        /// Which letters.
        #[command(flatten)]
        filter: LetterFilter,
        /// All open letters of the group
        #[arg(long, conflicts_with_all = FILTERS)]
        all: bool,
        /// The reason, which is kept with the letters
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        why: String,
        /// Discard them, rather than show what would be done
        #[arg(long)]
        yes: bool,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

/// A filter, or all letters: where nothing is given, the message names both.
fn which() -> ArgGroup {
    let options = FILTERS.into_iter().chain(["all"]);
    ArgGroup::new("which")
        .args(options)
        .required(true)
        .multiple(true)
}

/// The options of a [`LetterFilter`].
const FILTERS: [&str; 8] = [
    "topic",
    "partition",
    "reason",
    "kind",
    "code",
    "key",
    "since",
    "until",
];

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
    /// Only those rejected since this time, such as 2026-01-31T12:00:00Z, or how long ago: 90m, 7d
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub since: Option<i64>,
    /// Only those rejected before this time
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub until: Option<i64>,
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
