//! A demo that is observed: a Prometheus with the shipped rules, and at the end the figures of the
//! dashboard.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use crate::board::{Panel, panels};
use crate::prometheus::{Prometheus, shipped_rules};

/// How long a target may take until it is scraped, and a rule until it is evaluated.
const SEEN_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);
/// What rates are over: the demo is short.
const WINDOW: &str = "1m";
/// How many series of a panel are printed at most.
const SERIES_MAX: usize = 6;
/// What is only there when the rules have seen the service, and that all is applied.
const SEEN: &str = "workflows_sink:lag_records:sum == 0 \
    and on () max(workflows_sink:partition_age_seconds:max) == 0";

/// The Prometheus beside the demo.
pub(crate) struct Observed(Prometheus);

impl Observed {
    /// Starts it; it scrapes `address` from now on, whether the service listens there yet or not.
    pub(crate) async fn start(address: &str) -> Result<Observed> {
        println!("Starting a Prometheus with the shipped rules …");
        let prometheus = Prometheus::start(&shipped_rules()).await?;
        prometheus.scrape(&[(address, &[])])?;
        let observed = Observed(prometheus);
        observed.wait_for("up").await?;
        Ok(observed)
    }

    async fn wait_for(&self, expression: &str) -> Result<()> {
        let end = Instant::now() + SEEN_DEADLINE;
        while self.0.query(expression)?.is_empty() {
            ensure!(
                Instant::now() < end,
                "Prometheus does not know {expression}"
            );
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Prints what the dashboard would show now, and the alerts.
    pub(crate) async fn print(&self) -> Result<()> {
        self.wait_for(SEEN).await?;
        println!("\nThe dashboard (http://{}):", self.0.address());
        for panel in panels() {
            println!("  {:<40} {}", panel.title, self.line(&panel)?);
        }
        let firing = self.0.alerts()?.into_iter().filter(|alert| alert.fires);
        let firing: Vec<String> = firing.map(|alert| alert.name).collect();
        let firing = if firing.is_empty() {
            "none".to_owned()
        } else {
            firing.join(", ")
        };
        println!("  {:<40} {firing}", "Alerts that fire");
        Ok(())
    }

    /// What is not 0 of a panel, the largest first.
    fn line(&self, panel: &Panel) -> Result<String> {
        let mut figures = panel.figures(&self.0, WINDOW)?;
        if figures.is_empty() {
            return Ok("– (no sidecar runs here)".to_owned());
        }
        figures.retain(|(_, value)| *value != 0.0 && !value.is_nan());
        if figures.is_empty() {
            return Ok(panel.shown(0.0));
        }
        figures.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let left_out = figures.len().saturating_sub(SERIES_MAX);
        let shown = figures.iter().take(SERIES_MAX).map(|(name, value)| {
            let value = panel.shown(*value);
            if name.is_empty() {
                value
            } else {
                format!("{name} {value}")
            }
        });
        let mut line = shown.collect::<Vec<_>>().join(", ");
        if left_out > 0 {
            line += &format!(" and {left_out} more");
        }
        Ok(line)
    }
}
