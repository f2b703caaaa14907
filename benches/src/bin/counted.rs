//! The service, with every allocation of its Rust part counted. In the end it says how many there
//! were.

use anyhow::Result;
use workflows_sink::config::Config;
use workflows_sink::service;
use workflows_sink::telemetry::logging;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn main() -> Result<()> {
    let profiler = dhat::Profiler::builder().testing().build();
    let config = Config::from_env()?;
    logging::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(service::run(config))?;
    let stats = dhat::HeapStats::get();
    eprintln!("\nallocations: {}", stats.total_blocks);
    drop(profiler);
    Ok(())
}
