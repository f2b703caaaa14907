//! The parts that run beside the lanes: each by name, so that the end of one that must not end ends
//! the process and says which it was.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::kafka::{NewLane, Poller};
use crate::lane::{self, Lanes};
use crate::signals::{EXIT_INTERRUPTED, StopSignals};
use crate::telemetry::causes::told;
use crate::telemetry::code::Code;
use crate::telemetry::health::{Health, Loop};

/// Where a part reports what ends the process. Nobody receives it once the process ends.
pub(super) type Fatal = mpsc::UnboundedSender<String>;

/// Runs a part that must not end; reports its end, of whatever kind, by `name`.
pub(super) fn supervise(
    name: &'static str,
    fatal: &Fatal,
    part: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) {
    let (task, fatal) = (tokio::spawn(part), fatal.clone());
    tokio::spawn(async move {
        let end = match task.await {
            Ok(Ok(())) => "it returned".to_owned(),
            Ok(Err(error)) => told(&error),
            Err(error) => error.to_string(),
        };
        let _ = fatal.send(format!("{name} ended: {end}"));
    });
}

/// Runs a part that fails in no other way than to end.
pub(super) fn supervise_endless(
    name: &'static str,
    fatal: &Fatal,
    part: impl Future<Output = ()> + Send + 'static,
) {
    supervise(name, fatal, async move {
        part.await;
        Ok(())
    });
}

/// The first signal asks the poll thread to finish, the second ends the process.
pub(super) fn watch_signals(stop: watch::Sender<bool>) -> anyhow::Result<()> {
    let mut signals = StopSignals::watch()?;
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("stopping: finishing what is under way (a second signal ends it at once)");
        stop.send_replace(true);
        signals.next().await;
        tracing::warn!(code = %Code::EndedAtOnce, "ending at once; what was under way will be read again");
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(())
}

/// Starts the poll thread; what it returns in the end is received here.
pub(super) fn poll(
    poller: Poller,
    config: &Config,
    stop: watch::Receiver<bool>,
    health: Arc<Health>,
) -> anyhow::Result<oneshot::Receiver<anyhow::Result<()>>> {
    let (topics, drain_deadline) = (config.kafka.topics.clone(), config.limits.drain_deadline);
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("poll".into())
        .spawn(move || {
            let beat = move |joined| {
                health.turned(Loop::Poll);
                health.set_joined(joined);
            };
            let _ = ended.send(poller.run(&topics, stop, drain_deadline, beat));
        })
        .context("the poll thread could not be started")?;
    Ok(end)
}

/// Starts a task for each lane, and reports the one that panics.
pub(super) fn lane_starter(lanes: Arc<Lanes>) -> impl Fn(NewLane) + Send + Sync {
    let runtime = tokio::runtime::Handle::current();
    move |lane: NewLane| {
        let name = format!("lane {}", lane.partition);
        let fatal = lanes.fatal.clone();
        let task = runtime.spawn(lane::run(Arc::clone(&lanes), lane));
        runtime.spawn(async move {
            if let Err(error) = task.await {
                let _ = fatal.send(format!("{name} ended: {error}"));
            }
        });
    }
}
