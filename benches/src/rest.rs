//! What the service uses when there is nothing to do.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use crate::figures::Figures;
use crate::stage::Stage;

/// Claims and first looks have ended by then, and the quicker polls that follow an assignment.
const SETTLE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(20);

/// Takes the figures.
pub async fn measure(stage: &mut Stage, rounds: usize, figures: &mut Figures) -> Result<()> {
    for partitions in [12, 192] {
        let topic = stage.topic(partitions).await?;
        for _ in 0..rounds {
            stage.clear().await?;
            let group = stage.name("group");
            let mut service = stage.spawn(&topic, &group, &[])?;
            service.ready().await?;
            sleep(SETTLE).await;
            let (began, before) = (Instant::now(), service.usage()?.cpu);
            sleep(LOOK).await;
            let usage = service.usage()?;
            let share = (usage.cpu - before).as_secs_f64() / began.elapsed().as_secs_f64();
            let case = format!("{partitions} partitions");
            figures.add("rest", &case, "CPU", "% of a core", 100.0 * share);
            figures.add(
                "rest",
                &case,
                "memory",
                "MiB",
                usage.memory_bytes as f64 / f64::from(1 << 20),
            );
            service.stop().await?;
        }
    }
    stage.clear().await
}
