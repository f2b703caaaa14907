//! Input at the limits, and input made to hurt.

use std::time::{Duration, Instant};

use test_oracles::reference::{Expected, reference_document};
use workflows_sink::record::entity::{Decoded, Reason, Tombstones};

use crate::{ID, accepted, decode, decoder, entity, outcome};

const DOCUMENT_BYTES_MAX: usize = 16_777_216;

fn rejected(members: &str, reason: Reason) {
    let value = entity(members);
    assert_eq!(
        outcome(&value),
        Expected::Rejected(reason),
        "{}",
        members.get(..200).unwrap_or(members)
    );
}

/// An array in an array in an array: this many.
fn arrays(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// An object in an object in an object, this many, with `inside` in the innermost.
fn objects(levels: usize, inside: &str) -> String {
    format!(
        r#"{}{inside}{}"#,
        r#"{"a":"#.repeat(levels),
        "}".repeat(levels)
    )
}

#[test]
fn a_hundred_levels_are_allowed() {
    for nested in [
        arrays(99),
        objects(99, "1"),
        format!("{}{}{}", "[".repeat(50), objects(49, "1"), "]".repeat(50)),
    ] {
        assert!(accepted(&entity(&format!(r#""n": {nested}"#))).len() > 99);
    }
    for nested in [
        arrays(100),
        objects(100, "1"),
        format!("[{}]", objects(99, "1")),
    ] {
        rejected(&format!(r#""n": {nested}"#), Reason::TooDeep);
    }
    assert!(!accepted(&entity(&format!(r#""labels": {}"#, objects(99, "1")))).is_empty());
    rejected(
        &format!(r#""labels": {}"#, objects(100, "1")),
        Reason::TooDeep,
    );
    rejected(&format!(r#""n": {}, "n": 1"#, arrays(100)), Reason::TooDeep);
}

#[test]
fn depth_is_reported_of_json_only_and_costs_no_stack() {
    for levels in [63, 64, 65, 127, 128, 129, 1_000, 200_000] {
        let reason = |outcome: Expected| match outcome {
            Expected::Rejected(reason) => Some(reason),
            _ => None,
        };
        let of = |members: String| reason(outcome(&entity(&members)));
        let too_deep = (levels > 99).then_some(Reason::TooDeep);
        assert_eq!(
            of(format!(r#""n": {}"#, arrays(levels))),
            too_deep,
            "{levels}"
        );
        assert_eq!(
            of(format!(r#""n": {}"#, objects(levels, "[]"))),
            (levels > 98).then_some(Reason::TooDeep),
            "{levels}"
        );
        let malformed = Some(Reason::MalformedValue);
        assert_eq!(
            of(format!(r#""n": {}"#, "[".repeat(levels))),
            malformed,
            "{levels}"
        );
        assert_eq!(
            of(format!(r#""n": {}]"#, arrays(levels))),
            malformed,
            "{levels}"
        );
        assert_eq!(
            of(format!(
                r#""n": {}}}{}"#,
                "[".repeat(levels),
                "]".repeat(levels - 1)
            )),
            malformed,
            "{levels}"
        );
        assert_eq!(
            of(format!(r#""n": {}"#, objects(levels, r#""\ud800""#))),
            malformed,
            "{levels}"
        );
        assert_eq!(
            of(format!(r#""n": {}"#, objects(levels, "tru"))),
            malformed,
            "{levels}"
        );
        assert_eq!(
            of(format!(r#""n": {}"#, objects(levels, "1e400"))),
            Some(Reason::NumberOutOfRange),
            "{levels}"
        );
        assert_eq!(
            of(format!(r#""n": {}"#, objects(levels, r#"{"\u0000": 1}"#))),
            Some(Reason::UnsafeFieldName),
            "{levels}"
        );
        assert_eq!(
            of(format!(r#""n": {}, "labels": 1"#, arrays(levels))),
            Some(Reason::MalformedLabels),
            "{levels}"
        );
        let another_id_behind = format!(
            r#"{{"n": {}, "id": "another", "kind": "Curve"}}"#,
            arrays(levels)
        );
        assert_eq!(
            reason(outcome(&another_id_behind)),
            Some(Reason::KeyMismatch),
            "{levels}"
        );
    }
}

#[test]
fn numbers_out_of_range_are_rejected_wherever_they_are() {
    for number in [
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "-18446744073709551616",
        "1e400",
        "-1e400",
        "1.7976931348623159e308",
        "1e99999999999999999999",
        &"9".repeat(10_000),
    ] {
        rejected(&format!(r#""n": {number}"#), Reason::NumberOutOfRange);
        rejected(
            &format!(r#""n": [0, {{"m": {number}}}]"#),
            Reason::NumberOutOfRange,
        );
        rejected(
            &format!(r#""n": {number}, "n": 1"#),
            Reason::NumberOutOfRange,
        );
        rejected(
            &format!(r#""labels": {{"a": {number}, "a": null}}"#),
            Reason::NumberOutOfRange,
        );
        let in_the_id = format!(r#"{{"id": {number}, "kind": "Curve", "id": "{ID}"}}"#);
        assert_eq!(
            outcome(&in_the_id),
            Expected::Rejected(Reason::NumberOutOfRange),
            "{number}"
        );
    }
}

/// An entity whose document, with its id, has exactly this many bytes.
fn entity_of(bytes: usize, before: &str, escape: &str) -> String {
    let value = |pad: usize| entity(&format!(r#"{before}"n": "{}{}""#, escape, "x".repeat(pad)));
    let empty = reference_document(&value(0)).to_vec().unwrap().len();
    value(bytes - empty)
}

#[test]
fn a_document_may_have_16_mib_with_its_id_and_not_a_byte_more() {
    let removed = format!(
        r#""d": [1, {{"e": "{}", "e": 2}}], "d": 1, "#,
        "x".repeat(30_000)
    );
    let replaced = format!(r#""d": "{}", "d": 1, "#, "x".repeat(30_000));
    for before in [
        "",
        r#""labels": {"a": 1, "b": null}, "#,
        &removed,
        &replaced,
    ] {
        for escape in ["", r"\u00e9"] {
            let largest = accepted(&entity_of(DOCUMENT_BYTES_MAX, before, escape));
            assert_eq!(
                largest.len() + b"\x02_id\0llll\0".len() + ID.len(),
                DOCUMENT_BYTES_MAX
            );
            let value = entity_of(DOCUMENT_BYTES_MAX + 1, before, escape);
            assert_eq!(
                outcome(&value),
                Expected::Rejected(Reason::TooLarge),
                "{before}"
            );
        }
    }
}

#[test]
fn the_id_counts_in_the_size_however_long_it_is() {
    let id = "i".repeat(8 << 20);
    for (more, fits) in [(0, true), (1, false)] {
        let rest = DOCUMENT_BYTES_MAX
            - bson::doc! { "_id": &id, "kind": "Curve", "n": "" }
                .to_vec()
                .unwrap()
                .len();
        let value = format!(
            r#"{{"kind": "Curve", "n": "{}", "id": "{id}"}}"#,
            "x".repeat(rest + more)
        );
        let mut out = Vec::new();
        let decoded = decoder(Tombstones::Ignore).decode(
            Some(id.as_bytes()),
            Some(value.as_bytes()),
            &mut out,
        );
        assert_eq!(matches!(decoded, Decoded::Accepted { .. }), fits, "{more}");
    }
}

#[test]
fn a_document_that_grows_too_large_stops_growing_but_is_read_to_its_end() {
    // Elements of an array grow from 2 bytes to 13 and more: 90 MiB if nothing stopped it.
    let ones = vec!["1"; 6 << 20].join(",");
    let mut out = Vec::new();
    let mut decode = |value: String| {
        let decoded = decoder(Tombstones::Ignore).decode(
            Some(ID.as_bytes()),
            Some(value.as_bytes()),
            &mut out,
        );
        assert!(
            out.is_empty() && out.capacity() <= 3 * DOCUMENT_BYTES_MAX,
            "{} bytes",
            out.capacity()
        );
        decoded
    };
    assert_eq!(
        decode(entity(&format!(r#""n": [{ones}]"#))),
        Decoded::Rejected(Reason::TooLarge)
    );
    assert_eq!(
        decode(entity(&format!(r#""n": [{ones}], "m": 1e400"#))),
        Decoded::Rejected(Reason::NumberOutOfRange)
    );
    assert_eq!(
        decode(entity(&format!(r#""n": [{ones}], "m": tru"#))),
        Decoded::Rejected(Reason::MalformedValue)
    );
    let id_behind = |id: &str| format!(r#"{{"n": [{ones}], "i\u0064": "{id}", "kind": "Curve"}}"#);
    assert_eq!(
        decode(id_behind("another")),
        Decoded::Rejected(Reason::KeyMismatch)
    );
    assert_eq!(decode(id_behind(ID)), Decoded::Rejected(Reason::TooLarge));
    assert_eq!(
        decode(entity(&format!(r#""n": "{}""#, "x".repeat(100 << 20)))),
        Decoded::Rejected(Reason::TooLarge)
    );
}

/// This many members, their names from `name`.
fn members(count: usize, name: impl Fn(usize) -> String) -> String {
    let members: Vec<String> = (0..count).map(|n| format!(r#""{}":1"#, name(n))).collect();
    members.join(",")
}

/// The names of a document without a look at its values.
fn count(document: &[u8]) -> usize {
    bson::RawDocument::from_bytes(document)
        .unwrap()
        .iter()
        .count()
}

#[test]
fn a_million_fields_take_a_moment() {
    let start = Instant::now();
    assert_eq!(
        count(&accepted(&entity(&members(1_000_000, |n| format!("f{n}"))))),
        1_000_001
    );
    let twice = accepted(&entity(&members(1_000_000, |n| {
        format!("f{}", n % 500_000)
    })));
    assert_eq!(count(&twice), 500_001);
    // Names that agree in length, beginning and end.
    let alike = accepted(&entity(&members(200_000, |n| {
        format!("abcdefgh{n:07}ijklmnop")
    })));
    assert_eq!(count(&alike), 200_001);
    // Compared one with another these would take hours.
    assert!(
        start.elapsed() < Duration::from_secs(600),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn empty_and_strange_keys_are_no_trouble() {
    for key in [&b""[..], b"\0", b"\xff\xfe", &[b'k'; 100_000]] {
        let outcome = decode(Some(key), Some(entity("").as_bytes()), Tombstones::Ignore);
        assert!(
            matches!(
                outcome,
                Expected::Rejected(Reason::KeyMismatch | Reason::MalformedKey)
            ),
            "{outcome:?}"
        );
    }
}
