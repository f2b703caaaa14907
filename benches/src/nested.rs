//! Large entities with few names and much in them, beside the ceilings of the same load.

use anyhow::{Context as _, Result};

use crate::ceiling::Ceiling;
use crate::drain::Side;
use crate::figures::Figures;
use crate::load::{Load, Shape};
use crate::scale::SIZED_BYTES;
use crate::stage::{Drained, Stage};

const SIZES_BYTES: [usize; 3] = [20_000, 200_000, 1_000_000];
const MIB: f64 = (1 << 20) as f64;

/// One size.
struct Size {
    case: String,
    load: Load,
    ceiling: Ceiling,
    /// Of a record, key and value, in 10^6 bytes.
    record_mb: f64,
}

/// Takes the figures.
pub async fn measure(
    stage: &mut Stage,
    whole: Load,
    rounds: usize,
    figures: &mut Figures,
) -> Result<()> {
    let mut sizes = Vec::new();
    for bytes in SIZES_BYTES {
        let states = (SIZED_BYTES / bytes).min(whole.states);
        let load = Load {
            states,
            entities: states.div_ceil(2),
            shape: Shape::Nested { bytes },
            ..whole
        };
        let (topic, filled_bytes) = stage.filled(load).await?;
        let bootstrap = stage.bootstrap();
        let read =
            tokio::task::spawn_blocking(move || Ceiling::read(&bootstrap, &topic, load.partitions));
        sizes.push(Size {
            case: format!("nested entities of {} KB", bytes / 1_000),
            load,
            ceiling: read.await??,
            record_mb: filled_bytes as f64 / states as f64 / 1e6,
        });
    }
    for round in 0..rounds {
        let mut of_smallest = None;
        for size in &sizes {
            let cpu_ms = size.measure(stage, round, figures).await?;
            let ratio = cpu_ms / *of_smallest.get_or_insert(cpu_ms);
            figures.add("scale", &size.case, "CPU a MB ÷ that at 20 KB", "", ratio);
        }
    }
    stage.clear().await
}

impl Size {
    /// Service and ceilings in turn, each into an empty database. Returns the service's CPU a MB, in
    /// milliseconds.
    async fn measure(&self, stage: &mut Stage, round: usize, figures: &mut Figures) -> Result<f64> {
        let mut of_service = None;
        let mut rates = Vec::new();
        for side in Side::in_turn(round) {
            stage.clear().await?;
            let (drained, served) = side.drain(stage, self.load, &self.ceiling).await?;
            self.note(figures, side.name(), &drained);
            rates.push((side, drained.per_second));
            if let Some(served) = served {
                let memory = served.peak_memory_bytes as f64 / MIB;
                figures.add("scale", &self.case, "peak memory", "MiB", memory);
                of_service = Some(drained);
            }
        }
        let service = of_service.context("the service has its turn")?;
        for (side, rate) in rates {
            if side != Side::Service {
                let name = format!("service ÷ {}", side.name());
                let ratio = service.per_second / rate;
                figures.add("scale", &self.case, &name, "", ratio);
            }
        }
        Ok(self.ms_a_mb(service.cpu_us))
    }

    fn note(&self, figures: &mut Figures, side: &str, drained: &Drained) {
        let rate = drained.per_second * self.record_mb;
        figures.add("scale", &self.case, side, "MB/s", rate);
        let (own, mongods) = (drained.cpu_us, drained.mongod_cpu_us);
        for (whose, cpu_us) in [
            (format!("{side}'s CPU a MB"), own),
            (format!("mongod's CPU a MB, by {side}"), mongods),
        ] {
            figures.add("scale", &self.case, &whose, "ms", self.ms_a_mb(cpu_us));
        }
    }

    /// Microseconds a record in milliseconds a MB.
    fn ms_a_mb(&self, us: f64) -> f64 {
        us / 1e3 / self.record_mb
    }
}
