//! A full topic through the service, and beside it the ceiling, with the broker and without.

use anyhow::{Context as _, Result};
use local_stack::observe;

use crate::ceiling::Ceiling;
use crate::figures::Figures;
use crate::load::Load;
use crate::stage::{Drained, Service, Stage};

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
    let mut cores = Cores {
        processors: std::thread::available_parallelism()?.get(),
        apart: false,
    };
    for round in 0..rounds {
        for (load, ceiling) in &all {
            side_by_side(stage, *load, ceiling, round, cores, figures).await?;
        }
    }
    if let Some((load, ceiling)) = all.last() {
        stage.part()?;
        cores.apart = true;
        for round in 0..rounds {
            side_by_side(stage, *load, ceiling, round, cores, figures).await?;
        }
        stage.unite()?;
    }
    stage.clear().await
}

/// Who may run where.
#[derive(Clone, Copy)]
struct Cores {
    /// How many there are.
    processors: usize,
    /// Whether mongod has the last one and everything else the others, as [`Stage::part`] has it.
    apart: bool,
}

impl Cores {
    /// The records a second at which no core would ever idle, had each record cost what it did in
    /// this run. Apart, each side has cores of its own, and the busier one decides.
    fn bound(self, drained: &Drained) -> f64 {
        let ours = drained.cpu_us + drained.broker_cpu_us;
        let mongods = drained.mongod_cpu_us;
        let us_a_record = match self.apart {
            false => (ours + mongods) / self.processors as f64,
            true => (ours / (self.processors - 1) as f64).max(mongods),
        };
        1e6 / us_a_record
    }
}

/// What is measured in turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// One worker.
    Service,
    /// The loader, which also consumes the topic.
    Ceiling,
    /// The loader alone.
    CeilingWithoutBroker,
}

impl Side {
    /// The ceiling stands beside the service, whoever goes first.
    const ALL: [Side; 3] = [Side::Service, Side::Ceiling, Side::CeilingWithoutBroker];
    /// What the service is compared with.
    const CEILINGS: [Side; 2] = [Side::Ceiling, Side::CeilingWithoutBroker];

    /// All of them, in the order of this round: who goes first alternates.
    pub fn in_turn(round: usize) -> [Side; 3] {
        let mut sides = Side::ALL;
        if !round.is_multiple_of(2) {
            sides.reverse();
        }
        sides
    }

    /// What its rows are called.
    pub fn name(self) -> &'static str {
        match self {
            Side::Service => "service",
            Side::Ceiling => "ceiling",
            Side::CeilingWithoutBroker => "ceiling without a broker",
        }
    }

    /// Drains a load by this side, over what there is; of the service, what else there is to say.
    pub async fn drain(
        self,
        stage: &mut Stage,
        load: Load,
        ceiling: &Ceiling,
    ) -> Result<(Drained, Option<Served>)> {
        match self {
            Side::Service => {
                let served = serve(stage, load, 1, &[]).await?;
                Ok((served.drained, Some(served)))
            }
            Side::Ceiling => Ok((ceiling.drain(stage, true).await?, None)),
            Side::CeilingWithoutBroker => Ok((ceiling.drain(stage, false).await?, None)),
        }
    }
}

/// Service and ceilings in turn, each into an empty database and again over what is there.
async fn side_by_side(
    stage: &mut Stage,
    load: Load,
    ceiling: &Ceiling,
    round: usize,
    cores: Cores,
    figures: &mut Figures,
) -> Result<()> {
    let apart = if cores.apart { ", apart" } else { "" };
    let cases = ["empty", "existing"]
        .map(|state| format!("{} partitions, {state}{apart}", load.partitions));
    let mut rates = [[0.0; Side::ALL.len()]; 2];
    for side in Side::in_turn(round) {
        stage.clear().await?;
        for (case, rates) in cases.iter().zip(&mut rates) {
            let (drained, served) = side.drain(stage, load, ceiling).await?;
            if let Some(served) = served {
                note(figures, case, &served, stage.filled(load).await?.1);
                let bound = cores.bound(&drained);
                let share = drained.per_second / bound;
                figures.add("drain", case, "work-conserving bound", "records/s", bound);
                figures.add("drain", case, "service ÷ work-conserving bound", "", share);
            }
            note_side(figures, case, side, &drained);
            rates[side as usize] = drained.per_second;
        }
    }
    for (case, rates) in cases.iter().zip(rates) {
        for side in Side::CEILINGS {
            let name = format!("service ÷ {}", side.name());
            let ratio = rates[Side::Service as usize] / rates[side as usize];
            figures.add("drain", case, &name, "", ratio);
        }
    }
    Ok(())
}

fn note_side(figures: &mut Figures, case: &str, side: Side, drained: &Drained) {
    let name = side.name();
    figures.add("drain", case, name, "records/s", drained.per_second);
    for (whose, us) in [
        (format!("{name}'s CPU a record"), drained.cpu_us),
        (
            format!("mongod's CPU a record, by {name}"),
            drained.mongod_cpu_us,
        ),
        (
            format!("broker's CPU a record, by {name}"),
            drained.broker_cpu_us,
        ),
    ] {
        figures.add("drain", case, &whose, "µs", us);
    }
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
        .await;
    let logs = || {
        let tails = services.iter().map(Service::log_tail);
        tails.collect::<Vec<_>>().join("\n")
    };
    let drained = drained.with_context(logs)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_core_idles_at_the_bound() {
        let drained = |cpu_us, mongod_cpu_us, broker_cpu_us| Drained {
            per_second: 0.0,
            cpu_us,
            mongod_cpu_us,
            broker_cpu_us,
            transactions_per_second: 0.0,
            bytes_to_mongod: 0.0,
        };
        let shared = |processors| Cores {
            processors,
            apart: false,
        };
        let apart = |processors| Cores {
            processors,
            apart: true,
        };
        // 25 µs on two cores; apart, mongod's 16 µs on one or the others' 20 µs on another.
        assert_eq!(shared(2).bound(&drained(8.0, 16.0, 1.0)), 80_000.0);
        assert_eq!(apart(2).bound(&drained(8.0, 16.0, 1.0)), 62_500.0);
        assert_eq!(apart(2).bound(&drained(18.0, 16.0, 2.0)), 50_000.0);
        assert_eq!(apart(3).bound(&drained(18.0, 16.0, 2.0)), 62_500.0);
    }
}
