//! An outline: command line, configuration, one step, exit code.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, StdoutLock, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use datastore_migrate::brokers::events_topic;
use datastore_migrate::cli::{
    About, Accounts, Cli, Command, DeleteOld, Entities, Objects, ReportFile, Verify,
};
use datastore_migrate::database::Connection;
use datastore_migrate::entities::{Onto, Target, import};
use datastore_migrate::mapping::{BUILTIN, Mapping};
use datastore_migrate::remap::Remap;
use datastore_migrate::report::Report;
use datastore_migrate::state::{AccountsMoved, Verified};
use datastore_migrate::{accounts, comparison, delete_old, ids, objects, verify};
use jiff::Timestamp;
use serde::Serialize;
use workflows_sink::config::{Config, Kafka, startup};

fn main() -> ExitCode {
    let mut out = Output(io::stdout().lock());
    let ended = execute(Cli::parse().command, &mut out).and_then(|yes| {
        out.flush()?;
        Ok(yes)
    });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            startup::exit_code(&error).into()
        }
    }
}

/// Standard output. Once its reader has seen enough, the rest goes nowhere: the exit code is the
/// verdict's all the same.
struct Output(StdoutLock<'static>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_closed(self.0.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_closed(self.0.flush(), ())
    }
}

fn unless_closed<T>(written: io::Result<T>, all: T) -> io::Result<T> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(all),
        written => written,
    }
}

/// Gives whether all is as it should be.
fn execute(command: Command, out: &mut impl Write) -> Result<bool> {
    match command {
        Command::Mapping => out.write_all(BUILTIN.as_bytes())?,
        Command::Ids {
            exports,
            out: file,
            seed,
            about,
            file: report_file,
        } => {
            let mapping = about.mapping()?;
            let (report, added, all) = ids::assign(&exports.exports, &file, seed, &mapping)?;
            let yes = finish(&report, &report_file, out)?;
            writeln!(
                out,
                "{added} paths got an id, {all} have one: {}",
                file.display()
            )?;
            return Ok(yes);
        }
        Command::Entities(told) => return entities(told, out),
        Command::Accounts(told) => return accounts(told, out),
        Command::Verify(told) => return verify(told, out),
        Command::Objects(command) => return objects(command, out),
        Command::DeleteOld(DeleteOld::Plan {
            remap,
            about,
            project,
            from,
        }) => {
            let (mapping, mut remap) = opened(&about, &remap.remap)?;
            remap.hold(&mapping, false)?;
            delete_old::plan(
                &remap,
                &mapping,
                about.mapping.as_deref(),
                &project,
                &from,
                out,
            )?;
        }
    }
    Ok(true)
}

/// The mapping, and the remap file of a migration that has begun.
fn opened(about: &About, remap: &Path) -> Result<(Mapping, Remap)> {
    let mapping = about.mapping()?;
    let remap = Remap::open(remap, &mapping)?;
    Ok((mapping, remap))
}

