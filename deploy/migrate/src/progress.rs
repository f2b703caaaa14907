//! How far a run has got, on standard error: a bar on a terminal, else a line now and then.

use std::cell::Cell;
use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const TELL_EVERY: Duration = Duration::from_secs(10);

/// A run over so many bytes or records.
pub struct Progress {
    bar: Option<ProgressBar>,
    all: Option<u64>,
    what: &'static str,
    began: Instant,
    told: Cell<Instant>,
    items: Cell<u64>,
}

impl Progress {
    /// Of `all` units of which the items of this name (in the plural) take some each; without `all`
    /// no end is told.
    pub fn new(all: Option<u64>, what: &'static str) -> Progress {
        let bar = stderr().is_terminal().then(|| {
            let bar = all.map_or_else(ProgressBar::no_length, ProgressBar::new);
            let template = "{bar:40} {percent}%, {msg}, {eta} left";
            let style = ProgressStyle::with_template(template).expect("a template of our own");
            bar.set_style(style);
            bar
        });
        let now = Instant::now();
        Progress {
            bar,
            all,
            what,
            began: now,
            told: Cell::new(now),
            items: Cell::new(0),
        }
    }

    /// One more item is done, and with it `position` units in all.
    pub fn item(&self, position: u64) {
        self.items.set(self.items.get() + 1);
        if self.items.get().is_multiple_of(256) {
            self.show(position);
        }
    }

    fn show(&self, position: u64) {
        if self.bar.is_none() && self.told.get().elapsed() < TELL_EVERY {
            return;
        }
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let (items, what) = (self.items.get(), self.what);
        let rate = items as f64 / seconds;
        let text = format!("{items} {what}, {rate:.0} a second");
        match &self.bar {
            Some(bar) => {
                bar.set_position(position);
                bar.set_message(text);
            }
            None => {
                self.told.set(Instant::now());
                let left = self.all.filter(|_| position > 0).map(|all| {
                    let left = all.saturating_sub(position) as f64 * seconds / position as f64;
                    format!(", {left:.0} s left")
                });
                eprintln!("{text}{}", left.unwrap_or_default());
            }
        }
    }

    /// It is over.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
