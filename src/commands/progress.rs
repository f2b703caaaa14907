//! How far a long command has got, on standard error: a bar on a terminal, else a line now and
//! then.

use std::cell::Cell;
use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::text::thousands;

/// How often progress is told where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What is counted, and how much of it there is.
pub(super) struct CommandProgress {
    bar: Option<ProgressBar>,
    all: i64,
    unit: &'static str,
    told: Cell<Instant>,
}

impl CommandProgress {
    /// Of `all` of these, in the plural.
    pub(super) fn new(all: i64, unit: &'static str) -> CommandProgress {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(all.unsigned_abs());
            let style = format!("{{bar:40}} {{pos}}/{{len}} {unit}, {{msg}}");
            let style = ProgressStyle::with_template(&style);
            bar.set_style(style.expect("a template of our own"));
            bar
        });
        CommandProgress {
            bar,
            all,
            unit,
            told: Cell::new(Instant::now()),
        }
    }

    /// Shows that so many are `counted`, and what is being done.
    pub(super) fn show(&self, counted: i64, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(counted.unsigned_abs());
                bar.set_message(what.to_owned());
            }
            None if self.told.get().elapsed() >= TELL_EVERY => {
                self.told.set(Instant::now());
                let (counted, all) = (thousands(counted), thousands(self.all));
                eprintln!("{counted} of {all} {}, {what}", self.unit);
            }
            None => {}
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
