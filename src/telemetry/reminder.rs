//! When a fault that lasts is logged again: silence would read as its end, and a line for each try
//! as noise.

use std::time::{Duration, Instant};

/// How long the same fault is not logged again.
const REMIND_AFTER: Duration = Duration::from_secs(300);

/// How long any line is followed by none, however the cause changes: causes may alternate.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// When the last line was logged, and about which cause.
#[derive(Debug, Default)]
pub struct Reminder {
    last: Option<(Instant, String)>,
}

impl Reminder {
    /// Whether a line about `cause` is due: the first, one about another cause, and the same again
    /// every five minutes. Numbers make no other cause.
    pub fn is_due(&mut self, cause: &str) -> bool {
        self.is_due_at(Instant::now(), cause)
    }

    fn is_due_at(&mut self, now: Instant, cause: &str) -> bool {
        let cause: String = cause.chars().filter(|c| !c.is_ascii_digit()).collect();
        let is_due = match &self.last {
            None => true,
            Some((at, last)) if *last == cause => now.duration_since(*at) >= REMIND_AFTER,
            Some((at, _)) => now.duration_since(*at) >= SILENT_FOR,
        };
        if is_due {
            self.last = Some((now, cause));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_logged_when_it_begins_when_it_changes_and_every_five_minutes() {
        let (mut reminder, began) = (Reminder::default(), Instant::now());
        let mut is_due =
            |second, cause| reminder.is_due_at(began + Duration::from_secs(second), cause);
        assert!(is_due(0, "connection refused, 1 try"));
        assert!(!is_due(1, "connection refused, 2 tries 3"));
        assert!(!is_due(2, "a wrong password"), "not line after line");
        assert!(is_due(10, "a wrong password"));
        assert!(!is_due(309, "a wrong password"));
        assert!(is_due(310, "a wrong password"));
        assert!(is_due(320, "connection refused"));
    }
}
