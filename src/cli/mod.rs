//! The command line: what can be typed, with help and examples. The configuration always comes from
//! the environment.

mod admin;
mod dead_letters;
mod man;
mod settings;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

pub use self::admin::{AdminCommand, Secret, SecretKey, Secrets, Users};
pub use self::dead_letters::{DeadLetters, LetterFilter, LetterGrouping, LetterState};
pub use self::man::man;
pub use self::settings::{ConfigCommand, MappingCommand};
use crate::telemetry::version;

/// The end of `--help`.
fn exit_status() -> String {
    let lines = man::EXIT_STATUS.map(|(status, meaning)| format!("\n  {status:<3} {meaning}"));
    format!("Exit status:{}", lines.concat())
}

/// Consumes workflow entities from Kafka and upserts them into MongoDB, each exactly once.
///
/// Everything is configured by environment variables (DYFF_KAFKA__…, DYFF_WORKFLOWS_SINK__…), which
/// docs/configuration.md lists and config/example.env shows.
#[derive(Debug, Parser)]
#[command(name = "workflows-sink", version = version::VERSION_AND_REVISION, max_term_width = 100)]
#[command(arg_required_else_help = true, after_help = exit_status())]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Consume until stopped by a signal
    ///
    /// On SIGTERM or SIGINT it finishes what is in flight, commits the offsets and leaves the
    /// group. A second signal ends it at once; nothing is lost.
    #[command(after_help = "Example:\n  workflows-sink run")]
    Run,
    /// Show on one screen whether the service does its work
    ///
    /// The first line is a verdict in words. Then the group, MongoDB, the open dead letters, and
    /// each partition with its state, worker, lag, the age of its oldest record that is not
    /// applied, and its rate. Takes two looks, two seconds apart. Exit code 0: healthy, 1: not.
    #[command(after_help = "Examples:\n  \
                  workflows-sink status\n  \
                  workflows-sink status --watch\n  \
                  workflows-sink status --json")]
    Status {
        /// Look again every two seconds, until it is interrupted
        #[arg(long)]
        watch: bool,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Check everything that the service needs, without joining the group or changing anything
    ///
    /// Brokers and the names that they advertise, access, settings of the topics, the group and
    /// other members of it, MongoDB, privileges, collections, and the checkpoints against their
    /// logs. Each finding has a remedy. Exit code 0: nothing to mend, 1: something, 78: the
    /// configuration.
    #[command(after_help = "Examples:\n  \
                  workflows-sink check\n  \
                  workflows-sink check --offline --mapping config/mapping.toml\n  \
                  workflows-sink check --sample 1000 --json")]
    Check {
        /// Only what needs no server: for CI
        #[arg(long)]
        offline: bool,
        /// Read so many records, and show what would become of them
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        sample: Option<u32>,
        /// Compare this mapping with the one in use, and sample with it
        #[arg(long)]
        mapping: Option<PathBuf>,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Explain one entity: why does its document look as it does?
    ///
    /// The first line is a verdict in words. Then the partition of the key and its checkpoint, the
    /// last states of the key in the topic and what became of each, its dead letters, and the
    /// document as it is beside what the log makes of it. Reads the partition once, or all where
    /// that explains nothing; changes nothing. Exit code 0: the document is what all states say, 1:
    /// it is not.
    #[command(after_help = "Examples:\n  \
                  workflows-sink explain 4f1c0e5d5b0a4e8f9d3c2b1a00112233\n  \
                  workflows-sink explain 4f1c0e5d5b0a4e8f9d3c2b1a00112233 --history --json")]
    Explain {
        /// The key of its records, which is the entity's id
        key: String,
        /// Show all of its states, rather than the last ten
        #[arg(long)]
        history: bool,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show and move the checkpoints, from which the service continues
    #[command(subcommand, arg_required_else_help = true)]
    Offsets(Offsets),
    /// Show the records that were rejected, apply them after all, or give them up
    #[command(subcommand, arg_required_else_help = true)]
    DeadLetters(DeadLetters),
    /// Show what is configured, and what can be
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Print the mapping of kinds to collections, or check another one
    #[command(subcommand, arg_required_else_help = true)]
    Mapping(MappingCommand),
    /// Manage the MongoDB users and the Secrets with their passwords
    #[command(subcommand, arg_required_else_help = true)]
    Admin(AdminCommand),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  \
                  workflows-sink completions bash > /etc/bash_completion.d/workflows-sink")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(after_help = "Example:\n  workflows-sink man > workflows-sink.1")]
    Man,
}

/// What to do with checkpoints.
#[derive(Debug, Subcommand)]
pub enum Offsets {
    /// Show log start and end, checkpoint, lag, committed offset, owner and epoch of each partition
    #[command(after_help = "Examples:\n  \
                  workflows-sink offsets show\n  \
                  workflows-sink offsets show --topic dyff.workflows.state --json")]
    Show {
        /// Which partitions.
        #[command(flatten)]
        partitions: Partitions,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Move checkpoints: replaying is safe, skipping loses records
    ///
    /// Refused while the group has members, unless one partition is named: its worker continues
    /// from where the checkpoint is moved. Without --yes it only shows what it would do. The
    /// checkpoint gets a new owner, so that a worker that returns cannot write under the old one;
    /// the committed offset is moved too, or follows.
    #[command(after_help = "Examples:\n  \
                  workflows-sink offsets reset --to earliest\n  \
                  workflows-sink offsets reset --to 2026-01-31T12:00:00Z --yes\n  \
                  workflows-sink offsets reset --to 4711 --topic dyff.workflows.state \
                  --partition 3 --yes")]
    Reset {
        /// `earliest`, `latest`, an offset, a time such as 2026-01-31T12:00:00Z or -1h (the first
        /// record that is not older)
        #[arg(long, allow_hyphen_values = true)]
        to: To,
        /// Which checkpoints.
        #[command(flatten)]
        moving: Moving,
    },
    /// Let stopped partitions continue
    ///
    /// A partition stops when its checkpoint is not in the log: the log's start has passed it
    /// (records are lost), or the log was truncated. This moves such checkpoints to the log's
    /// start, and no others. A partition also stops when too many records in a row were rejected,
    /// or when a batch of records cannot be read: then --continue or --retry says what becomes of
    /// them. The service may keep running, and continues by itself. Without --yes it only shows
    /// what it would do.
    #[command(after_help = "Examples:\n  \
                  workflows-sink offsets resolve --topic dyff.workflows.state --partition 3 --yes\n  \
                  workflows-sink offsets resolve --partition 3 --retry --yes\n  \
                  workflows-sink offsets resolve --partition 3 --reject --yes")]
    Resolve {
        /// Which checkpoints.
        #[command(flatten)]
        moving: Moving,
        /// What becomes of the records that stopped a partition.
        #[command(flatten)]
        way: Way,
    },
    /// Remove the checkpoints of another group, such as one whose name was misspelt
    ///
    /// Those of the configured topics. Refused while that group has members. Its dead letters and
    /// its committed offsets stay. Without --yes it only shows what it would do.
    #[command(after_help = "Examples:\n  \
                  workflows-sink offsets forget --group dyff.system.mongo.sink\n  \
                  workflows-sink offsets forget --group dyff.system.mongo.sink --yes")]
    Forget {
        /// The other group
        #[arg(long)]
        group: String,
        /// Remove them, rather than show what would be done
        #[arg(long)]
        yes: bool,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

/// Which partitions a command is about; all of the configured topics by default.
#[derive(Args, Clone, Debug, Default)]
pub struct Partitions {
    /// Only this topic
    #[arg(long)]
    pub topic: Option<String>,
    /// Only this partition
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
}

/// Which checkpoints a command moves, and whether it only shows what it would do.
#[derive(Args, Clone, Debug)]
pub struct Moving {
    /// Which partitions.
    #[command(flatten)]
    pub partitions: Partitions,
    /// Move the checkpoints, rather than show what would be done
    #[arg(long)]
    pub yes: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// What becomes of the records that stopped a partition.
#[derive(Args, Clone, Copy, Debug, Default)]
#[group(multiple = false)]
pub struct Way {
    /// Continue behind them: rejected records stay dead letters, those that cannot be read are lost
    #[arg(long = "continue")]
    pub behind: bool,
    /// Apply or read them again
    #[arg(long)]
    pub retry: bool,
    /// Make the next record of a partition a dead letter, which MongoDB neither takes nor refuses
    #[arg(long)]
    pub reject: bool,
}

/// Where to move a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The start of the log.
    Earliest,
    /// Its end.
    Latest,
    /// This offset.
    Offset(i64),
    /// The first record that is not older than this, in milliseconds since 1970.
    Time(i64),
}

impl std::str::FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<To, String> {
        match text {
            "earliest" => return Ok(To::Earliest),
            "latest" => return Ok(To::Latest),
            _ => {}
        }
        if let Ok(offset) = text.parse::<u64>() {
            return i64::try_from(offset)
                .map(To::Offset)
                .map_err(|_| "offsets have 63 bits".to_owned());
        }
        let ago = text
            .strip_prefix('-')
            .and_then(|ago| ago.parse::<jiff::SignedDuration>().ok());
        let time = match ago {
            Some(ago) => jiff::Timestamp::now().checked_sub(ago),
            None => text.parse(),
        };
        let time = time.map_err(|_| {
            "neither earliest, latest, an offset, a time such as 2026-01-31T12:00:00Z, nor one \
             before now such as -1h"
                .to_owned()
        })?;
        Ok(To::Time(time.as_millisecond()))
    }
}

/// Prints the completion script for `shell`.
pub fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // clap_complete panics when its output is closed
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "workflows-sink", &mut script);
    out.write_all(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(command: &clap::Command) -> Vec<clap::Command> {
        let mut all = vec![command.clone()];
        for sub in command.get_subcommands() {
            all.extend(commands(sub));
        }
        all
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_and_examples_that_parse() {
        let mut examples = 0;
        for command in commands(&Cli::command()) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            let after = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            if command.get_subcommands().next().is_none() {
                assert!(after.contains("Example"), "{}", command.get_name());
            }
            for line in after
                .lines()
                .filter(|line| line.starts_with("  workflows-sink"))
            {
                let words = line.split_whitespace().take_while(|word| *word != ">");
                Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
                examples += 1;
            }
        }
        assert!(examples >= 10, "{examples}");
    }

    #[test]
    fn a_place_is_a_name_an_offset_or_a_time() {
        assert_eq!("earliest".parse(), Ok(To::Earliest));
        assert_eq!("latest".parse(), Ok(To::Latest));
        assert_eq!("0".parse(), Ok(To::Offset(0)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(To::Time(1000)));
        assert_eq!("1970-01-01T01:00:01+01:00".parse(), Ok(To::Time(1000)));
        let before = jiff::Timestamp::now().as_millisecond();
        let Ok(To::Time(hour)) = "-1h 30m".parse() else {
            panic!("a time");
        };
        assert!((before - hour - 5_400_000).abs() < 10_000);
        for bad in [
            "",
            "-1",
            "now",
            "1e3",
            "99999999999999999999",
            "2026-01-31",
            "9223372036854775808",
        ] {
            assert!(bad.parse::<To>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_version_has_the_revision() {
        let version = Cli::command().render_version();
        assert_eq!(
            version,
            format!(
                "workflows-sink {} ({})\n",
                version::VERSION,
                version::REVISION
            )
        );
    }

    #[test]
    fn completions_and_the_manual_know_every_command() {
        let (mut script, mut page) = (Vec::new(), Vec::new());
        completions(Shell::Bash, &mut script).unwrap();
        man(&mut page).unwrap();
        let (script, page) = (
            String::from_utf8(script).unwrap(),
            String::from_utf8(page).unwrap(),
        );
        for command in commands(&Cli::command()) {
            let name = command.get_name();
            assert!(script.contains(name), "{name}");
            let name = name.replace('-', "\\-");
            assert!(
                page.to_lowercase().contains(&name) || page.contains(command.get_name()),
                "{name}"
            );
        }
        assert!(page.contains("WORKFLOWS-SINK OFFSETS RESET"), "{page}");
    }
}
