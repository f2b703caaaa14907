use super::*;
use crate::telemetry::version;

fn has(metrics: &Metrics, line: &str) -> bool {
    metrics.render().lines().any(|found| found == line)
}

#[test]
fn what_is_known_in_advance_begins_at_zero() {
    let metrics = Metrics::new();
    metrics.expect(&["network"], &[("write", "network")]);
    for outcome in Outcome::ALL {
        let name = outcome.as_str();
        assert!(has(
            &metrics,
            &format!("workflows_sink_records_settled_total{{outcome=\"{name}\"}} 0")
        ));
    }
    for reason in Reason::ALL {
        let name = reason.as_str();
        assert!(has(
            &metrics,
            &format!("workflows_sink_dead_letters_total{{reason=\"{name}\"}} 0")
        ));
    }
    for line in [
        "workflows_sink_retries_total{reason=\"network\"} 0",
        "workflows_sink_errors_total{kind=\"network\",stage=\"write\"} 0",
        "workflows_sink_fenced_total 0",
        "workflows_sink_rebalances_total 0",
        "workflows_sink_assigned_partitions 0",
        "workflows_sink_buffered_bytes 0",
        "workflows_sink_breaker_open 0",
        "workflows_sink_dead_letters_open{reason=\"write_error\"} 0",
        "workflows_sink_tasks 0",
        "workflows_sink_last_settled_timestamp_seconds 0",
        "workflows_sink_record_delay_seconds_count 0",
        "workflows_sink_batch_write_duration_seconds_count 0",
        "workflows_sink_batch_records_count 0",
        "workflows_sink_batch_bytes_count 0",
    ] {
        assert!(has(&metrics, line), "{line}\n{}", metrics.render());
    }
    assert!(metrics.render().contains("process_resident_memory_bytes"));
    let build = format!(
        "workflows_sink_build_info{{revision=\"{}\",version=\"{}\"}} 1",
        version::REVISION,
        version::VERSION
    );
    assert!(has(&metrics, &build), "{build}");
}

#[test]
fn what_happens_is_counted() {
    let metrics = Metrics::new();
    let lane = metrics.partition("t", 3);
    lane.consumed.inc_by(5);
    lane.settled(Outcome::Upserted, 4);
    lane.settled(Outcome::Rejected, 1);
    lane.batch_bytes.observe(2048.0);
    metrics.dead_letter(Reason::UnknownKind);
    metrics.retries("network");
    metrics.errors("write", "network");
    metrics.fenced();
    metrics.rebalance();
    for line in [
        "workflows_sink_records_consumed_total{partition=\"3\",topic=\"t\"} 5",
        "workflows_sink_records_settled_total{outcome=\"upserted\"} 4",
        "workflows_sink_records_settled_total{outcome=\"rejected\"} 1",
        "workflows_sink_batch_bytes_sum 2048",
        "workflows_sink_dead_letters_total{reason=\"unknown_kind\"} 1",
        "workflows_sink_retries_total{reason=\"network\"} 1",
        "workflows_sink_errors_total{kind=\"network\",stage=\"write\"} 1",
        "workflows_sink_fenced_total 1",
        "workflows_sink_rebalances_total 1",
    ] {
        assert!(has(&metrics, line), "{line}\n{}", metrics.render());
    }
    assert_eq!(metrics.settled(Outcome::Upserted), 4);
    assert!(!has(
        &metrics,
        "workflows_sink_last_settled_timestamp_seconds 0"
    ));
}

#[test]
fn a_lag_is_shown_from_when_it_is_known_until_the_partition_has_gone() {
    let metrics = Metrics::new();
    let shown = || metrics.render().contains("consumer_lag_records{");
    let old = metrics.partition("t", 0);
    assert!(!shown());
    old.set_lag(7);
    assert!(has(
        &metrics,
        "workflows_sink_consumer_lag_records{partition=\"0\",topic=\"t\"} 7"
    ));
    let new = metrics.partition("t", 0);
    new.set_lag(6);
    drop(old);
    assert!(has(
        &metrics,
        "workflows_sink_consumer_lag_records{partition=\"0\",topic=\"t\"} 6"
    ));
    drop(new);
    assert!(!shown());
}

/// The rules of `promtool check metrics`, which tests of the whole service run itself.
#[test]
fn names_keep_to_the_rules_of_promtool() {
    let metrics = Metrics::new();
    metrics.expect(&["network"], &[("write", "network")]);
    let lane = metrics.partition("t", 0);
    lane.set_lag(1);
    lane.set_oldest_unapplied(1, None);
    metrics.topic_partitions("t", 3);
    let text = metrics.render();
    let mut families = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        families += 1;
        assert!(
            name.starts_with("workflows_sink_") || name.starts_with("process_"),
            "{name}"
        );
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        for wrong in [
            "_count",
            "_sum",
            "_bucket",
            "_milliseconds",
            "_ms",
            "_kilobytes",
            "gauge",
            "counter",
            "histogram",
        ] {
            assert!(!name.ends_with(wrong), "{name}");
        }
    }
    assert_eq!(
        families,
        26 + 7,
        "the design's table and the process metrics"
    );
}

#[test]
fn a_partition_is_in_one_state_until_it_has_gone() {
    let metrics = Metrics::new();
    let lane = metrics.partition("t", 3);
    let state = |state: &str, value: u8| {
        let labels = format!("partition=\"3\",state=\"{state}\",topic=\"t\"");
        let line = format!("workflows_sink_partition_state{{{labels}}} {value}");
        assert!(has(&metrics, &line), "{line}\n{}", metrics.render());
    };
    state("claiming", 1);
    lane.set_state(PartitionState::Stuck);
    for (name, value) in [
        ("claiming", 0),
        ("running", 0),
        ("stopped", 0),
        ("breaker", 0),
        ("stuck", 1),
    ] {
        state(name, value);
    }
    drop(lane);
    assert!(!metrics.render().contains("partition_state{"));
}

#[test]
fn what_stands_goes_on_ageing() {
    let metrics = Metrics::new();
    let lane = metrics.partition("t", 0);
    let line = |value: &str| {
        let name = "workflows_sink_oldest_unapplied_timestamp_seconds";
        has(
            &metrics,
            &format!("{name}{{partition=\"0\",topic=\"t\"}} {value}"),
        )
    };
    let absent = "absent until it is known";
    assert!(
        !metrics
            .render()
            .contains("oldest_unapplied_timestamp_seconds{"),
        "{absent}"
    );
    lane.set_oldest_unapplied(5, Some(1_500));
    assert!(line("1.5"));
    lane.set_oldest_unapplied(9, None);
    assert!(line("1.5"), "what was read is the oldest still");
    lane.set_oldest_unapplied(0, None);
    assert!(line("0"));
    lane.set_oldest_unapplied(1, None);
    assert!(!line("0"), "it was not read yet, and is not applied");
}
