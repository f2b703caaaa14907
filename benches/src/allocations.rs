//! How often the service's Rust part allocates for a record, in steady state: the difference
//! between a longer and a shorter load. What librdkafka allocates in C is not counted.

use std::path::Path;

use anyhow::{Context, Result};

use crate::drain::serve;
use crate::figures::Figures;
use crate::load::Load;
use crate::stage::Stage;

/// Counting is slow, and every round gives nearly the same.
const STATES: [usize; 2] = [20_000, 60_000];

/// Takes the figures.
pub async fn measure(stage: &mut Stage, load: Load, figures: &mut Figures) -> Result<()> {
    let own = std::env::current_exe()?;
    let counted = own.with_file_name("counted");
    for (case, folds, over_what_is_there) in [
        ("none folds, into nothing", 1, false),
        ("none folds, over what is there", 1, true),
        ("some states fold, over what is there", 3, true),
    ] {
        let mut counts = [0.0; 2];
        for (states, count) in STATES.into_iter().zip(&mut counts) {
            let load = Load {
                states,
                entities: states / folds,
                ..load
            };
            *count = count_of(stage, load, &counted, over_what_is_there).await?;
        }
        let per_record = (counts[1] - counts[0]) / (STATES[1] - STATES[0]) as f64;
        figures.add("cost", case, "allocations a record", "", per_record);
    }
    stage.clear().await
}

async fn count_of(
    stage: &mut Stage,
    load: Load,
    counted: &Path,
    over_what_is_there: bool,
) -> Result<f64> {
    stage.clear().await?;
    let (topic, _) = stage.filled(load).await?;
    if over_what_is_there {
        serve(stage, load, 1, &[]).await?;
    }
    let group = stage.name("group");
    let mut service = stage.spawn_program([counted.as_os_str()], &topic, &group, &[])?;
    let pid = service.pid()?;
    let cpu = || Ok(local_stack::observe::usage(pid)?.cpu);
    stage
        .follow(load.states, async || service.settled().await, cpu)
        .await?;
    let log = service.stop().await?;
    let line = log
        .lines()
        .find_map(|line| line.strip_prefix("allocations: "));
    Ok(line.context("no count of allocations")?.parse()?)
}
