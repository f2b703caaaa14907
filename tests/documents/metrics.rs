//! `docs/metrics.md`, written from the registries; a test says when it is stale.

use std::fmt::Write as _;

use workflows_sink::admin::sidecar::metrics::Metrics as OfSidecar;
use workflows_sink::database::errors::Cause;
use workflows_sink::record::entity::Reason;
use workflows_sink::telemetry::metrics::{MetricDescription, Metrics, Outcome, PartitionState};

use crate::fresh::{RENEW, is_fresh};

/// The beginning of the names that the process has, whatever it does.
const OF_THE_PROCESS: &str = "process_";

fn metrics_md(of_service: &[MetricDescription], of_sidecar: &[MetricDescription]) -> String {
    let mut out = format!(
        "<!-- Generated from src/telemetry/metrics and src/admin/sidecar/metrics.rs; renew with:\n\
        {RENEW} -->\n\
        # Metrics\n\n\
        In the Prometheus text format, at `/metrics`. What to look at first is in\n\
        [operations.md](operations.md#at-a-glance), the alerts in [runbook.md](runbook.md#alerts).\n\
        A histogram has the series `…_bucket`, `…_sum` and `…_count`. Ids and keys are no labels.\n\n\
        ## The service\n\n"
    );
    let named = |of: &[MetricDescription], process: bool| {
        let is_wanted =
            |found: &&MetricDescription| found.name.starts_with(OF_THE_PROCESS) == process;
        of.iter().filter(is_wanted).cloned().collect::<Vec<_>>()
    };
    table(&mut out, &named(of_service, false));
    out.push_str("\nThe values of its labels, where they are known in advance:\n\n| label | values |\n|---|---|\n");
    values(&mut out, "`outcome`", &Outcome::ALL.map(Outcome::as_str));
    values(
        &mut out,
        "`state`",
        &PartitionState::ALL.map(PartitionState::as_str),
    );
    values(
        &mut out,
        "`reason` of dead letters",
        &Reason::ALL.map(Reason::as_str),
    );
    values(
        &mut out,
        "`reason` of retries",
        &Cause::ALL.map(Cause::as_str),
    );
    out.push_str(
        "\n## The sidecar\n\n`workflows-sink admin serve` ([admin.md](admin.md#the-sidecar)). `kind` \
        is `away` for what\npasses by itself, `moved` where somebody else changed the Secret \
        meanwhile, and `wrong` for what\nneeds a person; `step` is the name of a change.\n\n",
    );
    table(&mut out, &named(of_sidecar, false));
    out.push_str("\n## The process\n\nBoth have these.\n\n");
    assert_eq!(named(of_service, true), named(of_sidecar, true));
    table(&mut out, &named(of_service, true));
    out
}

fn table(out: &mut String, metrics: &[MetricDescription]) {
    out.push_str("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in metrics {
        let labels: Vec<String> = (metric.labels.iter())
            .map(|label| format!("`{label}`"))
            .collect();
        let (name, kind, help) = (&metric.name, metric.kind, &metric.help);
        let _ = writeln!(
            out,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join(", ")
        );
    }
}

fn values(out: &mut String, label: &str, values: &[&str]) {
    let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    let _ = writeln!(out, "| {label} | {} |", values.join(", "));
}

#[test]
fn every_metric_is_in_the_page_of_metrics() {
    let (service, sidecar) = (Metrics::new(), OfSidecar::default());
    is_fresh(
        "docs/metrics.md",
        &metrics_md(&service.described(), &sidecar.described()),
    );
    for line in (service.render() + &sidecar.render()).lines() {
        let Some(rest) = line.strip_prefix("# TYPE ") else {
            continue;
        };
        let described = [service.described(), sidecar.described()].concat();
        let is_described =
            |metric: &MetricDescription| rest == format!("{} {}", metric.name, metric.kind);
        assert!(described.iter().any(is_described), "{rest}");
    }
}
