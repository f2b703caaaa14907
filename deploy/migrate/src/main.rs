//! An outline: command line, configuration, one step, exit code.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use datastore_migrate::cli::{About, Cli, Command, DeleteOld, Objects};
use datastore_migrate::database::Connection;
use datastore_migrate::entities::{Target, import};
use datastore_migrate::mapping::BUILTIN;
use datastore_migrate::remap::Remap;
use datastore_migrate::report::Report;
use datastore_migrate::{accounts, delete_old, ids, objects, topic, verify};
use serde::Serialize;
use workflows_sink::config::{Config, Kafka, startup};

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let ended = execute(Cli::parse().command, &mut out).and_then(|yes| {
        out.flush()?;
        Ok(yes)
    });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            startup::exit_code(&error).into()
        }
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
        } => {
            let mapping = about.mapping()?;
            let (report, added, all) = ids::assign(&exports.exports, &file, seed, &mapping)?;
            finish(&report, &about, out)?;
            writeln!(
                out,
                "{added} paths got an id, {all} have one: {}",
                file.display()
            )?;
            return Ok(report.rejected_in_all == 0);
        }
        Command::Entities {
            exports,
            remap,
            about,
            topic,
            into,
            dry_run,
            ..
        } => {
            let mapping = about.mapping()?;
            let remap = Remap::open(&remap.remap, &mapping)?;
            let target = match (dry_run, into) {
                (true, _) => Target::Nowhere,
                (false, Some(_)) => Target::Mongodb(Box::new(Config::from_env()?)),
                (false, None) => {
                    let topic = topic.unwrap_or_else(topic::events_topic);
                    Target::Topic(Box::new(Kafka::from_env()?), topic)
                }
            };
            let report = import(&exports.exports, &mapping, &remap, &target)?;
            return finish(&report, &about, out);
        }
        Command::Accounts {
            exports,
            remap,
            about,
            database,
            dry_run,
        } => {
            let mapping = about.mapping()?;
            let remap = Remap::open(&remap.remap, &mapping)?;
            let connection = match dry_run {
                true => None,
                false => {
                    let mut config = Config::from_env()?;
                    config.mongodb.database = database;
                    Some(Connection::open(&config.mongodb)?)
                }
            };
            let report = accounts::import(&exports.exports, &mapping, &remap, connection.as_ref())?;
            return finish(&report, &about, out);
        }
        Command::Verify {
            exports,
            remap,
            about,
        } => return verify(&exports.exports, &remap.remap, &about, out),
        Command::Objects(command) => return objects(command, out),
        Command::DeleteOld(DeleteOld::Plan {
            remap,
            about,
            project,
            from,
        }) => {
            let mapping = about.mapping()?;
            let remap = Remap::open(&remap.remap, &mapping)?;
            delete_old::plan(&remap, &mapping, &project, &from, out)?;
        }
    }
    Ok(true)
}

fn verify(exports: &[PathBuf], remap: &Path, about: &About, out: &mut impl Write) -> Result<bool> {
    let mapping = about.mapping()?;
    let mut remap = Remap::open(remap, &mapping)?;
    let found = verify::verify(exports, &mapping, &remap, &Config::from_env()?)?;
    let of = exports.iter().map(|export| export.display().to_string());
    remap.state.entities_verified = match found.is_yes() {
        true => remap.state.verified(found.equal(), of.collect()),
        false => None,
    };
    remap.save_state()?;
    found.print(out)?;
    write_report(&found, about)?;
    Ok(found.is_yes())
}

fn objects(command: Objects, out: &mut impl Write) -> Result<bool> {
    match command {
        Objects::Plan {
            remap,
            about,
            from,
            to,
            copier,
        } => {
            let mapping = about.mapping()?;
            let remap = Remap::open(&remap.remap, &mapping)?;
            let lines = objects::plan(&remap, &mapping, &from, &to, copier, out)?;
            eprintln!("{lines} entities, a line each");
            Ok(true)
        }
        Objects::Verify {
            remap,
            about,
            from,
            to,
        } => {
            let mapping = about.mapping()?;
            let mut remap = Remap::open(&remap.remap, &mapping)?;
            let found = objects::compare(&remap, &mapping, &from, &to)?;
            let of = [&from, &to].map(|listing| listing.display().to_string());
            remap.state.objects_verified = match found.is_yes() {
                true => remap.state.verified(found.equal, of.to_vec()),
                false => None,
            };
            remap.save_state()?;
            found.print(out)?;
            write_report(&found, &about)?;
            Ok(found.is_yes())
        }
    }
}

/// Prints a report, and gives whether nothing was rejected.
fn finish(report: &Report, about: &About, out: &mut impl Write) -> Result<bool> {
    report.print(out)?;
    write_report(report, about)?;
    Ok(report.rejected_in_all == 0)
}

fn write_report(report: &impl Serialize, about: &About) -> Result<()> {
    let Some(file) = &about.report else {
        return Ok(());
    };
    let text = serde_json::to_vec_pretty(report)?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
