//! The service beside another build of it, in turn in one run.

use std::path::Path;

use anyhow::Result;

use crate::drain::{Served, serve};
use crate::figures::Figures;
use crate::load::Load;
use crate::stage::Stage;

/// Takes the figures: each build drains into an empty database and again over what is there, and
/// who goes first alternates.
pub async fn measure(
    stage: &mut Stage,
    load: Load,
    beside: &Path,
    rounds: usize,
    figures: &mut Figures,
) -> Result<()> {
    for round in 0..rounds {
        let (ours, others) = if round.is_multiple_of(2) {
            let others = by(stage, beside, load).await?;
            (both(stage, load).await?, others)
        } else {
            (both(stage, load).await?, by(stage, beside, load).await?)
        };
        for ((state, ours), others) in ["empty", "existing"].iter().zip(&ours).zip(&others) {
            let case = format!("{} partitions, {state}", load.partitions);
            note(figures, &case, ours, others);
        }
    }
    stage.clear().await
}

/// As [`both`], by another build.
async fn by(stage: &mut Stage, build: &Path, load: Load) -> Result<[Served; 2]> {
    let own = stage.run_sink(build);
    let served = both(stage, load).await;
    stage.run_sink(&own);
    served
}

/// Into an empty database, and over what is there then.
async fn both(stage: &mut Stage, load: Load) -> Result<[Served; 2]> {
    stage.clear().await?;
    let empty = serve(stage, load, 1, &[]).await?;
    Ok([empty, serve(stage, load, 1, &[]).await?])
}

fn note(figures: &mut Figures, case: &str, ours: &Served, others: &Served) {
    let peak = |served: &Served| served.peak_memory_bytes as f64;
    for (name, ratio) in [
        (
            "service's CPU a record",
            ours.drained.cpu_us / others.drained.cpu_us,
        ),
        (
            "service",
            ours.drained.per_second / others.drained.per_second,
        ),
        ("service's peak memory", peak(ours) / peak(others)),
    ] {
        let name = format!("{name} ÷ that of the build beside it");
        figures.add("drain", case, &name, "", ratio);
    }
}