/// What a person has accepted, one a line.
fn accepted(file: Option<&Path>) -> Result<HashSet<String>> {
    let Some(file) = file else {
        return Ok(HashSet::new());
    };
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// Moves entities.
fn entities(told: Entities, out: &mut impl Write) -> Result<bool> {
    let (mapping, mut remap) = opened(&told.about, &told.remap.remap)?;
    let target = match (told.dry_run, told.into) {
        (true, _) => Target::Nowhere,
        (false, Some(_)) => Target::Mongodb(Box::new(Config::from_env()?)),
        (false, None) => {
            let onto = Onto {
                kafka: Kafka::from_env()?,
                topic: told.topic.map_or_else(events_topic, Ok)?,
                update: told.update,
                transaction_wait: Duration::from_secs(told.transaction_wait_seconds),
            };
            Target::Topic(Box::new(onto))
        }
    };
    if !told.dry_run {
        remap.hold(&mapping, told.held.new_mapping)?;
        // What is moved now was not there when it was verified, nor its objects.
        remap.state.entities_verified = None;
        remap.state.objects_verified = None;
        remap.save_state()?;
    }
    let report = import(&told.exports.exports, &mapping, &remap, &target)?;
    finish(&report, &told.file, out)
}

/// Moves accounts.
fn accounts(told: Accounts, out: &mut impl Write) -> Result<bool> {
    let (mapping, mut remap) = opened(&told.about, &told.remap.remap)?;
    let exports = &told.exports.exports;
    let database = told.database.clone();
    let connection = match told.dry_run {
        true => None,
        false => Some(accounts_database(told.database, told.create)?),
    };
    let read = accounts::read(exports, &mapping, &remap)?;
    if connection.is_some() && !read.is_refused() {
        remap.hold(&mapping, false)?;
        // What an earlier run has said is not so any more, however this one ends.
        remap.state.accounts_moved = Some(accounts_moved(&database, BTreeMap::new(), false));
        remap.save_state()?;
    }
    let mut report = accounts::import(read, &mapping, connection.as_ref())?;
    report.database = Some(database.clone());
    if connection.is_some() {
        let counts = report.kinds.get(&mapping.accounts.kind).cloned();
        let counts = counts.unwrap_or_default();
        remap.state.accounts_moved = Some(accounts_moved(&database, counts, report.is_clean()));
        remap.save_state()?;
    }
    finish(&report, &told.file, out)
}

/// What is known now of a run that moves accounts.
fn accounts_moved(database: &str, counts: BTreeMap<String, u64>, is_clean: bool) -> AccountsMoved {
    AccountsMoved {
        at: Timestamp::now(),
        database: database.to_owned(),
        counts,
        is_clean,
    }
}

/// The database that accounts go into. MongoDB makes any that is named, so that a misspelt one would be
/// filled, and the auth backend would read another.
fn accounts_database(name: String, may_make: bool) -> Result<Connection> {
    let mut config = Config::from_env()?;
    config.mongodb.database = name;
    let connection = Connection::open(&config.mongodb)?;
    let name = &config.mongodb.database;
    ensure!(
        may_make || name == accounts::ACCOUNTS_DATABASE || connection.is_there()?,
        "there is no database {name} yet: correct --database, or say --create if it is meant"
    );
    Ok(connection)
}

/// Compares, and remembers whether it said yes.
fn verify(told: Verify, out: &mut impl Write) -> Result<bool> {
    let accepted = accepted(told.accept.as_deref())?;
    let (mapping, mut remap) = opened(&told.about, &told.remap.remap)?;
    remap.hold(&mapping, told.held.new_mapping)?;
    let (config, exports) = (Config::from_env()?, &told.exports.exports);
    let found = verify::verify(exports, &mapping, &remap, &config, accepted)?;
    let of = exports.iter().map(|export| export.display().to_string());
    let accepted = found.accepted();
    let verified = remap.state.verified(found.equal() - accepted, of.collect());
    let verified = verified.filter(|_| found.is_yes());
    remap.state.entities_verified = verified.map(|verified| Verified {
        accepted,
        absent: found.absent.clone(),
        held: Some(found.held.clone()),
        ..verified
    });
    remap.save_state()?;
    let written = write_report(&found, &told.file);
    found.print(out)?;
    written?;
    Ok(found.is_yes())
}

fn objects(command: Objects, out: &mut impl Write) -> Result<bool> {
    match command {
        Objects::Plan {
            remap,
            about,
            from,
            to,
            listing,
            copier,
        } => {
            let (mapping, remap) = opened(&about, &remap.remap)?;
            let urls = (&*from, &*to);
            let planned = objects::plan(&remap, &mapping, urls, &listing, copier, out)?;
            eprintln!("{planned}");
            Ok(planned.is_clean())
        }
        Objects::Verify {
            accept,
            remap,
            about,
            held,
            file,
            bucket,
            from,
            to,
        } => {
            let bucket = objects::bucket(&bucket)?.to_owned();
            let accepted = accepted(accept.as_deref())?;
            let (mapping, mut remap) = opened(&about, &remap.remap)?;
            remap.hold(&mapping, held.new_mapping)?;
            let found = comparison::compare(&remap, &mapping, &from, &to, &accepted)?;
            let count = found.equal + found.accepted;
            remap.state.objects_verified = match found.is_yes() {
                true => remap.state.verified(count, vec![bucket]),
                false => None,
            };
            remap.save_state()?;
            let written = write_report(&found, &file);
            found.print(out)?;
            written?;
            Ok(found.is_yes())
        }
    }
}

/// Writes a report's file and prints it, in this order: whoever reads may stop before its end. Gives
/// whether nothing was rejected.
fn finish(report: &Report, file: &ReportFile, out: &mut impl Write) -> Result<bool> {
    let written = write_report(report, file);
    report.print(out)?;
    written?;
    Ok(report.is_clean())
}

fn write_report(report: &impl Serialize, file: &ReportFile) -> Result<()> {
    let Some(file) = &file.report else {
        return Ok(());
    };
    let text = serde_json::to_vec_pretty(report)?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
