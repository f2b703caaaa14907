use bson::{Binary, bson, spec::BinarySubtype};

use super::*;

fn id(byte: u8) -> Uuid {
    Uuid::from_bytes([byte; 16])
}

fn stored() -> Document {
    doc! {
        "_id": { "group": "g", "topic": "t", "partition": 3 },
        "topic_id": id(1), "next_offset": 7_i64, "owner": id(2), "epoch": 4_i64,
        "session": id(3), "group_session": id(4),
        "leader_epoch": { "epoch": 5, "at": 7_i64 }, "former_topic_ids": [id(8), id(7)],
        "rejections": { "in_a_row": 20, "from": 3_i64, "at": 7_i64 },
        "halt": { "reason": "unreadable", "from": 7_i64, "at": 7_i64 },
        "updated_at": bson::DateTime::now(),
    }
}

#[test]
fn a_checkpoint_is_read_as_it_was_written() {
    let expected = Checkpoint {
        topic_id: Some(id(1)),
        next_offset: 7,
        leader_epoch: Some(5),
        former_topic_ids: vec![id(8), id(7)],
        owner: Some(id(2)),
        epoch: 4,
        session: Some(id(3)),
        group_session: Some(id(4)),
        rejections: Rejections {
            in_a_row: 20,
            from: 3,
        },
        halt: Some(Halt {
            reason: HaltReason::Unreadable,
            from: 7,
        }),
        reject_next: false,
        replays: 0,
        truncated: false,
    };
    assert_eq!(Checkpoint::read(&stored()), Ok(expected));
    let key = Key {
        group: "g".to_owned(),
        partition: Partition::new("t", 3),
    };
    assert_eq!(Some(&Bson::Document(key.id())), stored().get("_id"));
}

#[test]
fn a_number_that_a_shell_wrote_is_that_number() {
    for seven in [bson!(7), bson!(7_i64), bson!(7.0)] {
        let mut document = stored();
        document.insert("next_offset", seven.clone());
        document.insert("epoch", seven.clone());
        document.insert("leader_epoch", doc! { "epoch": seven.clone(), "at": seven });
        let found = Checkpoint::read(&document).unwrap();
        assert_eq!((found.next_offset, found.epoch), (7, 7));
        assert_eq!(found.leader_epoch, Some(7));
    }
}

#[test]
fn what_was_noted_at_another_offset_does_not_count() {
    let mut document = stored();
    document.insert("next_offset", 8_i64);
    let found = Checkpoint::read(&document).unwrap();
    assert_eq!((found.leader_epoch, found.halt), (None, None));
    assert_eq!(found.rejections, Rejections::default());
    assert_eq!(found.former_topic_ids, [id(8), id(7)]);
}

#[test]
fn an_invalid_offset_is_an_error_that_names_the_checkpoint() {
    let mut missing = stored();
    missing.remove("next_offset");
    let invalid = [
        bson!(-1),
        bson!(1.5),
        bson!(1e300),
        bson!(f64::NAN),
        bson!(f64::INFINITY),
        bson!("7"),
        Bson::Null,
    ];
    let invalid = invalid.map(|invalid| {
        let mut document = stored();
        document.insert("next_offset", invalid);
        document
    });
    for document in [&[missing][..], &invalid].concat() {
        let error = Checkpoint::read(&document).unwrap_err();
        assert!(
            error.contains(r#"{ "group": "g", "topic": "t", "partition": 3 }"#),
            "{error}"
        );
    }
    assert!(Checkpoint::read(&doc! {}).is_err());
}

#[test]
fn what_is_no_uuid_is_absent() {
    let zero = Uuid::from_bytes([0; 16]);
    assert_eq!(
        Checkpoint::read(&doc! { "next_offset": 0, "topic_id": zero })
            .unwrap()
            .topic_id,
        None
    );
    let generic = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![2; 16],
    };
    for owner in [bson!("someone"), Bson::Null, Bson::Binary(generic)] {
        let found =
            Checkpoint::read(&doc! { "next_offset": 0, "owner": owner.clone(), "topic_id": owner });
        let expected = Checkpoint::default();
        assert_eq!(found, Ok(expected));
    }
}

fn log(topic_id: Option<Uuid>, committed: Option<i64>, known: bool) -> PartitionLog {
    PartitionLog {
        topic_id,
        offsets: 10..20,
        stable_end: 19,
        leader_epoch: None,
        diverged: false,
        committed,
        known,
    }
}

