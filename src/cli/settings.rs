//! `config` and `mapping`: what the service is set to do.

use std::path::PathBuf;

use clap::Subcommand;

/// What to show of the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show each setting that is in effect, and where it comes from
    ///
    /// The environment is that of `run`. Secrets are not shown, only where they come from. The
    /// Kafka client's properties follow, as far as they are set or differ from its own defaults.
    #[command(after_help = "Examples:\n  \
                  workflows-sink config show\n  \
                  workflows-sink config show --json")]
    Show {
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Print every setting: its meaning, default and an example
    #[command(after_help = "Examples:\n  \
                  workflows-sink config reference\n  \
                  workflows-sink config reference --json")]
    Reference {
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

/// What to do with mappings.
#[derive(Debug, Subcommand)]
pub enum MappingCommand {
    /// Print the mapping in use: a beginning for another one
    #[command(after_help = "Example:\n  workflows-sink mapping print > mapping.toml")]
    Print,
    /// Check a mapping in a file, and show what it would change; needs nothing else, for CI
    ///
    /// It is compared with that of MAPPING_FILE, or with the one that is built in. Exit code 78:
    /// it cannot be used; its first fault is named.
    #[command(after_help = "Examples:\n  \
                  workflows-sink mapping check mapping.toml\n  \
                  workflows-sink mapping check mapping.toml --json")]
    Check {
        /// The file, in the form of `mapping print`
        file: PathBuf,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
}
