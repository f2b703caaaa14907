//! A look as a screen, and as JSON.

use std::io::Write;

use serde_json::json;

use super::{Row, Status};
use crate::commands::{or_dash, print_json, print_table, printable};

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
            "needs_a_person": row.needs_a_person(),
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
    let value = json!({
        "healthy": faults.is_empty(),
        "verdict": status.verdict(),
        "faults": faults,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::commands::offsets::tests::place;
    use crate::database::facts::Facts;
    use crate::kafka::broker::GroupFacts;

    fn status(rows: Vec<Row>) -> Status {
        Status {
            group_name: "g".to_owned(),
            database: "workflows".to_owned(),
            group: GroupFacts {
                state: "Stable".to_owned(),
                protocol: "cooperative-sticky".to_owned(),
                members: vec!["workflows-sink on 10.0.0.1 (id)".to_owned()],
            },
            rows,
            mongodb: Facts {
                set: Some("rs0".to_owned()),
                primary: Some("m:27017".to_owned()),
                majority_lag_ms: Some(0),
                version: Some("8.0.0".to_owned()),
                ..Facts::default()
            },
            letters: BTreeMap::from([("unknown_kind".to_owned(), 312)]),
        }
    }

    fn row(next_offset: i64, age_ms: Option<i64>, rate: f64) -> Row {
        Row {
            place: place(Some(next_offset), None),
            age_ms,
            rate: Some(rate),
        }
    }

    #[test]
    fn the_first_line_says_what_a_person_has_to_do() {
        let fine = status(vec![row(20, None, 0.0), row(15, Some(2_000), 2.5)]);
        assert_eq!(fine.verdict(), "healthy; 312 letters open");
        let stands = vec![
            row(9, None, 0.0),
            row(15, Some(90_000), 0.0),
            row(20, None, 0.0),
        ];
        assert_eq!(
            status(stands).verdict(),
            "2 of 3 partitions stand still; 312 letters open"
        );
        let mut nobody = status(vec![row(15, Some(1_000), 0.0)]);
        nobody.group = GroupFacts::default();
        nobody.mongodb.primary = None;
        nobody.letters.clear();
        assert_eq!(
            nobody.verdict(),
            "no worker is in the group; MongoDB has no primary"
        );
    }

    #[test]
    fn a_screen_has_all_and_json_the_same() {
        let look = status(vec![row(15, Some(90_000), 2.5)]);
        let mut screen = Vec::new();
        print_screen(&look, &mut screen).unwrap();
        let screen = String::from_utf8(screen).unwrap();
        for part in [
            "healthy; 312 letters open",
            "group    g: Stable, cooperative-sticky, 1 member(s)",
            "MongoDB  rs0 8.0.0: primary m:27017, majority 0.0 s behind; database workflows",
            "letters  unknown_kind 312",
            "1 min 30 s",
        ] {
            assert!(screen.contains(part), "{part}\n{screen}");
        }
        let mut json = Vec::new();
        print_json_of(&look, &mut json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["healthy"], true);
        assert_eq!(json["partitions"][0]["lag"], 5);
        assert_eq!(json["partitions"][0]["catch_up_seconds"], 2.0);
        assert_eq!(json["open_letters"]["unknown_kind"], 312);
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        let schema = [
            "faults",
            "group",
            "healthy",
            "mongodb",
            "open_letters",
            "partitions",
            "verdict",
        ];
        assert_eq!(keys, schema);
    }
}
