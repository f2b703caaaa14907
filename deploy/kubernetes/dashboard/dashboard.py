"""Prints the dashboard: make dashboard.

A variable `namespace` tells two installations apart, as in the rules. $__rate_interval is Grafana's;
whoever asks Prometheus itself puts a range in its place.
"""

from grafana_foundation_sdk.builders import common as parts
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
OF = 'namespace=~"$namespace"'
RATE = "[$__rate_interval]"
WIDTH = 24


class Grid:
    """Places panels from left to right, and row below row."""

    def __init__(self):
        self.x = self.y = self.height = self.id = 0

    def place(self, panel, width, height):
        if self.x + width > WIDTH:
            self.x, self.y = 0, self.y + self.height
        place = model.GridPos(x=self.x, y=self.y, w=width, h=height)
        self.x, self.height, self.id = self.x + width, height, self.id + 1
        return panel.id(self.id).grid_pos(place).datasource(DATASOURCE)


GRID = Grid()


def queries(panel, expressions, instant):
    """Adds (legend, expression) pairs, as A, B, …"""
    for index, (legend, expression) in enumerate(expressions):
        query = prometheus.Dataquery().ref_id(chr(ord("A") + index))
        query = query.expr(expression).legend_format(legend).datasource(DATASOURCE)
        panel = panel.with_target(query.instant() if instant else query.range())
    return panel


def number(title, unit, expressions, bad=None, what=""):
    """A number or a few, red from `bad` on."""
    panel = stat.Panel().title(title).unit(unit).description(what)
    panel = GRID.place(panel, 4, 5).graph_mode(common.BigValueGraphMode.NONE)
    steps = [model.Threshold(color="green")]
    if bad is not None:
        steps.append(model.Threshold(value=bad, color="red"))
    mode = model.ThresholdsMode.ABSOLUTE
    panel = panel.thresholds(dashboard.ThresholdsConfig().mode(mode).steps(steps))
    panel = panel.reduce_options(parts.ReduceDataOptions().calcs(["lastNotNull"]))
    return queries(panel, expressions, instant=True)


def lines(title, unit, expressions, what=""):
    """What becomes of it over time."""
    panel = timeseries.Panel().title(title).unit(unit).description(what).min(0)
    panel = GRID.place(panel, 8, 8).fill_opacity(10).line_width(1)
    return queries(panel, expressions, instant=False)


def quantiles(metric):
    """Half of them, nearly all, and the slowest of a hundred."""
    rate = f"sum by (le) (rate({metric}_bucket{{{OF}}}{RATE}))"
    return [(f"{q}", f"histogram_quantile({q}, {rate})") for q in (0.5, 0.9, 0.99)]


def rate(metric, by, matchers=""):
    return f"sum by ({by}) (rate({metric}{{{OF}{matchers}}}{RATE}))"


def verdict():
    states = f"max by (topic, partition, state) (workflows_sink_partition_state{{{OF}}}) == 1"
    return [
        number("Partitions by state", "short", [("{{state}}", f"count by (state) ({states})")],
               what="All are running, unless a person is needed or a worker has just come."),
        number("Oldest record not applied", "s",
               [("", f"max(workflows_sink:partition_age_seconds:max{{{OF}}})")], bad=60,
               what="0: caught up."),
        number("Lag", "short", [("records", f"sum(workflows_sink:lag_records:sum{{{OF}}})")]),
        number("Dead letters open", "short",
               [("{{reason}}", "sum by (reason) (max by (namespace, reason) "
                 f"(workflows_sink_dead_letters_open{{{OF}}}))")], bad=1),
        number("Workers", "short", [
            ("workers", f"count(workflows_sink_build_info{{{OF}}})"),
            ("partitions assigned", f"sum(workflows_sink_assigned_partitions{{{OF}}})"),
            ("partitions", "sum(max by (namespace, topic) "
             f"(workflows_sink_topic_partitions{{{OF}}}))"),
        ]),
        number("Late, of the last hour", "percentunit",
               [("", f"max(workflows_sink:partition_late:ratio_1h{{{OF}}})")], bad=0.0144,
               what="Of the worst partition. 0.1 % is the objective's budget for 30 days."),
    ]


