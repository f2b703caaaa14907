use super::*;

#[test]
fn only_what_was_migrated_is_ever_replaced() {
    let mut present = Present::default();
    let (id, partition) = (NewId(7), Partition::new("t", 0));
    let key = id.to_string();
    assert_eq!(present.needed(id, b"a"), Needed::New);
    let mut record = Record {
        key: Some(key.as_bytes()),
        value: Some(b"a"),
        headers: vec![(HEADER.as_bytes().to_vec(), None)],
        ..Record::default()
    };
    present.note(&partition, &record);
    assert_eq!(present.needed(id, b"a"), Needed::Nothing);
    record.value = Some(b"a");
    present.note(&partition, &record);
    assert_eq!(present.needed(id, b"b"), Needed::Changed);
    assert_eq!(present.needed(id, b"c"), Needed::Twice);
    record.headers.clear();
    record.value = Some(b"c");
    present.note(&partition, &record);
    assert_eq!(present.needed(id, b"b"), Needed::Newer);
    assert_eq!(present.needed(id, b"c"), Needed::Nothing);
    present.sent(id, b"d");
    assert_eq!(present.needed(id, b"e"), Needed::Twice);
    for key in [None, Some(&b"x"[..])] {
        record.key = key;
        present.note(&partition, &record);
    }
    assert_eq!(present.newest.len(), 1);
}

#[test]
fn a_state_that_went_over_one_of_others_is_told_until_others_write_again() {
    let mut present = Present::default();
    let (id, partition) = (NewId(7), Partition::new("t", 0));
    let key = id.to_string();
    let ours = vec![(HEADER.as_bytes().to_vec(), None)];
    let mut covered = |offset: i64, value: &'static [u8], headers: &[(Vec<u8>, _)]| {
        let record = Record {
            offset,
            key: Some(key.as_bytes()),
            value: Some(value),
            headers: headers.to_vec(),
            ..Record::default()
        };
        present.note(&partition, &record);
        present.covered.get(&id).map(|(_, offset)| *offset)
    };
    for (offset, value, headers, expected) in [
        (0, &b"a"[..], &ours[..], None),
        (1, b"b", &[], None),
        // the same state again covers nothing
        (2, b"b", &ours, None),
        (3, b"c", &[], None),
        (4, b"d", &ours, Some(4)),
        (5, b"e", &ours, Some(4)),
        (6, b"c", &[], None),
    ] {
        assert_eq!(covered(offset, value, headers), expected, "{offset}");
    }
}

/// An aggregator writes the same state anew, in its own order and without the header.
#[test]
fn what_only_the_state_topic_has_is_told_apart_by_its_value_and_by_what_is_known() {
    let (id, partition) = (NewId(7), Partition::new("s", 0));
    let key = id.to_string();
    let record = |value: &'static [u8]| Record {
        key: Some(key.as_bytes()),
        value: Some(value),
        ..Record::default()
    };
    let needed = |has_expired: bool, value: &'static [u8]| {
        let mut state = Present::default();
        state.note(&partition, &record(value));
        let mut present = Present {
            has_expired,
            ..Present::default()
        };
        present.take_in(state);
        present.needed(id, br#"{"a":1,"b":[0.5]}"#)
    };
    for has_expired in [false, true] {
        let same = br#"{ "b": [5e-1], "a": 1.0 }"#;
        assert_eq!(needed(has_expired, same), Needed::Elsewhere);
        assert_eq!(needed(has_expired, b""), Needed::Newer, "it was deleted");
    }
    assert_eq!(needed(false, br#"{"a":2}"#), Needed::Newer);
    assert_eq!(needed(true, br#"{"a":2}"#), Needed::Unknown);
}
