//! A full topic through the service, and beside it the ceiling.

use anyhow::Result;
use local_stack::observe;

use crate::ceiling::Ceiling;
use crate::figures::Figures;
use crate::stage::{Drained, Load, Stage};

const PARTITIONS: [i32; 3] = [1, 4, 12];
const MIB: f64 = (1 << 20) as f64;

/// The result of a service, beside what [`Drained`] says.
pub struct Served {
    /// The way of the load.
    pub drained: Drained,
    /// The most memory that any worker had, in bytes.
    pub peak_memory_bytes: u64,
    /// The share of the records that a later one made needless.
    pub folded: f64,
}

/// Takes the figures, and those of 12 partitions again with mongod on a core of its own.
pub async fn measure(
    stage: &mut Stage,
    load: Load,
    rounds: usize,
    figures: &mut Figures,
) -> Result<()> {
    let mut all = Vec::new();
    for partitions in PARTITIONS {
        let load = Load { partitions, ..load };
        let (topic, _) = stage.filled(load).await?;
        let bootstrap = stage.bootstrap();
        let read =
            tokio::task::spawn_blocking(move || Ceiling::read(&bootstrap, &topic, partitions));
        all.push((load, read.await??));
    }
    for round in 0..rounds {
        for (load, ceiling) in &all {
            pair(stage, *load, ceiling, round, "", figures).await?;
        }
    }
    if let Some((load, ceiling)) = all.last() {
        stage.part()?;
        for round in 0..rounds {
            pair(stage, *load, ceiling, round, ", apart", figures).await?;
        }
        stage.unite()?;
    }
    stage.clear().await
}

/// Service and ceiling, each into an empty database and again over what is there; who goes first
/// alternates.
async fn pair(
    stage: &mut Stage,
    load: Load,
    ceiling: &Ceiling,
    round: usize,
    cores: &str,
    figures: &mut Figures,
) -> Result<()> {
    let cases = ["empty", "existing"]
        .map(|state| format!("{} partitions, {state}{cores}", load.partitions));
    let mut ratios = [1.0, 1.0];
    for turn in 0..2 {
        stage.clear().await?;
        let service = (round + turn).is_multiple_of(2);
        for (case, ratio) in cases.iter().zip(&mut ratios) {
            let (drained, name) = if service {
                let served = serve(stage, load, 1, &[]).await?;
                note(figures, case, &served, stage.filled(load).await?.1);
                (served.drained, "service")
            } else {
                (ceiling.drain(stage).await?, "ceiling")
            };
            figures.add("drain", case, name, "records/s", drained.per_second);
            figures.add(
                "drain",
                case,
                &format!("{name}'s CPU a record"),
                "µs",
                drained.cpu_us,
            );
            figures.add(
                "drain",
                case,
                &format!("mongod's CPU a record, by {name}"),
                "µs",
                drained.mongod_cpu_us,
            );
            *ratio *= if service {
                drained.per_second
            } else {
                1.0 / drained.per_second
            };
        }
    }
    for (case, ratio) in cases.iter().zip(ratios) {
        figures.add("drain", case, "service ÷ ceiling", "", ratio);
    }
    Ok(())
}

fn note(figures: &mut Figures, case: &str, served: &Served, bytes_from_kafka: usize) {
    let drained = &served.drained;
    figures.add(
        "drain",
        case,
        "service's peak memory",
        "MiB",
        served.peak_memory_bytes as f64 / MIB,
    );
    figures.add(
        "drain",
        case,
        "transactions",
        "1/s",
        drained.transactions_per_second,
    );
    figures.add("drain", case, "folded", "%", 100.0 * served.folded);
    let bytes = drained.bytes_to_mongod / bytes_from_kafka as f64;
    figures.add(
        "drain",
        case,
        "bytes to MongoDB a byte from Kafka",
        "",
        bytes,
    );
}

/// Drains a load by `workers` workers of one new group.
pub async fn serve(
    stage: &mut Stage,
    load: Load,
    workers: usize,
    settings: &[(&str, &str)],
) -> Result<Served> {
    let (topic, _) = stage.filled(load).await?;
    let group = stage.name("group");
    let mut services = Vec::new();
    for _ in 0..workers {
        services.push(stage.spawn(&topic, &group, settings)?);
    }
    let pids: Vec<_> = services
        .iter()
        .map(|service| service.pid())
        .collect::<Result<_>>()?;
    let drained = stage
        .follow(
            load.states,
            async || {
                let mut settled = 0;
                for service in &mut services {
                    settled += service.settled().await?;
                }
                Ok(settled)
            },
            || pids.iter().map(|pid| Ok(observe::usage(*pid)?.cpu)).sum(),
        )
        .await?;
    let (mut peak_memory_bytes, mut folded) = (0, 0.0);
    for mut service in services {
        peak_memory_bytes = peak_memory_bytes.max(service.usage()?.peak_memory_bytes);
        let metrics = service.metrics().await?;
        let settled = observe::samples(&metrics, "workflows_sink_records_settled_total");
        folded += settled
            .iter()
            .filter(|(labels, _)| labels.contains("folded"))
            .map(|(_, n)| n)
            .sum::<f64>();
        service.stop().await?;
    }
    Ok(Served {
        drained,
        peak_memory_bytes,
        folded: folded / load.states as f64,
    })
}
