//! What can be typed.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use workflows_sink::config::kafka_name;
use workflows_sink::config::startup::StartupError;

use crate::accounts::ACCOUNTS_DATABASE;
use crate::mapping::Mapping;
use crate::objects::Copier;
use crate::present::TRANSACTION_WAIT_SECONDS;

/// Moves the old datastore's entities, objects and accounts, step by step. docs/migration.md has
/// the order.
///
/// Brokers and MongoDB are those of the service's own environment (DYFF_KAFKA__…,
/// DYFF_WORKFLOWS_SINK__…). Exit codes: 0 done, and nothing was left; 1 something was rejected or left,
/// differs or failed, or an export is short or has no entity; 2 a wrong command line; 78 a wrong
/// configuration.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the texts are those of --help")]
pub enum Command {
    /// Print the mapping that is compiled in, to be changed and named with --mapping.
    Mapping,
    /// Give each path of the exports a new id, in the remap file, which is only ever added to.
    ///
    /// The id is UUIDv5 of --seed and the path, so that anyone can make it again. An existing file
    /// {"old path": "new id"} is taken in as it is.
    Ids {
        #[command(flatten)]
        exports: Exports,
        /// The remap file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// What the ids are made of beside the path, such as the name of the old project; needed
        /// once.
        #[arg(long, value_parser = NonEmptyStringValueParser::new())]
        seed: Option<String>,
        #[command(flatten)]
        about: About,
        #[command(flatten)]
        file: ReportFile,
    },
    /// Move the entities that the target lacks.
    ///
    /// They become records on the workflows events topic (DYFF_KAFKA__TOPICS__WORKFLOWS_EVENTS, else
    /// dyff.workflows.events): its aggregator, the state topic and every later rebuild must know
    /// them. A run that was killed is run again, and goes on behind what is there. An entity whose
    /// newest record is not of this tool is never touched.
    #[command(after_help = "Examples:\n  \
        datastore-migrate entities --remap remap.json --dry-run export/\n  \
        datastore-migrate entities --remap remap.json --report moved.json export/")]
    Entities(Entities),
    /// Move users and API keys into the auth backend's collection, where they are missing.
    Accounts(Accounts),
    /// Hold every entity of the exports against its document. Of several exports each is a whole one
    /// and the last one counts: an entity that only an earlier one has is reported.
    Verify(Verify),
    /// Objects in buckets.
    #[command(subcommand)]
    Objects(Objects),
    /// What can go in the old place.
    #[command(subcommand)]
    DeleteOld(DeleteOld),
}

/// What `entities` is told.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the texts are those of --help")]
pub struct Entities {
    #[command(flatten)]
    pub exports: Exports,
    #[command(flatten)]
    pub remap: RemapFile,
    #[command(flatten)]
    pub about: About,
    #[command(flatten)]
    pub held: NewMapping,
    #[command(flatten)]
    pub file: ReportFile,
    /// Another topic: the state topic, where no aggregator runs.
    #[arg(long, conflicts_with = "into", value_parser = kafka_name)]
    pub topic: Option<String>,
    /// Not a topic: a later rebuild from Kafka does not know these.
    #[arg(long, requires = "if_absent")]
    pub into: Option<Into>,
    /// With --into: only ids that are missing.
    #[arg(long, requires = "into")]
    pub if_absent: bool,
    /// Also replace what was migrated before, in another state, and has not changed since in the
    /// topic: for a later export.
    #[arg(long, conflicts_with = "into")]
    pub update: bool,
    /// How long records of an open transaction on the topics are waited for; then the run ends.
    #[arg(long, value_name = "SECONDS", default_value_t = TRANSACTION_WAIT_SECONDS)]
    pub transaction_wait_seconds: u64,
    /// Only say what would be done, without asking the target.
    #[arg(long)]
    pub dry_run: bool,
}

/// What `accounts` is told.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the texts are those of --help")]
pub struct Accounts {
    #[command(flatten)]
    pub exports: Exports,
    #[command(flatten)]
    pub remap: RemapFile,
    #[command(flatten)]
    pub about: About,
    #[command(flatten)]
    pub file: ReportFile,
    /// The auth backend's database.
    #[arg(long, default_value = ACCOUNTS_DATABASE)]
    pub database: String,
    /// Make a --database that is not there yet.
    #[arg(long)]
    pub create: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
}

