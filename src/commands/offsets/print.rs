//! Checkpoints beside their logs, and the moves of a command, as a person or a program reads them.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::place::{Move, Place};
use crate::commands::{or_dash, print_json, print_table, shown};

/// Whose checkpoints these are: a name that is misspelt is seen.
pub(super) struct Head {
    pub(super) group: String,
    /// Each with its host and its id in the group.
    pub(super) members: Vec<String>,
    pub(super) database: String,
}

impl Head {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Head {
            group,
            members,
            database,
        } = self;
        let members = members.len();
        writeln!(
            out,
            "group {group}, {members} member(s); database {database}\n"
        )
    }
}

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
    head: &Head,
    places: &[Place],
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (lags, unknown): (Vec<_>, Vec<_>) =
        (places.iter().map(Place::lag)).partition(Option::is_some);
    let lag: i64 = lags.into_iter().flatten().sum();
    if json {
        let value = json!({
            "group": head.group,
            "members": head.members,
            "database": head.database,
            "lag": lag,
            "partitions_without_lag": unknown.len(),
            "partitions": places.iter().map(place_json).collect::<Vec<_>>(),
        });
        return Ok(print_json(out, &value)?);
    }
    head.print(out)?;
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
            "member_id": place.member_id,
            "updated_at": place.updated_at.map(shown),
        })),
    })
}

pub(super) fn print_moves(
    head: &Head,
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
            })
        });
        let value = json!({
            "group": head.group,
            "members": head.members,
            "database": head.database,
            "done": done,
            "moves": moves.collect::<Vec<_>>(),
        });
        return Ok(print_json(out, &value)?);
    }
    head.print(out)?;
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

    fn head() -> Head {
        Head {
            group: "workflows-sink".to_owned(),
            members: vec!["workflows-sink on /10.0.0.7 (workflows-sink-1)".to_owned()],
            database: "workflows".to_owned(),
        }
    }

    /// One partition of each state, the first with all that can be known.
    fn places() -> [Place; 4] {
        let mut places = [
            place(Some(15), Some(14)),
            place(None, Some(12)),
            place(None, None),
            place(Some(9), None),
        ];
        let id = Some(bson::Uuid::from_bytes([2; 16]));
        places[0].host = Some("workflows-sink-0".to_owned());
        places[0].member_id = Some("workflows-sink-1".to_owned());
        places[0].updated_at = Some(bson::DateTime::from_millis(0));
        places[0].log.leader_epoch = Some(7);
        places[0].checkpoint = Stored::Checkpoint(Checkpoint {
            next_offset: 15,
            owner: id,
            session: id,
            leader_epoch: Some(7),
            epoch: 3,
            ..Checkpoint::default()
        });
        places
    }

    #[test]
    fn places_are_shown_with_lag_and_state() {
        let print = |json| text(|out| print_places(&head(), &places(), json, out));
        insta::assert_snapshot!("show", print(false));
        let json = print(true);
        assert_schema("offsets show", &[&json], &[]);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json["lag"], &json["partitions_without_lag"]),
            (&json!(23), &json!(1))
        );
        assert_eq!(
            json["partitions"][0]["checkpoint"]["member_id"],
            "workflows-sink-1"
        );
        assert_eq!(json["partitions"][1]["checkpoint"], Value::Null);
    }

    #[test]
    fn a_plan_looks_different_from_its_execution() {
        let planned = |next_offset| Move {
            place: place(next_offset, None),
            to: 10,
            reject_next: false,
        };
        let moves = [planned(Some(15)), planned(None)];
        let print =
            |moves: &[Move], done, json| text(|out| print_moves(&head(), moves, done, json, out));
        insta::assert_snapshot!("plan", print(&moves, false, false));
        insta::assert_snapshot!("moved", print(&moves, true, false));
        insta::assert_snapshot!("nothing_to_move", print(&[], false, false));
        let json = print(&moves, true, true);
        assert_schema("offsets reset", &[&json], &[]);
        assert_schema("offsets resolve", &[&json], &[]);
        let json: Value = serde_json::from_str(&json).unwrap();
        let first = &json["moves"][0];
        assert_eq!(
            (&first["from"], &first["to"], &json["done"]),
            (&json!(15), &json!(10), &json!(true))
        );
    }
}
