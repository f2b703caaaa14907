//! A look as a screen, and as JSON.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::json;

use super::verdict::StatusFault;
use super::{Mongodb, Row, Status};
use crate::commands::text::one_line;
use crate::commands::{or_dash, print_json, print_table};
use crate::telemetry::code::Code;

pub(super) fn print_screen(status: &Status, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "{}\n", status.verdict())?;
    print_group(status, out)?;
    print_mongodb(status, out)?;
    if !status.unanswered.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
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

fn print_group(status: &Status, out: &mut impl Write) -> anyhow::Result<()> {
    let name = &status.group_name;
    let Some(group) = &status.group else {
        return Ok(writeln!(out, "group    {name}: not known")?);
    };
    let state = match group.state.as_str() {
        "" => "unknown to the brokers",
        state => state,
    };
    let protocol = match group.protocol.as_str() {
        "" => String::new(),
        protocol => format!(", {protocol}"),
    };
    let members = group.members.len();
    writeln!(
        out,
        "group    {name}: {state}{protocol}, {members} member(s)"
    )?;
    for member in &group.members {
        writeln!(out, "           {}", one_line(member))?;
    }
    Ok(())
}

fn print_mongodb(status: &Status, out: &mut impl Write) -> anyhow::Result<()> {
    let database = &status.database;
    let Some(Mongodb { facts, letters }) = &status.mongodb else {
        writeln!(out, "MongoDB  not known; database {database}")?;
        return Ok(writeln!(out, "letters  not known")?);
    };
    let primary = facts.primary.as_deref().unwrap_or("none");
    let majority = facts.majority_lag_ms.map(|ms| ms as f64 / 1000.0);
    writeln!(
        out,
        "MongoDB  {} {}: primary {primary}, majority {} s behind; database {database}; \
         privileges {}",
        or_dash(facts.set.as_deref()),
        or_dash(facts.version.as_deref()),
        or_dash(majority.map(|seconds| format!("{seconds:.1}"))),
        match facts.missing {
            None => "sufficient",
            Some(_) => "missing",
        }
    )?;
    let letters: Vec<String> = (letters.iter())
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let letters = match letters.is_empty() {
        true => "none open".to_owned(),
        false => format!("{} (`dead-letters list`)", letters.join(", ")),
    };
    Ok(writeln!(out, "letters  {letters}")?)
}

/// A look for programs. What a server that does not answer would say is `null`, or an empty list.
pub(super) fn print_json_of(status: &Status, out: &mut impl Write) -> anyhow::Result<()> {
    let row = |row: &Row| {
        json!({
            "topic": *row.place.partition.topic,
            "partition": row.place.partition.number,
            "state": row.state(),
            "needs_a_person": row.code().is_some(),
            "code": row.code().map(shown_code),
            "worker": row.place.host,
            "member_id": row.place.member_id,
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
    let group = status.group.as_ref();
    let facts = status.mongodb.as_ref().map(|mongodb| &mongodb.facts);
    let value = json!({
        "healthy": faults.is_empty(),
        "verdict": status.verdict(),
        "codes": codes(status.codes()),
        "faults": faults.iter().map(fault).collect::<Vec<_>>(),
        "group": {
            "name": status.group_name,
            "state": group.map(|group| &group.state),
            "protocol": group.map(|group| &group.protocol),
            "members": group.map_or(&[][..], |group| &group.members),
        },
        "mongodb": {
            "set": facts.map(|facts| &facts.set),
            "version": facts.map(|facts| &facts.version),
            "primary": facts.map(|facts| &facts.primary),
            "majority_lag_ms": facts.map(|facts| facts.majority_lag_ms),
            "database": status.database,
            "missing_privileges": facts.map(|facts| &facts.missing),
        },
        "open_letters": status.mongodb.as_ref().map(|mongodb| &mongodb.letters),
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
