//! Waiting for what must happen.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const POLL: Duration = Duration::from_millis(50);

/// Waits until `condition` holds; panics with `what` after [`DEADLINE`].
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    until_within(DEADLINE, what, condition).await;
}

/// [`until`], for what takes longer than most.
pub async fn until_within<F: Future<Output = bool>>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let end = Instant::now() + deadline;
    while !condition().await {
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until what `look` finds is `expected`; panics with what it found last after [`DEADLINE`].
pub async fn until_is<T: PartialEq + Debug, F: Future<Output = T>>(
    what: &str,
    expected: T,
    look: impl Fn() -> F,
) {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = look().await;
        if found == expected {
            return;
        }
        if Instant::now() > end {
            assert_eq!(found, expected, "not within {DEADLINE:?}: {what}");
        }
        tokio::time::sleep(POLL).await;
    }
}
