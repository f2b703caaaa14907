use bson::Uuid;

use super::*;

/// A partition whose log goes from 10 to 20.
pub(in crate::commands) fn place(next_offset: Option<i64>, committed: Option<i64>) -> Place {
    Place {
        partition: Partition::new("t", 0),
        log: PartitionLog {
            topic_id: Some(Uuid::from_bytes([1; 16])),
            offsets: 10..20,
            stable_end: 20,
            leader_epoch: None,
            diverged: false,
            committed,
            known: true,
        },
        checkpoint: next_offset.map_or(Stored::Absent, |next_offset| {
            Stored::Checkpoint(Checkpoint {
                next_offset,
                topic_id: Some(Uuid::from_bytes([1; 16])),
                epoch: 3,
                ..Checkpoint::default()
            })
        }),
        updated_at: None,
        host: None,
        member_id: None,
    }
}

/// [`place`], halted for this reason since offset 12, at 15.
pub(in crate::commands) fn halted(reason: HaltReason) -> Place {
    let mut place = place(Some(15), None);
    let Stored::Checkpoint(checkpoint) = &mut place.checkpoint else {
        panic!("it has one");
    };
    checkpoint.halt = Some(Halt { reason, from: 12 });
    place
}

#[test]
fn a_recreated_topic_has_all_of_its_log_to_apply() {
    let mut place = place(Some(150), None);
    place.log.topic_id = Some(Uuid::from_bytes([2; 16]));
    assert_eq!(place.lag(), Some(10));
    let planned = Move {
        place,
        to: 10,
        reject_next: false,
    };
    assert_eq!(planned.effect(), "applies the new topic, 10 record(s)");
    assert_eq!(
        super::tests::place(Some(3), None).lag(),
        Some(10),
        "the rest is lost"
    );
}

#[test]
fn a_target_is_inside_the_log() {
    let place = place(Some(15), None);
    for (to, at, target) in [
        (ResetTarget::Earliest, None, Some(10)),
        (ResetTarget::Latest, None, Some(20)),
        (ResetTarget::Time(5), Some(12), Some(12)),
        (ResetTarget::Time(5), None, Some(20)),
        (ResetTarget::Offset(10), None, Some(10)),
        (ResetTarget::Offset(20), None, Some(20)),
        (ResetTarget::Offset(9), None, None),
        (ResetTarget::Offset(21), None, None),
    ] {
        assert_eq!(super::target(to, &place, at).ok(), target, "{to:?}");
    }
}

#[test]
fn the_effect_of_a_move_is_shown() {
    for (from, to, effect) in [
        (Some(15), 10, "replays 5"),
        (Some(15), 20, "SKIPS 5"),
        (Some(15), 15, "stays"),
        (None, 10, "starts there"),
    ] {
        assert_eq!(
            Move {
                place: place(from, None),
                to,
                reject_next: false,
            }
            .effect(),
            effect
        );
    }
}

#[test]
fn only_what_is_stuck_is_resolved_and_from_the_start_of_the_log() {
    let mut recreated = place(Some(15), None);
    recreated.log.topic_id = Some(Uuid::from_bytes([2; 16]));
    let mut unreadable = place(None, None);
    unreadable.checkpoint = Stored::Unreadable(None);
    let stuck = [
        place(Some(9), None),
        place(Some(21), None),
        place(None, Some(9)),
        recreated,
        unreadable,
    ];
    let fine = [
        place(Some(10), None),
        place(Some(20), None),
        place(None, None),
        place(None, Some(12)),
    ];
    for place in stuck {
        assert!(place.is_stuck(Start::Earliest));
        let found = resolution(&place, HaltResolution::default()).unwrap();
        assert_eq!(found, Resolution::To(10));
    }
    assert!(fine.iter().all(|place| !place.is_stuck(Start::Earliest)));
}

#[test]
fn what_is_halted_continues_where_a_person_says() {
    let retry = HaltResolution {
        retry: true,
        ..HaltResolution::default()
    };
    let behind = HaltResolution {
        behind: true,
        ..HaltResolution::default()
    };
    for (reason, way, expected) in [
        (HaltReason::Rejections, retry, Some(Resolution::To(12))),
        (HaltReason::Rejections, behind, Some(Resolution::To(15))),
        (HaltReason::Rejections, HaltResolution::default(), None),
        (HaltReason::Unreadable, retry, Some(Resolution::To(15))),
        (
            HaltReason::Unreadable,
            behind,
            Some(Resolution::BehindUnreadable(15)),
        ),
        (HaltReason::Unreadable, HaltResolution::default(), None),
    ] {
        let mut place = halted(reason);
        assert!(place.is_stuck(Start::Earliest) && place.state().starts_with("halted"));
        assert_eq!(resolution(&place, way).ok(), expected, "{reason:?}");
        // A log that does not fit is the graver fault.
        place.log.offsets = 16..20;
        let found = resolution(&place, HaltResolution::default()).unwrap();
        assert_eq!(found, Resolution::To(16));
    }
}
