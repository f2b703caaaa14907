//! The signals that ask a process to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a process that a second one has ended at once.
pub const EXIT_INTERRUPTED: i32 = 130;

/// SIGTERM and SIGINT, from when they are watched on.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Watches them: from now on neither ends the process by itself.
    ///
    /// # Errors
    /// The operating system's, which does not let them be watched.
    pub fn watch() -> anyhow::Result<StopSignals> {
        let watched = |kind, name| {
            signal(kind).map_err(|error| anyhow::anyhow!("{name} cannot be watched: {error}"))
        };
        Ok(StopSignals {
            terminate: watched(SignalKind::terminate(), "SIGTERM")?,
            interrupt: watched(SignalKind::interrupt(), "SIGINT")?,
        })
    }

    /// Returns at the next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
