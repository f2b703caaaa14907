//! Progress as a bar on a terminal, as plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(2);

/// Where progress goes.
pub struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    total: usize,
    next_line: Instant,
}

impl Progress {
    /// A bar that is full at `total`.
    pub fn new(what: &'static str, total: usize) -> Result<Progress> {
        let bar = std::io::stdout().is_terminal().then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stdout());
            bar.set_prefix(what);
            bar
        });
        if let Some(bar) = &bar {
            bar.set_style(ProgressStyle::with_template(
                "  {prefix} {bar:30} {human_pos}/{human_len} {wide_msg}",
            )?);
        }
        Ok(Progress {
            bar,
            what,
            total,
            next_line: Instant::now() + LINE_EVERY,
        })
    }

    /// Shows how many are done, and what else there is to say.
    pub fn show(&mut self, done: usize, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(message());
            bar.set_position(done as u64);
        } else if Instant::now() >= self.next_line {
            self.next_line = Instant::now() + LINE_EVERY;
            println!("  {} {done}/{} {}", self.what, self.total, message());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
