//! The service's CPU beside that of another build of it, in turn in one run.

use std::path::Path;

use anyhow::Result;

use crate::drain::serve;
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
    let cases =
        ["empty", "existing"].map(|state| format!("{} partitions, {state}", load.partitions));
    for round in 0..rounds {
        let mut ratios = [1.0, 1.0];
        for turn in 0..2 {
            stage.clear().await?;
            let is_other = (round + turn).is_multiple_of(2);
            for ratio in &mut ratios {
                let own = is_other.then(|| stage.run_sink(beside));
                let served = serve(stage, load, 1, &[]).await;
                own.into_iter().for_each(|own| drop(stage.run_sink(&own)));
                let cpu_us = served?.drained.cpu_us;
                *ratio *= if is_other { 1.0 / cpu_us } else { cpu_us };
            }
        }
        for (case, ratio) in cases.iter().zip(ratios) {
            let name = "service's CPU a record ÷ that of the build beside it";
            figures.add("drain", case, name, "", ratio);
        }
    }
    stage.clear().await
}