def flow():
    each = "max by (topic, partition)"
    settled = rate("workflows_sink_records_settled_total", "outcome")
    consumed = rate("workflows_sink_records_consumed_total", "topic")
    return [
        lines("Records settled", "cps", [("{{outcome}}", settled)]),
        lines("Records consumed", "cps", [("{{topic}}", consumed)]),
        lines("Oldest record not applied, by partition", "s", [
            ("{{topic}}/{{partition}}",
             f"{each} (workflows_sink:partition_age_seconds:max{{{OF}}})")]),
        lines("Record delay", "s", quantiles("workflows_sink_record_delay_seconds"),
              what="From a record's timestamp until a majority has it."),
        lines("Transaction", "s", quantiles("workflows_sink_batch_write_duration_seconds"),
              what="Of one batch, retries included."),
        lines("Records in a batch", "short", quantiles("workflows_sink_batch_records")),
        lines("Bytes in a batch", "bytes", quantiles("workflows_sink_batch_bytes")),
        lines("Lag, by partition", "short", [
            ("{{topic}}/{{partition}}", f"{each} (workflows_sink_consumer_lag_records{{{OF}}})")]),
    ]


def trouble():
    return [
        lines("Retries", "cps", [("{{reason}}", rate("workflows_sink_retries_total", "reason"))]),
        lines("Errors", "cps", [
            ("{{stage}}: {{kind}}", rate("workflows_sink_errors_total", "stage, kind"))]),
        lines("Rejected", "cps", [
            ("{{reason}}", rate("workflows_sink_dead_letters_total", "reason"))]),
        lines("Fenced, rebalanced", "short", [
            ("fenced", f"sum(increase(workflows_sink_fenced_total{{{OF}}}{RATE}))"),
            ("rebalances", f"sum(increase(workflows_sink_rebalances_total{{{OF}}}{RATE}))")]),
    ]


def process():
    mine = f"and on (namespace, instance) workflows_sink_build_info{{{OF}}}"
    return [
        lines("Bytes in batches", "bytes", [
            ("{{instance}}", f"workflows_sink_buffered_bytes{{{OF}}}")],
              what="Built or in flight; the rest of the budget is for Kafka's queues."),
        lines("Memory", "bytes", [
            ("{{instance}}", f"process_resident_memory_bytes{{{OF}}} {mine}")]),
        lines("CPU", "short", [
            ("{{instance}}", f"rate(process_cpu_seconds_total{{{OF}}}{RATE}) {mine}")],
              what="Of one CPU."),
    ]


def users():
    ages = "time() - max by (user) (workflows_sink_admin_{}_timestamp_seconds{{{}}})"
    return [
        number("Credentials last checked", "s",
               [("{{user}}", ages.format("last_success", OF))], bad=900),
        number("Age of passwords", "s",
               [("{{user}}", ages.format("password_changed", OF))], bad=90 * 86400),
        number("Drift", "short",
               [("{{user}}", f"max by (user) (workflows_sink_admin_drift{{{OF}}})")], bad=1),
    ]


def main():
    namespaces = "label_values(workflows_sink_build_info, namespace)"
    board = (
        dashboard.Dashboard("workflows-sink")
        .uid("workflows-sink")
        .description("From Kafka to MongoDB. What its alerts mean: docs/runbook.md.")
        .tags(["workflows-sink"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("namespace")
            .datasource(DATASOURCE)
            .query(namespaces)
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .all_value(".*")
            .multi(True)
        )
    )
    for panels in (verdict(), flow(), trouble(), process(), users()):
        for panel in panels:
            board = board.with_panel(panel)
    print(JSONEncoder(sort_keys=True, indent=2).encode(board.build()))


main()
