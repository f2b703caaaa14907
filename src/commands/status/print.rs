//! A look as a screen, and as JSON.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::json;

use super::verdict::StatusFault;
use super::{Row, Status};
use crate::commands::{or_dash, print_json, print_table, printable};
use crate::telemetry::code::Code;

pub(super) fn print_screen(status: &Status, out: &mut impl Write) -> anyhow::Result<()> {
    let Status { group, mongodb, .. } = status;
    writeln!(out, "{}\n", status.verdict())?;
    let state = match group.state.as_str() {
        "" => "unknown to the brokers",
        state => state,
    };
    let protocol = match group.protocol.as_str() {
        "" => String::new(),
        protocol => format!(", {protocol}"),
    };
    writeln!(
        out,
        "group    {}: {state}{protocol}, {} member(s)",
        status.group_name,
        group.members.len()
    )?;
    for member in &group.members {
        writeln!(out, "           {}", printable(member))?;
    }
    let primary = mongodb.primary.as_deref().unwrap_or("none");
    let majority = mongodb.majority_lag_ms.map(|ms| ms as f64 / 1000.0);
    writeln!(
        out,
        "MongoDB  {} {}: primary {primary}, majority {} s behind; database {}; privileges {}",
        or_dash(mongodb.set.as_deref()),
        or_dash(mongodb.version.as_deref()),
        or_dash(majority.map(|seconds| format!("{seconds:.1}"))),
        status.database,
        match mongodb.missing {
            None => "sufficient",
            Some(_) => "missing",
        }
    )?;
    let letters = status.letters.iter();
    let letters: Vec<String> = letters
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let letters = match letters.is_empty() {
        true => "none open".to_owned(),
        false => format!("{} (`dead-letters list`)", letters.join(", ")),
    };
    writeln!(out, "letters  {letters}\n")?;
    let header = [
        "topic",
        "partition",
        "state",
        "code",
        "worker",
        "checkpoint",
        "lag",
        "oldest",
        "per second",
        "catches up in",
    ];
    let numbers = [
        "partition",
        "checkpoint",
        "lag",
        "oldest",
        "per second",
        "catches up in",
    ];
    let rows = status.rows.iter().map(|row| {
        vec![
            row.place.partition.topic.to_string(),
            row.place.partition.number.to_string(),
            row.state().to_owned(),
            or_dash(row.code()),
            or_dash(row.place.host.as_deref()),
            or_dash(row.place.next_offset()),
            or_dash(row.place.lag()),
            or_dash(row.age_ms.map(|ms| span(ms as f64 / 1000.0))),
            or_dash(row.rate.map(|rate| format!("{rate:.0}"))),
            or_dash(row.catch_up_seconds().map(span)),
        ]
    });
    Ok(print_table(out, &header, &numbers, rows)?)
}

pub(super) fn print_json_of(status: &Status, out: &mut impl Write) -> anyhow::Result<()> {
    let row = |row: &Row| {
        json!({
            "topic": *row.place.partition.topic,
            "partition": row.place.partition.number,
            "state": row.state(),
            "needs_a_person": row.code().is_some(),
            "code": row.code().map(shown_code),
            "worker": row.place.host,
            "next_offset": row.place.next_offset(),
            "log_end": row.place.log.offsets.end,
            "lag": row.place.lag(),
            "oldest_unapplied_ms": row.age_ms,
            "records_per_second": row.rate,
            "catch_up_seconds": row.catch_up_seconds(),
        })
    };
    let faults = status.faults();
    let codes = |codes: BTreeSet<Code>| codes.into_iter().map(shown_code).collect::<Vec<_>>();
    let fault =
        |fault: &StatusFault| json!({ "what": fault.what, "codes": codes(fault.codes.clone()) });
    let value = json!({
        "healthy": faults.is_empty(),
        "verdict": status.verdict(),
        "codes": codes(status.codes()),
        "faults": faults.iter().map(fault).collect::<Vec<_>>(),
        "group": {
            "name": status.group_name,
            "state": status.group.state,
            "protocol": status.group.protocol,
            "members": status.group.members,
        },
        "mongodb": {
            "set": status.mongodb.set,
            "version": status.mongodb.version,
            "primary": status.mongodb.primary,
            "majority_lag_ms": status.mongodb.majority_lag_ms,
            "database": status.database,
            "missing_privileges": status.mongodb.missing,
        },
        "open_letters": status.letters,
        "partitions": status.rows.iter().map(row).collect::<Vec<_>>(),
    });
    Ok(print_json(out, &value)?)
}

fn shown_code(code: Code) -> String {
    code.to_string()
}

/// A span of time for people: its largest unit, and the next one.
fn span(seconds: f64) -> String {
    let whole = seconds.round() as i64;
    match whole {
        ..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}
