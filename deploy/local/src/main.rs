//! The local stack by hand: start it, watch the demo, fill the cache.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use local_stack::demo::{self, DemoOptions, Running};
use local_stack::{
    Generator, KafkaOptions, MongoOptions, Stack, Topology, install, kubernetes, prometheus,
};
use tokio::signal::unix::{SignalKind, signal};

/// A real Kafka broker and a real MongoDB replica set on loopback, without containers.
///
/// STACK_MONGODB_URI and STACK_KAFKA_BOOTSTRAP name servers to use instead; STACK_MONGOD names a
/// mongod to start.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Start both, print what to export, run until Ctrl-C
    Up {
        /// Members of the replica set
        #[arg(long, default_value_t = 1)]
        members: usize,
        /// MongoDB without users
        #[arg(long)]
        no_auth: bool,
    },
    /// Watch entities go from the broker through the service into the replica set
    Demo {
        /// The service's binary
        #[arg(long)]
        sink: PathBuf,
        #[command(flatten)]
        entities: Entities,
        /// Start a Prometheus too, and print the dashboard's figures
        #[arg(long)]
        observe: bool,
        /// Stay up until Ctrl-C
        #[arg(long)]
        stay: bool,
    },
    /// Print entities: id, TAB, JSON
    Generate {
        #[command(flatten)]
        entities: Entities,
    },
    /// Download and build everything, so that the rest needs no network
    Fetch,
    /// Build a later Prometheus than Debian's, and print the folder of its programs
    LaterPrometheus,
    /// Run Prometheus' promtool
    Promtool {
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(clap::Args)]
struct Entities {
    /// The same seed gives the same entities
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Distinct entities
    #[arg(long, default_value_t = 45_000)]
    entities: usize,
    /// States of them in all
    #[arg(long, default_value_t = 200_000)]
    states: usize,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(run(arguments.command));
    // A download or a producer may still be at work on another thread: do not wait for it.
    runtime.shutdown_background();
    result
}

async fn run(command: Subcommands) -> Result<ExitCode> {
    match command {
        Subcommands::Up { members, no_auth } => {
            let topology = Topology::ReplicaSet(members);
            let mongo = MongoOptions {
                topology,
                auth: !no_auth,
                ..Default::default()
            };
            unless_interrupted(up(mongo)).await
        }
        Subcommands::Demo {
            sink,
            entities:
                Entities {
                    seed,
                    entities,
                    states,
                },
            observe,
            stay,
        } => {
            let stay = (!stay).then_some(Duration::from_secs(5));
            let options = DemoOptions {
                sink,
                seed,
                entities,
                states,
                observe,
                stay,
            };
            let mut running = Running::default();
            let result = unless_interrupted(demo::run(&options, &mut running)).await;
            let stopped = running.stop().await;
            result.and_then(|code| stopped.map(|()| code))
        }
        Subcommands::Generate {
            entities:
                Entities {
                    seed,
                    entities,
                    states,
                },
        } => {
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            for state in Generator::new(seed, entities, states) {
                writeln!(out, "{}\t{}", state.id, state.json)?;
            }
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Subcommands::Fetch => {
            for fetch in [
                install::mongod,
                install::kafka_jars,
                install::promtool,
                install::prometheus,
                install::hadolint,
                install::toxiproxy,
                install::faketime,
                kubernetes::programs,
            ] {
                println!("{}", tokio::task::spawn_blocking(fetch).await??.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Subcommands::LaterPrometheus => {
            let folder = tokio::task::spawn_blocking(prometheus::later).await??;
            println!("{}", folder.display());
            Ok(ExitCode::SUCCESS)
        }
        Subcommands::Promtool { arguments } => {
            let promtool = tokio::task::spawn_blocking(install::promtool).await??;
            let status = Command::new(promtool)
                .args(arguments)
                .status()
                .context("cannot run promtool")?;
            Ok(if status.success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

async fn up(mongo: MongoOptions) -> Result<()> {
    let stack = Stack::start(mongo, KafkaOptions::default()).await?;
    stack.topics()?.create_state_topic().await?;
    for (name, value) in stack.environment() {
        println!("export {name}='{value}'");
    }
    if let Some(mongo) = &stack.mongo {
        println!("# everything is allowed to: {}", mongo.admin_uri());
    }
    println!("# up until Ctrl-C");
    std::future::pending().await
}

/// Drops the future, and with it every server that it holds, when the user or the system asks to
/// stop.
async fn unless_interrupted(work: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        result = work => result.map(|()| ExitCode::SUCCESS),
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
        _ = hangup.recv() => Ok(ExitCode::from(129)),
    }
}
