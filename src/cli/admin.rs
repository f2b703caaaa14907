//! `admin`: the users of MongoDB and their Secrets.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, builder::RangedI64ValueParser};
use secrecy::SecretString;

use crate::admin::secrets::RANDOM_BYTES_MAX;
use crate::admin::table::{DNS_RULE, KEY_RULE, is_dns, is_key};

/// What to do with users and Secrets.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Make users and Secrets match the table, and prove it by logging in
    ///
    /// Changes nothing that already matches: an existing password is kept. Roles beyond the table's
    /// are only reported, unless --prune-roles is given.
    #[command(after_help = "Examples:\n  \
                  workflows-sink admin provision --dry-run\n  \
                  workflows-sink admin provision --user query-backend --user auth-backend\n  \
                  workflows-sink admin provision --secrets-dir /etc/workflows-sink")]
    Provision {
        /// Which users.
        #[command(flatten)]
        users: Users,
        /// Revoke roles that are not in the table
        #[arg(long)]
        prune_roles: bool,
        /// Show what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Where Secrets are.
        #[command(flatten)]
        secrets: Secrets,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Replace a user's password, without a gap for whoever is logged in
    ///
    /// May be killed and repeated at any moment, and run in several places at once. A rotation that
    /// is under way is finished rather than followed by another.
    #[command(after_help = "Examples:\n  \
                  workflows-sink admin rotate --user workflows-sink\n  \
                  workflows-sink admin rotate --user workflows-sink --status")]
    Rotate {
        /// The user
        #[arg(long)]
        user: String,
        /// Show the stage of a rotation, and change nothing
        #[arg(long)]
        status: bool,
        /// Where Secrets are.
        #[command(flatten)]
        secrets: Secrets,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Keep users and Secrets as the table says until stopped: the sidecar
    ///
    /// Provisions, publishes to a directory, then looks at intervals and whenever a Secret changes,
    /// repairs drift, and rotates passwords by age where that is configured. Serves /metrics,
    /// /livez, /readyz and /startupz.
    #[command(after_help = "Example:\n  \
                  workflows-sink admin serve --user workflows-sink --publish /run/secret")]
    Serve {
        /// Which users.
        #[command(flatten)]
        users: Users,
        /// Show the Secret in this directory, like a mounted one; for exactly one --user
        #[arg(long, value_name = "DIR")]
        publish: Option<PathBuf>,
        /// Revoke roles that are not in the table
        #[arg(long)]
        prune_roles: bool,
        /// Where Secrets are.
        #[command(flatten)]
        secrets: Secrets,
    },
    /// Show and change single values of Secrets
    #[command(subcommand, arg_required_else_help = true)]
    Secret(Secret),
    /// Log in as each cluster user and each provisioned user, and show whom MongoDB authenticates
    ///
    /// The user admin of the environment, if it names one, is tried too. Changes nothing. With
    /// --secrets-dir, a user without a Secret there is only shown as absent, unless --user names
    /// it. Exit code 0: whoever was checked is authenticated, 1: somebody is not, is absent, or
    /// nobody was there to check.
    #[command(after_help = "Examples:\n  \
                  workflows-sink admin quick-check\n  \
                  workflows-sink admin quick-check --user query-backend --secrets-dir /etc/sink")]
    QuickCheck {
        /// Which users; with none named, the cluster users too.
        #[command(flatten)]
        users: Users,
        /// Where Secrets are.
        #[command(flatten)]
        secrets: Secrets,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

/// What to do with a value of a Secret.
#[derive(Debug, Subcommand)]
pub enum Secret {
    /// Print a value, decoded
    #[command(after_help = "Example:\n  \
                  workflows-sink admin secret get --secret query-backend-mongodb --key PASSWORD")]
    Get {
        /// Which value.
        #[command(flatten)]
        key: SecretKey,
    },
    /// Set a value, and change no other
    #[command(
        group = ArgGroup::new("new").required(true),
        after_help = "Examples:\n  \
                  workflows-sink admin secret set --secret a --key TOKEN --random-bytes 32\n  \
                  workflows-sink admin secret set --secret a --key TOKEN --value-file -"
    )]
    Set {
        /// Which value.
        #[command(flatten)]
        key: SecretKey,
        /// The value; visible to whoever may list processes, so prefer --value-file
        #[arg(long, group = "new", value_parser = hidden)]
        value: Option<SecretString>,
        /// The file that holds the value; `-`: standard input. Of one line of text the line end is
        /// left out, everything else stays byte for byte
        #[arg(long, group = "new", value_name = "FILE")]
        value_file: Option<PathBuf>,
        /// This many random bytes, in URL-safe base64 with padding
        #[arg(long, group = "new", value_name = "N", value_parser = random_bytes())]
        random_bytes: Option<u32>,
    },
}

/// Which users a command is about; all of the table by default.
#[derive(Args, Clone, Debug, Default)]
pub struct Users {
    /// Only this user; may be given several times
    #[arg(long = "user", value_name = "USER")]
    pub names: Vec<String>,
}

/// Where Secrets are: Kubernetes by default.
#[derive(Args, Clone, Debug, Default)]
pub struct Secrets {
    /// Keep Secrets in this directory, as DIR/[NAMESPACE/]SECRET/KEY, rather than in Kubernetes
    #[arg(long, value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
}

/// One value of one Secret.
#[derive(Args, Clone, Debug)]
pub struct SecretKey {
    /// The namespace; the one that the command runs in by default
    #[arg(long, value_parser = dns)]
    pub namespace: Option<String>,
    /// The Secret
    #[arg(long, value_parser = dns)]
    pub secret: String,
    /// The key
    #[arg(long, value_parser = key)]
    pub key: String,
    /// Where Secrets are.
    #[command(flatten)]
    pub secrets: Secrets,
}

fn hidden(text: &str) -> Result<SecretString, String> {
    Ok(SecretString::from(text))
}

fn random_bytes() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=RANDOM_BYTES_MAX as i64)
}

fn dns(text: &str) -> Result<String, String> {
    match is_dns(text) {
        true => Ok(text.to_owned()),
        false => Err(DNS_RULE.to_owned()),
    }
}

fn key(text: &str) -> Result<String, String> {
    match is_key(text) {
        true => Ok(text.to_owned()),
        false => Err(KEY_RULE.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[test]
    fn a_value_on_the_command_line_is_not_shown_and_a_name_leads_nowhere_else() {
        let set = |secret: &str, key: &str| {
            let words = [
                "workflows-sink",
                "admin",
                "secret",
                "set",
                "--value",
                "hunter2",
            ];
            let names = ["--secret", secret, "--key", key];
            Cli::try_parse_from(words.into_iter().chain(names))
        };
        let parsed = format!("{:?}", set("a", "K").unwrap());
        assert!(!parsed.contains("hunter2"), "{parsed}");
        for (secret, key) in [
            ("../a", "K"),
            ("a/b", "K"),
            ("a", "../K"),
            ("a", "..data"),
            ("a", ""),
        ] {
            let refused = set(secret, key).unwrap_err().to_string();
            assert!(refused.contains("Kubernetes takes"), "{refused}");
        }
    }
}