#[test]
fn a_checkpoint_is_compared_with_the_log() {
    let (was, is) = (Some(id(1)), Some(id(9)));
    for (topic_id, log_id, next_offset, expected) in [
        (was, was, 10, Standing::Resume),
        (was, was, 15, Standing::Resume),
        (was, was, 20, Standing::Resume),
        (was, was, 9, Standing::Expired),
        (was, was, 21, Standing::Truncated),
        // Another id is another topic, wherever the offset stands.
        (was, is, 15, Standing::Recreated(id(9))),
        (was, is, 0, Standing::Recreated(id(9))),
        (was, is, 99, Standing::Recreated(id(9))),
        // An absent id never says so.
        (was, None, 15, Standing::Resume),
        (None, None, 15, Standing::Resume),
        (None, is, 15, Standing::Adopt),
        (was, None, 9, Standing::Expired),
        (None, is, 9, Standing::Expired),
        (was, None, 21, Standing::Truncated),
        (None, is, 21, Standing::Truncated),
    ] {
        let checkpoint = Checkpoint {
            topic_id,
            next_offset,
            ..Checkpoint::default()
        };
        let found = standing(&checkpoint, &log(log_id, Some(12), true));
        assert_eq!(found, expected, "{topic_id:?} {log_id:?} {next_offset}");
    }
}

#[test]
fn a_leader_of_the_past_does_not_make_a_log_truncated() {
    for (applied, answered, next_offset, expected) in [
        (Some(5), Some(4), 21, Standing::Stale),
        (Some(5), Some(5), 21, Standing::Truncated),
        (Some(5), Some(6), 21, Standing::Truncated),
        (None, Some(4), 21, Standing::Truncated),
        (Some(5), None, 21, Standing::Truncated),
        // It has what is to be read next all the same.
        (Some(5), Some(4), 15, Standing::Resume),
        (None, Some(4), 15, Standing::Adopt),
        (Some(5), None, 15, Standing::Resume),
    ] {
        let checkpoint = Checkpoint {
            next_offset,
            leader_epoch: applied,
            ..Checkpoint::default()
        };
        let log = PartitionLog {
            leader_epoch: answered,
            ..log(None, None, true)
        };
        assert_eq!(
            standing(&checkpoint, &log),
            expected,
            "{applied:?} {answered:?}"
        );
    }
}

#[test]
fn a_topic_that_was_left_does_not_come_back() {
    let checkpoint = Checkpoint {
        topic_id: Some(id(1)),
        next_offset: 15,
        former_topic_ids: vec![id(9)],
        ..Checkpoint::default()
    };
    let standing_in = |topic| standing(&checkpoint, &log(Some(id(topic)), None, true));
    assert_eq!(standing_in(9), Standing::Stale);
    assert_eq!(standing_in(8), Standing::Recreated(id(8)));
}

#[test]
fn a_log_with_other_records_before_the_checkpoint_was_truncated() {
    let checkpoint = Checkpoint {
        next_offset: 15,
        leader_epoch: Some(5),
        ..Checkpoint::default()
    };
    let log = PartitionLog {
        diverged: true,
        leader_epoch: Some(6),
        ..log(None, None, true)
    };
    assert_eq!(standing(&checkpoint, &log), Standing::Truncated);
}

#[test]
fn a_truncated_log_stays_so_when_it_has_grown_past_the_checkpoint() {
    let mut document = stored();
    document.insert("truncated", true);
    let checkpoint = Checkpoint::read(&document).unwrap();
    assert!(checkpoint.truncated);
    for (log_id, next_offset, expected) in [
        (Some(id(1)), 15, Standing::Truncated),
        (None, 15, Standing::Truncated),
        (Some(id(1)), 21, Standing::Truncated),
        (Some(id(9)), 15, Standing::Recreated(id(9))),
    ] {
        let checkpoint = Checkpoint {
            next_offset,
            ..checkpoint.clone()
        };
        assert_eq!(standing(&checkpoint, &log(log_id, None, true)), expected);
    }
}

