//! `make bench`: the service beside its ceiling and its peers, on servers of its own, in one run.

mod allocations;
mod beside;
mod ceiling;
mod commands;
mod connector;
mod discarding;
mod drain;
mod figures;
mod freshness;
mod goals;
mod load;
mod nested;
mod plot;
mod rest;
mod scale;
mod sending;
mod sequential;
mod stage;
mod standstill;
mod start;
mod visible;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use figures::Figures;
use load::{Load, Shape};
use stage::Stage;

#[derive(Parser)]
struct Options {
    /// The service's binary, of a release build.
    #[arg(long)]
    sink: PathBuf,
    /// How many records the topic holds.
    #[arg(long, default_value_t = 200_000)]
    states: usize,
    /// Of how many entities.
    #[arg(long, default_value_t = 45_000)]
    entities: usize,
    /// How often each figure is taken.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// What to measure.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "drain,beside,cost,freshness,standstill,start,rest,scale,commands,peers"
    )]
    only: Vec<Section>,
    /// The folder for bench.json and bench.svg.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// A bench.json of another commit to compare with.
    #[arg(long)]
    against: Option<PathBuf>,
    /// Another build of the service, to drain in turn with this one.
    #[arg(long)]
    beside: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// A full topic, and its ceiling.
    Drain,
    /// Another build of the service in turn with this one, where one is given.
    Beside,
    /// Allocations.
    Cost,
    /// From a record's time to its place in the database.
    Freshness,
    /// A partition while workers leave, join and are replaced.
    Standstill,
    /// From nothing to ready, and from a dead worker to the next one.
    Start,
    /// Idle.
    Rest,
    /// How cost grows.
    Scale,
    /// Letters listed and replayed, and an entity explained.
    Commands,
    /// The connector, and a loop of single updates.
    Peers,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let against = options
        .against
        .as_ref()
        .map(|path| Figures::read(path))
        .transpose()?;
    std::fs::create_dir_all(&options.out)?;
    let load = Load {
        partitions: 12,
        states: options.states,
        entities: options.entities,
        shape: Shape::Realistic,
    };
    let mut figures = Figures::default();
    let mut stage = Stage::start(&options.sink).await?;
    for section in &options.only {
        let name = section.to_possible_value().context("a section")?;
        println!("== {}", name.get_name());
        match section {
            Section::Drain => {
                drain::measure(&mut stage, load, options.rounds, &mut figures).await?;
            }
            Section::Beside => match &options.beside {
                Some(build) => {
                    beside::measure(&mut stage, load, build, options.rounds, &mut figures).await?;
                }
                None => println!("   no other build is given: --beside"),
            },
            Section::Cost => allocations::measure(&mut stage, load, &mut figures).await?,
            Section::Freshness => {
                freshness::measure(&mut stage, options.rounds, &mut figures).await?;
            }
            Section::Standstill => {
                standstill::measure(&mut stage, options.rounds, &mut figures).await?;
            }
            Section::Start => start::measure(&mut stage, options.rounds, &mut figures).await?,
            Section::Rest => rest::measure(&mut stage, options.rounds, &mut figures).await?,
            Section::Scale => {
                scale::measure(&mut stage, load, options.rounds, &mut figures).await?;
                nested::measure(&mut stage, load, options.rounds, &mut figures).await?;
            }
            Section::Commands => {
                commands::measure(&mut stage, load, options.rounds, &mut figures).await?
            }
            Section::Peers => {
                sequential::measure(&mut stage, load, options.rounds, &mut figures).await?;
                connector::measure(&mut stage, load, options.rounds, &mut figures).await?;
            }
        }
        // After each section, so that a run that is cut short leaves what it has.
        figures.write(&options.out.join("bench.json"))?;
        plot::draw(&options.out.join("bench.svg"), &figures)?;
    }
    println!("{}", figures.table(against.as_ref()));
    println!("{}", goals::table(&figures));
    println!("In {}: bench.json and bench.svg.", options.out.display());
    Ok(())
}
