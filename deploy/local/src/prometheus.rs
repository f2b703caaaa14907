//! A real Prometheus on loopback: it scrapes what it is told to, each second, and evaluates the
//! shipped rules.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::install;
use crate::kubernetes::go::Programs;
use crate::port;
use crate::process::Server;

/// Its third major version counts what happened in a range otherwise than Debian's second.
const LATER: Programs = Programs {
    name: "Prometheus",
    module: "github.com/prometheus/prometheus@v0.316.0",
    sum: "h1:f1GRFerhTMKQma+awCoC9T820ecWeGSdF+xAlMHzZzM=",
    packages: &["./cmd/prometheus", "./cmd/promtool"],
    adapt: None,
};
const START_DEADLINE: Duration = Duration::from_secs(60);
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// Of the rules, as they are shipped.
const RULES: &str = include_str!("../../kubernetes/components/observability/rules.yaml");
/// How often they are evaluated in a cluster. Here it is each second, so that nobody waits.
const INTERVAL: &str = "interval: 30s";

/// Labels, without the name of the metric.
pub type Labels = BTreeMap<String, String>;

/// What something was: seconds since 1970, and value.
pub type Points = Vec<(f64, f64)>;

/// The folder of `prometheus` and `promtool` 3.16, compiled: on the `PATH` they are used in place of
/// Debian's.
///
/// # Errors
/// Go, or the module, cannot be had.
pub fn later() -> Result<PathBuf> {
    LATER.folder()
}

/// The shipped rules, as Prometheus reads them: what is below `spec`, to be evaluated each second.
pub fn shipped_rules() -> String {
    let (_, spec) = RULES.split_once("\nspec:\n").expect("rules");
    let lines = spec
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line));
    let lines: Vec<&str> = lines.collect();
    lines.join("\n").replace(INTERVAL, "interval: 1s")
}

/// The shipped rules without `for`: an alert fires as soon as its expression is true. Windows stay
/// as they are.
pub fn shipped_rules_at_once() -> String {
    let rules = shipped_rules();
    let lines = rules.lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("for: "));
    lines.collect::<Vec<_>>().join("\n")
}

/// An alert, pending or firing.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// Whether it fires; else it waits.
    pub fires: bool,
    /// All its labels.
    pub labels: Labels,
}

/// The process. Dropped, it is killed.
pub struct Prometheus {
    server: Server,
    address: String,
    agent: ureq::Agent,
}

