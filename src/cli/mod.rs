//! The command line: what can be typed, with help and examples. The configuration always comes from
//! the environment.

mod admin;
mod dead_letters;
mod man;
mod offsets;
mod settings;
mod time;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

pub use self::admin::{AdminCommand, Secret, SecretKey, Secrets, Users};
pub use self::dead_letters::{DeadLetters, LetterFilter, LetterGrouping, LetterState};
pub use self::man::man;
pub use self::offsets::{HaltResolution, MoveOptions, Offsets, Partitions, ResetTarget};
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
    /// applied, and its rate. Samples twice, two seconds apart. While one server is down, shows
    /// what the other one says. Exit code 0: healthy, 1: not, 78: the configuration is invalid.
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
    /// logs. Each finding has a remedy. Exit code 0: no faults, 1: faults, 78: the configuration is
    /// invalid.
    #[command(after_help = "Examples:\n  \
                  workflows-sink check\n  \
                  workflows-sink check --offline --mapping config/mapping.toml\n  \
                  workflows-sink check --sample 1000 --json")]
    Check {
        /// Run only the checks that need no server, for CI
        #[arg(long)]
        offline: bool,
        /// Read this many records, and show what would become of each
        #[arg(long, conflicts_with = "offline", value_parser = clap::value_parser!(u32).range(1..))]
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
    /// it is not, 78: the configuration is invalid.
    #[command(after_help = "Examples:\n  \
                  workflows-sink explain 4f1c0e5d5b0a4e8f9d3c2b1a00112233\n  \
                  workflows-sink explain 4f1c0e5d5b0a4e8f9d3c2b1a00112233 --history --json")]
    Explain {
        /// The key of its records, which is the entity's id
        key: String,
        /// Show up to 10,000 of its states, rather than the last ten
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
    /// Make a process that serves log at `debug` for ten minutes, without a restart
    ///
    /// Sends it SIGUSR1; run again, it logs as it is configured. In a pod: `kubectl exec POD
    /// --container sink -- workflows-sink verbose`.
    #[command(after_help = "Examples:\n  \
                  workflows-sink verbose\n  \
                  workflows-sink verbose --pid 4711")]
    Verbose {
        /// The process; that of a container is 1
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
        pid: i32,
    },
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

    /// On a terminal of 80 columns.
    const EXAMPLE_CHARS_MAX: usize = 80;

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
                assert!(
                    line.len() <= EXAMPLE_CHARS_MAX,
                    "it would be wrapped: {line}"
                );
                examples += 1;
            }
        }
        assert!(examples >= 10, "{examples}");
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
