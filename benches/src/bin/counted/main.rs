//! The service, with every allocation counted, of its Rust part and of what it links in C. In the
//! end it says how many there were.

mod counting;

use anyhow::Result;
use workflows_sink::config::Config;
use workflows_sink::service;
use workflows_sink::telemetry::logging;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

fn main() -> Result<()> {
    let config = Config::from_env()?;
    logging::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(service::run(config))?;
    let (by_rust, by_c) = counting::counts();
    eprintln!("\nallocations: {by_rust}\nallocations in C: {by_c}");
    Ok(())
}
