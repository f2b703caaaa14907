use std::collections::BTreeMap;

use super::print::{print_json_of, print_screen};
use super::verdict::StatusFault;
use super::{Mongodb, Row, Status};
use crate::checkpoint::HaltReason;
use crate::commands::offsets::tests::{halted, place};
use crate::commands::schema::assert_schema;
use crate::database::facts::Facts;
use crate::kafka::group::GroupFacts;
use crate::record::Partition;
use crate::telemetry::code::Code;

/// A service of which `rows` are known, and nothing else is wrong.
fn status(rows: Vec<Row>) -> Status {
    let number = |(number, mut row): (usize, Row)| {
        row.place.partition = Partition::new("dyff.workflows.state", number as i32);
        row.place.host = Some(format!("workflows-sink-{}", number % 2));
        row.place.member_id = Some(format!("rdkafka-{}", number % 2));
        row
    };
    Status {
        group_name: "dyff.workflows-sink".to_owned(),
        database: "workflows".to_owned(),
        unanswered: Vec::new(),
        other_groups: Vec::new(),
        group: Some(GroupFacts {
            state: "Stable".to_owned(),
            protocol: "cooperative-sticky".to_owned(),
            members: vec![
                "workflows-sink-0 on 10.0.0.1 (rdkafka-5d0c)".to_owned(),
                "workflows-sink-1 on 10.0.0.2 (rdkafka-91f7)".to_owned(),
            ],
        }),
        rows: rows.into_iter().enumerate().map(number).collect(),
        mongodb: Some(Mongodb {
            facts: Facts {
                set: Some("rs0".to_owned()),
                primary: Some("mongodb-0:27017".to_owned()),
                majority_lag_ms: Some(0),
                version: Some("8.0.4".to_owned()),
                ..Facts::default()
            },
            letters: BTreeMap::new(),
        }),
    }
}

/// A partition whose log goes from 10 to 20.
fn row(next_offset: i64, age_ms: Option<i64>, rate: f64) -> Row {
    Row {
        place: place(Some(next_offset), None),
        age_ms,
        rate: Some(rate),
    }
}

fn healthy() -> Status {
    status(vec![
        row(20, None, 0.0),
        row(15, Some(2_000), 2.5),
        row(20, None, 140.0),
        row(12, Some(59_000), 0.0),
    ])
}

/// Three partitions stand still, and letters are open.
fn troubled() -> Status {
    let halted = Row {
        place: halted(HaltReason::Rejections),
        age_ms: Some(7_503_000),
        rate: Some(0.0),
    };
    let mut status = status(vec![
        row(20, None, 0.0),
        row(15, Some(90_000), 2.5),
        row(9, Some(90_000_000), 0.0),
        halted,
        row(13, Some(200_000), 0.0),
        row(18, Some(1_000), 512.0),
    ]);
    status.rows[5].place.log.offsets.end = 48_018;
    status.rows[5].place.log.stable_end = 48_018;
    letters(&mut status, &[("unknown_kind", 312), ("write_error", 2)]);
    status
}

/// Nobody is there, and MongoDB is of no use.
fn deserted() -> Status {
    let unclaimed = Row {
        place: place(None, None),
        age_ms: None,
        rate: None,
    };
    let mut status = status(vec![row(15, Some(1_000), 0.0), unclaimed]);
    for row in &mut status.rows {
        row.place.host = None;
    }
    status.rows[0].rate = None;
    status.group = Some(GroupFacts::default());
    status.mongodb.as_mut().unwrap().facts = Facts {
        missing: Some("insert on workflows.models".to_owned()),
        ..Facts::default()
    };
    status
}

/// No worker was ever there: the group's name is misspelt, perhaps.
fn never_begun() -> Status {
    let unbegun = || Row {
        place: place(None, None),
        age_ms: None,
        rate: None,
    };
    let mut status = status(vec![unbegun(), unbegun()]);
    status.group = Some(GroupFacts::default());
    status.other_groups = vec!["dyff.system.mongodb.sink".to_owned()];
    status
}

/// Neither server answers, or only MongoDB does.
fn unanswered(mongodb_answers: bool) -> Status {
    let mut status = status(Vec::new());
    let kafka = "Kafka does not answer: Connection refused";
    status.unanswered = vec![StatusFault::new(Code::KafkaAway, kafka)];
    status.group = None;
    if !mongodb_answers {
        let mongodb = "MongoDB does not answer: Server selection timeout";
        (status.unanswered).push(StatusFault::new(Code::MongodbAway, mongodb));
        status.mongodb = None;
    }
    status
}

fn letters(status: &mut Status, open: &[(&str, i64)]) {
    let open = open
        .iter()
        .map(|(reason, count)| ((*reason).to_owned(), *count));
    status.mongodb.as_mut().unwrap().letters = open.collect();
}

fn screen(status: &Status) -> String {
    let mut screen = Vec::new();
    print_screen(status, &mut screen).unwrap();
    String::from_utf8(screen).unwrap()
}