/// What `verify` is told.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the texts are those of --help")]
pub struct Verify {
    /// Old paths, one a line, of entities that may differ or be missing, since they went on in the new
    /// place; of those that are rejected; of those that only an earlier export has, since they were
    /// deleted in the old one; and of what is in no export, since it only stands above entities. And names of metadata whose counts are
    /// larger than their files. A person has looked at each.
    #[arg(long, value_name = "FILE")]
    pub accept: Option<PathBuf>,
    #[command(flatten)]
    pub exports: Exports,
    #[command(flatten)]
    pub remap: RemapFile,
    #[command(flatten)]
    pub about: About,
    #[command(flatten)]
    pub held: NewMapping,
    #[command(flatten)]
    pub file: ReportFile,
}

/// Objects in buckets.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the texts are those of --help")]
pub enum Objects {
    /// Print a line for each entity that copies its objects to their new names.
    ///
    /// What the new bucket has already is not copied over. A folder that several entities have is
    /// named in a comment and left out; then the exit code is 1, as where no entity has an object.
    Plan {
        #[command(flatten)]
        remap: RemapFile,
        #[command(flatten)]
        about: About,
        /// The old bucket: gs://BUCKET for gcloud, REMOTE:BUCKET for rclone.
        #[arg(long, value_name = "URL")]
        from: String,
        /// The new one.
        #[arg(long, value_name = "URL")]
        to: String,
        /// Listing of the old bucket, as for `objects verify`: entities without objects get no line.
        #[arg(long, value_name = "FILE")]
        listing: PathBuf,
        /// What copies.
        #[arg(long = "with", value_enum, default_value = "gcloud")]
        copier: Copier,
    },
    /// Compare two listings: names, sizes, CRC32C or MD5.
    Verify {
        /// Old names of objects, or old folders ACCOUNT/ENTITY, one a line, that may differ or be
        /// missing, since they went on in the new place, or that were copied by hand. A person has
        /// looked at each.
        #[arg(long, value_name = "FILE")]
        accept: Option<PathBuf>,
        #[command(flatten)]
        remap: RemapFile,
        #[command(flatten)]
        about: About,
        #[command(flatten)]
        held: NewMapping,
        #[command(flatten)]
        file: ReportFile,
        /// The old bucket, such as gs://old: `delete-old` speaks of no other one.
        #[arg(long, value_name = "URL")]
        bucket: String,
        /// Listing of the old bucket, as JSON of `gcloud storage objects list` or `rclone lsjson`.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Listing of the new one.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

/// What can go in the old place.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the texts are those of --help")]
pub enum DeleteOld {
    /// Print the steps that delete, once `verify` and `objects verify` have said yes with this
    /// very remap file. Deletes nothing.
    Plan {
        #[command(flatten)]
        remap: RemapFile,
        #[command(flatten)]
        about: About,
        /// The old project.
        #[arg(long)]
        project: String,
        /// The old bucket.
        #[arg(long, value_name = "URL")]
        from: String,
    },
}

/// Where entities go that are not to become records.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Into {
    /// The service's collections.
    Mongodb,
}

/// What is read.
#[derive(Debug, Args)]
pub struct Exports {
    /// Folders of `gcloud datastore export`, or files with one JSON entity a line; `-` is standard
    /// input; gzip or zstd.
    #[arg(value_name = "EXPORT", required = true)]
    pub exports: Vec<PathBuf>,
}

/// The remap file.
#[derive(Debug, Args)]
pub struct RemapFile {
    /// The file that `ids` made.
    #[arg(long, value_name = "FILE")]
    pub remap: PathBuf,
}

/// What every step may be told.
#[derive(Debug, Args)]
pub struct About {
    /// What becomes of each kind; without it, the mapping that `datastore-migrate mapping` prints.
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
}

/// What a step may be told that holds the mapping against the one of the first import.
#[derive(Debug, Args)]
pub struct NewMapping {
    /// This mapping counts from now on, though entities were moved with another one.
    #[arg(long)]
    pub new_mapping: bool,
}

/// What a step may be told that has a report. A plan is itself what the step is for.
#[derive(Debug, Args)]
pub struct ReportFile {
    /// Also write the whole report as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

impl About {
    /// The mapping that is named, or the one that is compiled in.
    ///
    /// # Errors
    /// [`StartupError`]: why it cannot be used.
    pub fn mapping(&self) -> anyhow::Result<Mapping> {
        let mapping = Mapping::load(self.mapping.as_deref());
        Ok(mapping.map_err(|why| StartupError::configuration(format!("{why:#}")))?)
    }
}
