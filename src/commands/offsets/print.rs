//! Checkpoints beside their logs, and the moves of a command, as a person or a program reads them.

use std::io::Write;

use serde_json::{Value, json};

use super::place::{Move, Place};
use crate::commands::{or_dash, print_json, print_table, shown};

/// The columns that every table of places begins with; all but the topic are numbers.
const COMMON: [&str; 6] = [
    "topic",
    "partition",
    "log start",
    "stable end",
    "log end",
    "checkpoint",
];

fn common(place: &Place) -> [String; COMMON.len()] {
    [
        place.partition.topic.to_string(),
        place.partition.number.to_string(),
        place.log.offsets.start.to_string(),
        place.log.stable_end.to_string(),
        place.log.offsets.end.to_string(),
        or_dash(place.next_offset()),
    ]
}

pub(super) fn print_places(
    places: &[Place],
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if json {
        return Ok(print_json(out, &places.iter().map(place_json).collect())?);
    }
    const NUMBERS: [&str; 3] = ["lag", "committed", "epoch"];
    let header = [
        &COMMON[..],
        &NUMBERS,
        &["worker", "owner", "updated", "state"],
    ]
    .concat();
    let numbers = [&COMMON[..], &NUMBERS].concat();
    let rows = places.iter().map(|place| {
        let checkpoint = place.checkpoint.checkpoint();
        let owner = checkpoint
            .and_then(|found| found.owner)
            .map(|owner| owner.to_string());
        let updated_at = place.updated_at.map(shown);
        let more = [
            or_dash(place.lag()),
            or_dash(place.log.committed),
            or_dash(checkpoint.map(|found| found.epoch)),
            or_dash(place.host.as_ref()),
            or_dash(owner.map(|owner| owner.chars().take(8).collect::<String>())),
            or_dash(updated_at),
            place.state().to_owned(),
        ];
        common(place).into_iter().chain(more).collect()
    });
    print_table(out, &header, &numbers, rows)?;
    let (lags, unknown): (Vec<_>, Vec<_>) =
        (places.iter().map(Place::lag)).partition(Option::is_some);
    let lag: i64 = lags.into_iter().flatten().sum();
    let unknown = match unknown.len() {
        0 => String::new(),
        count => format!("; {count} partition(s) have no offset yet"),
    };
    Ok(writeln!(
        out,
        "\n{} partition(s), lag {lag}{unknown}",
        places.len()
    )?)
}

fn place_json(place: &Place) -> Value {
    let checkpoint = place.checkpoint.checkpoint();
    json!({
        "topic": *place.partition.topic,
        "partition": place.partition.number,
        "topic_id": place.log.topic_id.map(|id| id.to_string()),
        "log_start": place.log.offsets.start,
        "stable_end": place.log.stable_end,
        "log_end": place.log.offsets.end,
        "leader_epoch": place.log.leader_epoch,
        "committed": place.log.committed,
        "lag": place.lag(),
        "state": place.state(),
        "checkpoint": checkpoint.map(|found| json!({
            "next_offset": found.next_offset,
            "leader_epoch": found.leader_epoch,
            "topic_id": found.topic_id.map(|id| id.to_string()),
            "owner": found.owner.map(|id| id.to_string()),
            "session": found.session.map(|id| id.to_string()),
            "epoch": found.epoch,
            "host": place.host,
            "updated_at": place.updated_at.map(shown),
        })),
    })
}

pub(super) fn print_moves(
    moves: &[Move],
    done: bool,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if json {
        let moves = moves.iter().map(|planned| {
            json!({
                "topic": *planned.place.partition.topic,
                "partition": planned.place.partition.number,
                "from": planned.place.next_offset(),
                "to": planned.to,
                "effect": planned.effect(),
                "done": done,
            })
        });
        return Ok(print_json(out, &moves.collect())?);
    }
    if moves.is_empty() {
        return Ok(writeln!(
            out,
            "nothing to do: every partition can continue from its checkpoint"
        )?);
    }
    let header = [&COMMON[..], &["to", "effect"]].concat();
    let numbers = [&COMMON[..], &["to"]].concat();
    let rows = moves.iter().map(|planned| {
        let more = [planned.to.to_string(), planned.effect()];
        common(&planned.place).into_iter().chain(more).collect()
    });
    print_table(out, &header, &numbers, rows)?;
    match done {
        true => writeln!(out, "\nmoved {} checkpoint(s)", moves.len())?,
        false => writeln!(out, "\nnothing was changed; add --yes to do it")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::place::Stored;
    use super::super::place::tests::place;
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::commands::schema::assert_schema;

    fn text(print: impl FnOnce(&mut Vec<u8>) -> anyhow::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn places_are_shown_with_lag_and_state() {
        let places = [
            place(Some(15), Some(14)),
            place(None, Some(12)),
            place(None, None),
            place(Some(9), None),
        ];
        let table = text(|out| print_places(&places, false, out));
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            [
                "t", "0", "10", "20", "20", "15", "5", "14", "3", "-", "-", "-", "ok"
            ]
        );
        assert_eq!(
            lines[2],
            [
                "t",
                "0",
                "10",
                "20",
                "20",
                "-",
                "8",
                "12",
                "-",
                "-",
                "-",
                "-",
                "no",
                "checkpoint"
            ]
        );
        assert_eq!(
            lines[3][6], "-",
            "what has no offset at all has no known lag"
        );
        assert_eq!(lines[4][12..], ["before", "the", "log"]);
        assert!(table.ends_with("\n4 partition(s), lag 23; 1 partition(s) have no offset yet\n"));
        let json: Value =
            serde_json::from_str(&text(|out| print_places(&places, true, out))).unwrap();
        assert_eq!(json[0]["checkpoint"]["next_offset"], 15);
        assert_eq!(json[0]["lag"], 5);
        assert_eq!(
            json[0]["checkpoint"]["topic_id"],
            "01010101-0101-0101-0101-010101010101"
        );
        assert_eq!(json[1]["checkpoint"], Value::Null);
        let mut places = places;
        places[0].host = Some("workflows-sink-0".to_owned());
        places[0].updated_at = Some(bson::DateTime::from_millis(0));
        places[0].log.leader_epoch = Some(7);
        let id = Some(bson::Uuid::from_bytes([2; 16]));
        places[0].checkpoint = Stored::Checkpoint(Checkpoint {
            next_offset: 15,
            owner: id,
            session: id,
            leader_epoch: Some(7),
            ..Checkpoint::default()
        });
        let places = text(|out| print_places(&places, true, out));
        assert_schema("offsets show", &[places], &[]);
    }

    #[test]
    fn a_plan_looks_different_from_its_execution() {
        let moves = [Move {
            place: place(Some(15), None),
            to: 10,
            reject_next: false,
        }];
        assert!(
            text(|out| print_moves(&moves, false, false, out))
                .contains("nothing was changed; add --yes")
        );
        assert!(
            text(|out| print_moves(&moves, true, false, out)).contains("moved 1 checkpoint(s)")
        );
        assert!(text(|out| print_moves(&[], false, false, out)).starts_with("nothing to do"));
        let new = [Move {
            place: place(None, None),
            to: 10,
            reject_next: false,
        }];
        let outputs = [&moves, &new].map(|moves| text(|out| print_moves(moves, true, true, out)));
        assert_schema("offsets reset", &outputs, &[]);
        assert_schema("offsets resolve", &outputs, &[]);
        let json: Value = serde_json::from_str(&outputs[0]).unwrap();
        assert_eq!(
            (&json[0]["from"], &json[0]["to"], &json[0]["done"]),
            (&json!(15), &json!(10), &json!(true))
        );
    }
}