#[test]
fn what_stopped_a_partition_stands_until_checkpoint_or_topic_change() {
    let halt = Some(Halt {
        reason: HaltReason::Rejections,
        from: 12,
    });
    let was = Some(id(1));
    for (next_offset, halt, truncated, log_id, expected) in [
        (15, halt, false, was, true),
        (15, halt, false, None, true),
        (15, None, true, was, true),
        (21, None, true, was, true),
        // A log that was left answers: the mark stands.
        (15, None, true, Some(id(7)), true),
        (15, halt, false, Some(id(7)), false),
        // Not marked yet, or nothing is wrong any more.
        (21, None, false, was, false),
        (15, None, false, was, false),
        // Another topic is a fresh lineage, whatever stopped the last one.
        (15, halt, false, Some(id(9)), false),
        (9, None, false, Some(id(9)), false),
        (15, None, true, Some(id(9)), false),
    ] {
        let checkpoint = Checkpoint {
            topic_id: was,
            former_topic_ids: vec![id(7)],
            next_offset,
            halt,
            truncated,
            ..Checkpoint::default()
        };
        let stays = stays_stopped(&checkpoint, &log(log_id, None, true), false);
        assert_eq!(stays, expected, "{checkpoint:?} {log_id:?}");
    }
    // Retention passes the checkpoint: its records are lost, whatever stopped it before.
    for halt in [None, halt] {
        let checkpoint = Checkpoint {
            next_offset: 9,
            halt,
            ..Checkpoint::default()
        };
        let stays = |was_expired| stays_stopped(&checkpoint, &log(was, None, true), was_expired);
        assert!(stays(true) && !stays(false), "{checkpoint:?}");
    }
}

#[test]
fn a_partition_without_a_checkpoint_begins_where_nothing_is_lost() {
    let (earliest, latest) = (Start::Earliest, Start::Latest);
    for (committed, known, start, expected) in [
        (Some(10), false, latest, Ok(10)),
        (Some(15), true, earliest, Ok(15)),
        (Some(20), false, earliest, Ok(20)),
        (Some(9), false, latest, Err(Standing::Expired)),
        (Some(21), false, earliest, Err(Standing::Truncated)),
        (None, false, earliest, Ok(10)),
        // Behind the last stable offset, records may still be committed.
        (None, false, latest, Ok(19)),
        // A partition that was added to a known topic: what was in it before we came counts too.
        (None, true, latest, Ok(10)),
        (None, true, earliest, Ok(10)),
    ] {
        let found = first_offset(&log(None, committed, known), start);
        assert_eq!(found, expected, "{committed:?} {known} {start:?}");
    }
}

#[test]
fn a_guard_that_did_not_match_means_one_thing() {
    let at = |owner: Option<Uuid>, next_offset| Checkpoint {
        owner,
        next_offset,
        ..Checkpoint::default()
    };
    let mine = Some(id(2));
    for (found, expected) in [
        (Some(at(mine, 20)), Fence::Landed(20)),
        // A smaller commit without an answer, before the whole batch was tried.
        (Some(at(mine, 15)), Fence::Landed(15)),
        (Some(at(mine, 10)), Fence::Open),
        (Some(at(mine, 12)), Fence::Moved),
        (Some(at(mine, 0)), Fence::Moved),
        (Some(at(mine, 30)), Fence::Moved),
        (None, Fence::Moved),
        // Where somebody else holds it, it does not matter where it stands.
        (Some(at(Some(id(3)), 20)), Fence::NotMine),
        (Some(at(Some(id(3)), 10)), Fence::NotMine),
        (Some(at(None, 20)), Fence::NotMine),
    ] {
        let read = fence(found.as_ref(), id(2), 10, &[15, 20]);
        assert_eq!(read, expected, "{found:?}");
    }
    // Where nothing was sent, nothing can have landed.
    assert_eq!(fence(Some(&at(mine, 20)), id(2), 10, &[]), Fence::Moved);
}

#[test]
fn what_halts_a_partition_is_read_as_it_was_written() {
    for halt in [
        Halt {
            reason: HaltReason::Rejections,
            from: 3,
        },
        Halt {
            reason: HaltReason::Unreadable,
            from: 9,
        },
    ] {
        let row = Rejections {
            in_a_row: 4,
            from: 3,
        };
        let mut document = stored();
        document.insert("halt", halt.document(7));
        document.insert("rejections", rejections(row, 7));
        let found = Checkpoint::read(&document).unwrap();
        assert_eq!((found.halt, found.rejections), (Some(halt), row));
        document.insert("rejections", rejections(Rejections::default(), 7));
        let found = Checkpoint::read(&document).unwrap();
        assert_eq!(found.rejections, Rejections::default());
    }
    // A reason of another release halts all the same.
    let mut document = stored();
    document.insert("halt", doc! { "reason": "?", "at": 7 });
    assert!(Checkpoint::read(&document).unwrap().halt.is_some());
}