fn json(status: &Status) -> Vec<u8> {
    let mut json = Vec::new();
    print_json_of(status, &mut json).unwrap();
    json
}

#[test]
fn the_first_line_says_what_a_person_has_to_do_and_where_the_runbook_has_it() {
    let one_letter = |mut status: Status| {
        letters(&mut status, &[("unknown_kind", 1)]);
        status.verdict()
    };
    assert_eq!(healthy().verdict(), "healthy");
    assert_eq!(one_letter(healthy()), "healthy; 1 letter open (WS-401)");
    assert_eq!(
        troubled().verdict(),
        "3 of 6 partitions stand still (WS-301, WS-304, WS-602); 314 letters open (WS-401)"
    );
    assert_eq!(
        deserted().verdict(),
        "no worker is in the group, and 10 records have never been read (WS-604); \
         MongoDB has no primary (WS-101); \
         the service may not insert on workflows.models (WS-101)"
    );
    let mut other = healthy();
    other.group.as_mut().unwrap().protocol = "range".to_owned();
    other.mongodb.as_mut().unwrap().facts.majority_lag_ms = Some(12_345);
    assert_eq!(
        other.verdict(),
        "another program is in the group, by the protocol range (WS-202); \
         MongoDB's majority is 12 s behind (WS-101)"
    );
}

#[test]
fn a_group_without_members_is_a_fault_only_where_records_wait_and_nothing_moves() {
    let no_worker = "no worker is in the group (WS-604)";
    for (next_offset, rate, verdict) in [
        (15, Some(0.0), no_worker),
        (15, None, no_worker),
        // Members of `group.protocol=consumer` are not listed.
        (15, Some(0.5), "healthy"),
        (20, Some(0.0), "healthy"),
    ] {
        let mut status = status(vec![row(next_offset, Some(1_000), 0.0)]);
        status.group = Some(GroupFacts::default());
        status.rows[0].rate = rate;
        assert_eq!(status.verdict(), verdict, "{next_offset} {rate:?}");
    }
    let mut behind = healthy();
    for (ms, is_healthy) in [(10_000, true), (10_001, false)] {
        behind.mongodb.as_mut().unwrap().facts.majority_lag_ms = Some(ms);
        assert_eq!(behind.faults().is_empty(), is_healthy, "{ms}");
    }
}

#[test]
fn a_partition_that_waits_for_something_stands_still_only_after_a_while() {
    let of = |age_ms: i64, rate: f64, change: &dyn Fn(&mut Row)| {
        let mut row = row(15, Some(age_ms), rate);
        change(&mut row);
        row.code().map(|code| code.to_string())
    };
    let held = |row: &mut Row| row.place.log.stable_end = 15;
    for (age_ms, rate, change, code) in [
        (59_999, 0.0, &(|_: &mut Row| {}) as &dyn Fn(&mut Row), None),
        (60_000, 0.0, &|_: &mut Row| {}, Some("WS-602")),
        (60_000, 1.0, &|_: &mut Row| {}, None),
        (59_999, 0.0, &held, None),
        (60_000, 0.0, &held, Some("WS-204")),
    ] {
        assert_eq!(of(age_ms, rate, change).as_deref(), code, "{age_ms} {rate}");
    }
}

#[test]
fn a_screen_says_all_of_it() {
    insta::assert_snapshot!("healthy", screen(&healthy()));
    insta::assert_snapshot!("troubled", screen(&troubled()));
    insta::assert_snapshot!("deserted", screen(&deserted()));
    insta::assert_snapshot!("never_begun", screen(&never_begun()));
    insta::assert_snapshot!("kafka_away", screen(&unanswered(true)));
    insta::assert_snapshot!("both_away", screen(&unanswered(false)));
}

#[test]
fn programs_get_the_same_as_people() {
    let found: serde_json::Value = serde_json::from_slice(&json(&troubled())).unwrap();
    assert_eq!(found["healthy"], false);
    assert_eq!(found["partitions"][1]["lag"], 5);
    assert_eq!(found["partitions"][1]["catch_up_seconds"], 2.0);
    assert_eq!(found["partitions"][3]["code"], "WS-304");
    assert_eq!(found["open_letters"]["unknown_kind"], 312);
    let codes = serde_json::json!(["WS-301", "WS-304", "WS-401", "WS-602"]);
    assert_eq!(found["codes"], codes);
    let away: serde_json::Value = serde_json::from_slice(&json(&unanswered(false))).unwrap();
    assert_eq!(away["healthy"], false);
    assert_eq!(away["codes"], serde_json::json!(["WS-101", "WS-201"]));
    assert!(away["group"]["state"].is_null() && away["mongodb"]["set"].is_null());
    assert!(
        away["open_letters"].is_null(),
        "not known, rather than none"
    );
    let all = [
        healthy(),
        troubled(),
        deserted(),
        unanswered(true),
        unanswered(false),
    ];
    let outputs = all.map(|status| json(&status));
    assert_schema("status", &outputs, &[".open_letters"]);
}
