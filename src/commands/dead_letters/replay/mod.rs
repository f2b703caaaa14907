//! `replay`: applies letters after all, exactly where they belong between the states of their keys.
//!
//! For each key, its letters and every later state that was accepted are folded and written in one
//! transaction, which also touches the checkpoint of the partition: so it cannot race the lane, and
//! no document goes back. What a letter needs and the log no longer has is decided by the document,
//! or the letter is left as it is.

mod apply;
mod catch_up;
mod collect;
mod life;
mod pass;
mod place;
mod refused;
mod report;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bson::Document;
use mongodb::Database;

use self::life::ReplayRules;
use self::place::PlaceReplay;
use self::report::ReplayReport;
use super::filter::matching;
use super::{Letters, count_of};
use crate::cli::{LetterFilter, LetterState};
use crate::commands::progress::CommandProgress;
use crate::commands::text::thousands;
use crate::config::Config;
use crate::database;
use crate::kafka::broker::Broker;
use crate::kafka::scan::Scanner;
use crate::signals::{EXIT_INTERRUPTED, StopSignals};

/// How long MongoDB may take to describe its collections.
const DESCRIBE_MAX: Duration = Duration::from_secs(30);

/// What was asked for.
pub(super) struct ReplayOptions {
    /// Whether letters are applied, rather than looked at.
    pub(super) yes: bool,
    /// How many a second, at the most.
    pub(super) rate: Option<u32>,
    pub(super) json: bool,
}

/// Applies the open letters that match, or shows what would become of them.
///
/// # Errors
/// Where some letters are not applied, or would not be, after the others; where it was interrupted.
pub(super) async fn replay(
    config: &Config,
    database: &Database,
    letters: &Letters,
    filter: &LetterFilter,
    options: &ReplayOptions,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let filter: Document = matching(&letters.group, filter, LetterState::Open);
    let places = collect::places(letters, &filter).await?;
    if places.is_empty() && !options.json {
        return Ok(writeln!(out, "{}", letters.none().await?)?);
    }
    let mut report = ReplayReport::default();
    report.letters = places.iter().map(|place| place.letters).sum();
    let rules = rules(config, database).await?;
    let (broker, scanner) = (Broker::new(&config.kafka)?, Scanner::new(&config.kafka)?);
    let progress = CommandProgress::new(report.letters, "letters");
    let stop = watch_signals()?;
    for place in &places {
        let replay = PlaceReplay {
            database,
            broker: &broker,
            scanner: &scanner,
            place,
            filter: &filter,
            rules: &rules,
            options,
            progress: &progress,
            stop: &stop,
            report: &mut report,
        };
        replay.run().await?;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    progress.end();
    report.print(options.yes, options.json, out)?;
    if stop.load(Ordering::Relaxed) {
        bail!("interrupted: what was applied is applied; run it again for the rest");
    }
    match report.failed() {
        0 => Ok(()),
        failed => {
            let verb = if options.yes {
                "were not"
            } else {
                "would not be"
            };
            bail!(
                "{} of {} letters {verb} replayed",
                thousands(failed),
                thousands(report.letters)
            )
        }
    }
}

async fn rules(config: &Config, database: &Database) -> anyhow::Result<ReplayRules> {
    let unfoldable = tokio::time::timeout(DESCRIBE_MAX, database::unfoldable(database)).await;
    let unfoldable = unfoldable.context("MongoDB does not describe its collections")??;
    Ok(ReplayRules {
        mapping: Arc::clone(&config.mapping),
        tombstones: config.tombstones,
        mode: config.write_mode,
        kind_changes: config.kind_changes,
        unfoldable: config.mapping.named(&unfoldable),
    })
}

/// Becomes true at Ctrl-C or SIGTERM, which a pod that is deleted gets: the transaction under way
/// is finished, and no other begins. A second one ends the process.
fn watch_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let mut signals = StopSignals::watch()?;
    tokio::spawn(async move {
        signals.next().await;
        stopped.store(true, Ordering::Relaxed);
        eprintln!("finishing the transaction under way; a second signal ends it at once");
        signals.next().await;
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(stop)
}
