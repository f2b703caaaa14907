//! How cost grows: more workers, partitions, bytes, larger batches, more folds.

use anyhow::Result;

use crate::drain::{Served, serve};
use crate::figures::Figures;
use crate::load::{Load, Shape};
use crate::stage::Stage;

/// Half the records of a drain are enough for a rate.
const SHARE: usize = 2;
/// Entities of one size: how many bytes in all, and how many records at the most.
pub const SIZED_BYTES: usize = 160_000_000;
const SIZED_STATES_MAX: usize = 100_000;
const RECORDS: &str = "DYFF_WORKFLOWS_SINK__FLUSH_RECORDS_MAX";
const LANES: &str = "DYFF_WORKFLOWS_SINK__LANES_MAX";

/// Takes the figures.
pub async fn measure(
    stage: &mut Stage,
    whole: Load,
    rounds: usize,
    figures: &mut Figures,
) -> Result<()> {
    let load = Load {
        states: whole.states / SHARE,
        entities: whole.entities / SHARE,
        ..whole
    };
    let states = load.states;
    for _ in 0..rounds {
        for workers in 1..=4 {
            let served = drain(stage, load, workers, &[]).await?;
            note(figures, &format!("{workers} workers"), &served);
        }
        let mut of_12 = None;
        for partitions in [12, 48, 192] {
            let case = format!("{partitions} partitions");
            let served = drain(stage, Load { partitions, ..load }, 1, &[]).await?;
            let rate = served.drained.per_second;
            figures.add(
                "scale",
                &case,
                "rate ÷ that of 12",
                "",
                rate / *of_12.get_or_insert(rate),
            );
            note(figures, &case, &served);
        }
        for (bytes, ids_ascend) in [
            (200, false),
            (200, true),
            (2_000, false),
            (20_000, false),
            (200_000, false),
        ] {
            let states = (SIZED_BYTES / bytes).min(SIZED_STATES_MAX).min(states);
            let sized = Load {
                states,
                entities: states / 2,
                shape: Shape::Flat { bytes, ids_ascend },
                ..load
            };
            let served = drain(stage, sized, 1, &[]).await?;
            let ids = if ids_ascend {
                " with ids that ascend"
            } else {
                ""
            };
            let case = format!("entities of {} KB{ids}", bytes as f64 / 1_000.0);
            note(figures, &case, &served);
        }
        for records in ["100", "300", "1000", "2000"] {
            let served = drain(stage, load, 1, &[(RECORDS, records)]).await?;
            note(figures, &format!("batches of {records}"), &served);
        }
        for lanes in ["1", "2", "8", "16"] {
            let served = drain(stage, load, 1, &[(LANES, lanes)]).await?;
            note(figures, &format!("{lanes} lanes"), &served);
        }
        for (share, entities) in [("1", states), ("4", states / 4), ("20", states / 20)] {
            let served = drain(stage, Load { entities, ..load }, 1, &[]).await?;
            note(figures, &format!("{share} states an entity"), &served);
        }
    }
    stage.clear().await
}

async fn drain(
    stage: &mut Stage,
    load: Load,
    workers: usize,
    settings: &[(&str, &str)],
) -> Result<Served> {
    stage.clear().await?;
    serve(stage, load, workers, settings).await
}

fn note(figures: &mut Figures, case: &str, served: &Served) {
    let drained = &served.drained;
    figures.add("scale", case, "service", "records/s", drained.per_second);
    figures.add(
        "scale",
        case,
        "service's CPU a record",
        "µs",
        drained.cpu_us,
    );
    figures.add(
        "scale",
        case,
        "mongod's CPU a record",
        "µs",
        drained.mongod_cpu_us,
    );
    figures.add(
        "scale",
        case,
        "peak memory",
        "MiB",
        served.peak_memory_bytes as f64 / f64::from(1 << 20),
    );
    figures.add("scale", case, "folded", "%", 100.0 * served.folded);
}
