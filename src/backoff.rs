//! How long to wait before the next try: longer from try to try, never long, and with jitter, so
//! that lanes that fail together do not retry together.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The first wait; milliseconds, before jitter.
const WAIT_MS_MIN: u64 = 20;

/// The longest wait; milliseconds, before jitter. It also bounds how late an outage's end is
/// noticed.
const WAIT_MS_MAX: u64 = 1_000;

/// Waits that grow from try to try, without end.
#[derive(Debug)]
pub struct Backoff {
    waits: ExponentialBackoff,
    tries: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::new()
    }
}

impl Backoff {
    /// A backoff that has not waited yet.
    pub fn new() -> Self {
        let waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(WAIT_MS_MIN))
            .with_max_delay(Duration::from_millis(WAIT_MS_MAX))
            .with_jitter()
            .without_max_times()
            .build();
        Backoff { waits, tries: 0 }
    }

    /// How many waits there have been.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        self.tries = self.tries.saturating_add(1);
        let wait = self.waits.next();
        wait.expect("waits without a maximum of times do not end")
    }

    /// Waits.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_never_end() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.tries(), 0);
        let mut expected_ms = WAIT_MS_MIN;
        for tries in 1..=1_000 {
            let wait = backoff.next_wait();
            let (least, most) = (
                Duration::from_millis(expected_ms),
                Duration::from_millis(2 * expected_ms),
            );
            assert!(
                (least..=most).contains(&wait),
                "try {tries}: {wait:?}, not in {least:?}..={most:?}"
            );
            assert_eq!(backoff.tries(), tries);
            expected_ms = (expected_ms * 2).min(WAIT_MS_MAX);
        }
    }

    #[test]
    fn lanes_that_fail_together_do_not_retry_together() {
        let mut lanes: Vec<Backoff> = (0..20).map(|_| Backoff::new()).collect();
        let waits: std::collections::HashSet<_> =
            lanes.iter_mut().map(Backoff::next_wait).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