impl Prometheus {
    /// Installs it, if need be, and starts it with these rules. It scrapes nothing yet.
    pub async fn start(rules: &str) -> Result<Prometheus> {
        let program = tokio::task::spawn_blocking(install::prometheus).await??;
        let address = format!("127.0.0.1:{}", port::free()?);
        let mut server = Server::new("prometheus")?;
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{
                "job_name": "workflows-sink",
                "file_sd_configs": [{ "files": ["targets.json"], "refresh_interval": "1s" }],
            }],
        });
        let directory = server.directory().to_owned();
        // JSON is YAML.
        fs::write(directory.join("config.yaml"), config.to_string())?;
        fs::write(directory.join("rules.yaml"), rules)?;
        fs::write(directory.join("targets.json"), "[]")?;
        let option = |name: &str, value: &str| format!("--{name}={value}");
        let path = |name: &str| directory.join(name).display().to_string();
        server.command([
            program.display().to_string(),
            option("config.file", &path("config.yaml")),
            option("storage.tsdb.path", &path("data")),
            option("web.listen-address", &address),
            option("log.level", "warn"),
        ]);
        server.start()?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_DEADLINE))
            // What is wrong with a question is in the body.
            .http_status_as_error(false)
            .build();
        let mut prometheus = Prometheus {
            server,
            address,
            agent: agent.into(),
        };
        prometheus.wait_until_ready().await?;
        Ok(prometheus)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let end = Instant::now() + START_DEADLINE;
        let url = format!("http://{}/-/ready", self.address);
        loop {
            let answer = self.agent.get(&url).call();
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return Ok(());
            }
            self.server.check()?;
            ensure!(
                Instant::now() < end,
                "not ready:\n{}",
                self.server.log_tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// `host:port` of its pages and its API.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Scrapes `/metrics` of these from now on, and of no others: address, and labels that each of
    /// its series gets, as a cluster gives them. It takes up to some seconds until that is so.
    pub fn scrape(&self, targets: &[(&str, &[(&str, &str)])]) -> Result<()> {
        let group = |(address, labels): &(&str, &[(&str, &str)])| {
            let labels: BTreeMap<_, _> = labels.iter().copied().collect();
            json!({ "targets": [address], "labels": labels })
        };
        let groups: Vec<Value> = targets.iter().map(group).collect();
        let directory = self.server.directory();
        // At once whole.
        let new = directory.join("targets.new");
        fs::write(&new, Value::from(groups).to_string())?;
        fs::rename(new, directory.join("targets.json"))?;
        Ok(())
    }

    /// What an expression is now, by labels.
    pub fn query(&self, expression: &str) -> Result<Vec<(Labels, f64)>> {
        let data = self.ask("query", &[("query", expression)])?;
        let samples = data["result"].as_array().context("no vector")?;
        let sample = |sample: &Value| Ok((labels(&sample["metric"]), value(&sample["value"])?.1));
        samples.iter().map(sample).collect()
    }

    /// What an expression was in the `last` time, at each second, by labels.
    pub fn query_range(&self, expression: &str, last: Duration) -> Result<Vec<(Labels, Points)>> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let (start, end) = (now.saturating_sub(last).as_secs(), now.as_secs());
        let (start, end) = (start.to_string(), end.to_string());
        let parameters = [
            ("query", expression),
            ("start", &start),
            ("end", &end),
            ("step", "1"),
        ];
        let data = self.ask("query_range", &parameters)?;
        let all = data["result"].as_array().context("no matrix")?;
        let series = |series: &Value| {
            let values = series["values"].as_array().context("no values")?;
            let values = values.iter().map(value).collect::<Result<_>>()?;
            Ok((labels(&series["metric"]), values))
        };
        all.iter().map(series).collect()
    }

    /// The alerts that fire or are about to.
    pub fn alerts(&self) -> Result<Vec<Alert>> {
        let data = self.ask("alerts", &[])?;
        let all = data["alerts"].as_array().context("no alerts")?.iter();
        let alerts = all.map(|alert| {
            let labels = labels(&alert["labels"]);
            Alert {
                name: labels.get("alertname").cloned().unwrap_or_default(),
                fires: alert["state"] == "firing",
                labels,
            }
        });
        Ok(alerts.collect())
    }

    fn ask(&self, what: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let url = format!("http://{}/api/v1/{what}", self.address);
        let mut request = self.agent.get(&url);
        for (name, value) in parameters {
            request = request.query(*name, *value);
        }
        let mut answer: Value = request.call()?.body_mut().read_json()?;
        ensure!(answer["status"] == "success", "{parameters:?}: {answer}");
        Ok(answer["data"].take())
    }
}

fn labels(metric: &Value) -> Labels {
    let labels = metric.as_object().into_iter().flatten();
    let labels = labels.filter(|(name, _)| *name != "__name__");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    labels
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// When, and what it was.
fn value(pair: &Value) -> Result<(f64, f64)> {
    let at = pair[0].as_f64().context("no time")?;
    let number = pair[1].as_str().context("no value")?.parse()?;
    Ok((at, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_waits_the_rules_are_the_same_otherwise() {
        let (as_shipped, at_once) = (shipped_rules(), shipped_rules_at_once());
        assert!(as_shipped.starts_with("groups:\n"), "{as_shipped}");
        assert!(as_shipped.contains("for: 5m") && !at_once.contains("for: "));
        assert!(!as_shipped.contains(INTERVAL));
        let count = |rules: &str| rules.matches("- alert: ").count();
        assert_eq!(count(&as_shipped), count(&at_once));
    }
}
