//! Every row of "Record → outcome", and their order.

use test_oracles::reference::{Expected, reference_outcome};
use workflows_sink::record::entity::{Reason, Skip, Tombstones};

use crate::{ID, decode, entity, outcome};

const NULL_ID: &str = "00000000000000000000000000000000";

/// A record, in parts that a fault can spoil one by one.
#[derive(Clone)]
struct Record {
    key: Option<Vec<u8>>,
    id: Option<String>,
    kind: Option<&'static str>,
    labels: Option<&'static str>,
    members: Vec<String>,
    behind: &'static str,
}

impl Record {
    fn good() -> Self {
        Self {
            key: Some(ID.into()),
            id: Some(format!("{ID:?}")),
            kind: Some(r#""Curve""#),
            labels: Some(r#"{"a": "b"}"#),
            members: vec![r#""status": "Ready""#.into()],
            behind: "",
        }
    }

    fn value(&self) -> String {
        let named = [
            ("id", self.id.as_deref()),
            ("kind", self.kind),
            ("labels", self.labels),
        ];
        let named = named
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name:?}: {}", value?)));
        let members: Vec<String> = self.members.iter().cloned().chain(named).collect();
        format!("{{{}}}{}", members.join(", "), self.behind)
    }

    fn outcome(&self) -> Expected {
        let value = self.value();
        let outcome = decode(
            self.key.as_deref(),
            Some(value.as_bytes()),
            Tombstones::Ignore,
        );
        let expected = reference_outcome(
            self.key.as_deref(),
            Some(value.as_bytes()),
            Tombstones::Ignore,
        );
        assert_eq!(outcome, expected, "{}", value.get(..300).unwrap_or(&value));
        outcome
    }
}

/// What spoils a record.
type Spoil = fn(&mut Record);

/// Every fault, in the order in which they are looked for, and what it makes of a record.
fn faults() -> Vec<(Expected, Spoil)> {
    let rejected = Expected::Rejected;
    vec![
        (rejected(Reason::MalformedValue), |record| {
            record.behind = "]"
        }),
        (rejected(Reason::MalformedKey), |record| {
            record.key = Some(vec![0xff])
        }),
        (rejected(Reason::MissingId), |record| record.id = None),
        (rejected(Reason::KeyMismatch), |record| {
            record.key = Some(b"another".to_vec())
        }),
        (Expected::Skipped(Skip::NullId), |record| {
            record.key = Some(NULL_ID.into());
            record.id = Some(format!("{NULL_ID:?}"));
        }),
        (rejected(Reason::MissingKind), |record| record.kind = None),
        (rejected(Reason::UnknownKind), |record| {
            record.kind = Some(r#""Curves""#)
        }),
        (rejected(Reason::MalformedLabels), |record| {
            record.labels = Some("[]")
        }),
        (rejected(Reason::UnsafeFieldName), |record| {
            record.members.push(r#""$set": 1"#.into())
        }),
        (rejected(Reason::UnsafeFieldName), |record| {
            record.members.push(r#""n": [{"a\u0000": 1}]"#.into())
        }),
        (rejected(Reason::NumberOutOfRange), |record| {
            record.members.push(r#""n": 9223372036854775808"#.into())
        }),
        (rejected(Reason::TooDeep), |record| {
            record
                .members
                .push(format!(r#""n": {}{}"#, "[".repeat(100), "]".repeat(100)));
        }),
        (rejected(Reason::TooLarge), |record| {
            record
                .members
                .push(format!(r#""n": "{}""#, "x".repeat(16 << 20)))
        }),
    ]
}

#[test]
fn a_record_without_fault_is_accepted() {
    assert!(
        matches!(Record::good().outcome(), Expected::Accepted { collection, .. } if collection == "curves")
    );
}

#[test]
fn every_fault_has_its_outcome_and_the_earlier_of_two_decides() {
    let faults = faults();
    for (first, (expected, spoil)) in faults.iter().enumerate() {
        let mut record = Record::good();
        spoil(&mut record);
        assert_eq!(record.outcome(), *expected, "fault {first}");
        for (second, (_, spoil_more)) in faults.iter().enumerate().skip(first + 1) {
            let mut record = Record::good();
            spoil_more(&mut record);
            spoil(&mut record);
            assert_eq!(record.outcome(), *expected, "faults {first} and {second}");
        }
    }
}

#[test]
fn a_tombstone_is_skipped_or_deletes() {
    let key = Some(ID.as_bytes());
    for (key, tombstones, expected) in [
        (key, Tombstones::Ignore, Expected::Skipped(Skip::Tombstone)),
        (None, Tombstones::Ignore, Expected::Skipped(Skip::Tombstone)),
        (key, Tombstones::Delete, Expected::Delete),
        (
            None,
            Tombstones::Delete,
            Expected::Rejected(Reason::MalformedKey),
        ),
        (
            Some(&b"\xff"[..]),
            Tombstones::Delete,
            Expected::Rejected(Reason::MalformedKey),
        ),
    ] {
        assert_eq!(
            decode(key, None, tombstones),
            expected,
            "{key:?} {tombstones:?}"
        );
        assert_eq!(
            reference_outcome(key, None, tombstones),
            expected,
            "the reference: {key:?} {tombstones:?}"
        );
    }
}

#[test]
fn a_value_that_is_no_json_object_is_malformed() {
    let good = entity("");
    let mut not_utf8 = good.clone().into_bytes();
    not_utf8[3] = 0xff;
    let mut values: Vec<Vec<u8>> = vec![not_utf8, vec![], b"\0".to_vec()];
    values.extend((0..good.len()).map(|len| good.as_bytes()[..len].to_vec()));
    let texts = [
        "null",
        "1",
        "[]",
        r#""a""#,
        "true",
        " ",
        "{",
        "}",
        "{]",
        "[}",
        "{,}",
        "{1:2}",
        "{a:1}",
        "{'a':1}",
        "nul",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a" 1}"#,
        r#"{"a":1 "b":2}"#,
        r#"{"a"::1}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[,1]}"#,
        r#"{"a":[1 2]}"#,
        r#"{"a":[1}"#,
        r#"{"a":{]}"#,
        r#"{"a":[1]]}"#,
        r#"{"a":[1}}"#,
        r#"{"a":{"b":1]}"#,
        r#"{"a":1}}"#,
    ];
    values.extend(texts.map(Vec::from));
    for spoiled in [
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "01",
        "-01",
        "00",
        "+1",
        "1.",
        ".5",
        "-",
        "-.5",
        "1e",
        "1e+",
        "1.e5",
        "0x10",
        "1_000",
        "tru",
        "True",
        "nulll",
        "'a'",
        r#""a"#,
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\u+123""#,
        "\"\n\"",
        "\"\t\"",
        "\"\u{1f}\"",
        "\"\0\"",
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\ud800""#,
        r#""\ud800x""#,
        r#""\ud800\n""#,
        r#""\udc00\ud800""#,
        r#""\ud83d\u0041""#,
        r#""\""#,
        r#""\\\""#,
        "/**/1",
        "1//",
        "\u{a0}1",
        "\u{feff}1",
        "1\u{c}",
        "[1,,2]",
        "1 1",
    ] {
        values.push(entity(&format!(r#""n": {spoiled}"#)).into_bytes());
        values.push(entity(&format!(r#""n": [{{"n": {spoiled}}}]"#)).into_bytes());
    }
    values.push(format!("\u{feff}{good}").into_bytes());
    values.push(format!("{good}{good}").into_bytes());
    values.push(format!("{good}\0").into_bytes());
    values.push(format!("{good},").into_bytes());
    for value in values {
        let outcome = decode(Some(ID.as_bytes()), Some(&value), Tombstones::Ignore);
        assert_eq!(
            outcome,
            Expected::Rejected(Reason::MalformedValue),
            "{}",
            String::from_utf8_lossy(&value)
        );
    }
}

#[test]
fn white_space_around_every_token_is_allowed() {
    let spaced = format!(
        "\r\n\t {{ \"id\" : \"{ID}\" ,\t\"kind\"\n:\r\"Curve\" , \"n\" : [ 1 , {{ }} , [ ] , {{ \"a\" : null }} ] }} \n"
    );
    assert_eq!(
        outcome(&spaced),
        outcome(&entity(r#""n":[1,{},[],{"a":null}]"#))
    );
}

#[test]
fn the_key_must_be_text_and_the_id() {
    let value = entity("");
    for (key, reason) in [
        (None, Reason::MalformedKey),
        (Some(&b"\xc3"[..]), Reason::MalformedKey),
        (Some(&b""[..]), Reason::KeyMismatch),
        (Some(&ID.as_bytes()[1..]), Reason::KeyMismatch),
        (
            Some(&b"0123456789ABCDEF0123456789ABCDEF"[..]),
            Reason::KeyMismatch,
        ),
    ] {
        assert_eq!(
            decode(key, Some(value.as_bytes()), Tombstones::Ignore),
            Expected::Rejected(reason),
            "{key:?}"
        );
    }
}

#[test]
fn any_text_can_be_an_id() {
    for (key, id) in [
        ("", ""),
        ("é\u{1f600}", r"\u00e9\ud83d\ude00"),
        ("a\0b", r"a\u0000b"),
        ("a\"/\\", r#"a\"\/\\"#),
    ] {
        let value = format!(r#"{{"id": "{id}", "kind": "Curve"}}"#);
        let outcome = decode(
            Some(key.as_bytes()),
            Some(value.as_bytes()),
            Tombstones::Ignore,
        );
        assert!(
            matches!(&outcome, Expected::Accepted { document, .. } if document.get_str("_id").is_ok_and(|id| id == key)),
            "{outcome:?}"
        );
        assert_eq!(
            outcome,
            reference_outcome(
                Some(key.as_bytes()),
                Some(value.as_bytes()),
                Tombstones::Ignore
            )
        );
    }
}

#[test]
fn an_id_or_kind_that_is_no_string_is_missing() {
    for value in [
        "null",
        "1",
        "true",
        "1.5",
        "[]",
        r#"["a"]"#,
        "{}",
        r#"{"id": "a"}"#,
    ] {
        let id = format!(r#"{{"id": {value}, "kind": "Curve"}}"#);
        assert_eq!(
            outcome(&id),
            Expected::Rejected(Reason::MissingId),
            "{value}"
        );
        let kind = format!(r#"{{"id": "{ID}", "kind": {value}}}"#);
        assert_eq!(
            outcome(&kind),
            Expected::Rejected(Reason::MissingKind),
            "{value}"
        );
    }
    let nested = format!(r#"{{"a": {{"id": "{ID}", "kind": "Curve"}}, "b": [{{"id": "{ID}"}}]}}"#);
    assert_eq!(outcome(&nested), Expected::Rejected(Reason::MissingId));
}

#[test]
fn an_id_or_kind_given_twice_counts_by_its_last_value() {
    let twice =
        |first: &str, last: &str| format!(r#"{{"id": {first}, "kind": "Curve", "id": {last}}}"#);
    let id = format!("{ID:?}");
    for other in ["null", "{}", r#"{"id": 1}"#, "[]", "1", r#""another""#] {
        assert_eq!(outcome(&twice(other, &id)), outcome(&entity("")), "{other}");
        assert!(
            matches!(
                outcome(&twice(&id, other)),
                Expected::Rejected(Reason::MissingId | Reason::KeyMismatch)
            ),
            "{other}"
        );
    }
    let kind =
        |first: &str, last: &str| format!(r#"{{"id": {id}, "kind": {first}, "kind": {last}}}"#);
    assert!(
        matches!(outcome(&kind("1", r#""Team""#)), Expected::Accepted { collection, .. } if collection == "teams")
    );
    assert_eq!(
        outcome(&kind(r#""Team""#, "1")),
        Expected::Rejected(Reason::MissingKind)
    );
    assert_eq!(
        outcome(&kind(r#""Team""#, r#""X""#)),
        Expected::Rejected(Reason::UnknownKind)
    );
    let labels =
        |first: &str, last: &str| entity(&format!(r#""labels": {first}, "labels": {last}"#));
    assert!(matches!(
        outcome(&labels("1", "{}")),
        Expected::Accepted { .. }
    ));
    assert_eq!(
        outcome(&labels("{}", "1")),
        Expected::Rejected(Reason::MalformedLabels)
    );
}

#[test]
fn names_count_once_their_escapes_are_resolved() {
    let escaped = format!(
        r#"{{"\u0069d": "{ID}", "k\u0069\u006ed": "\u0043urve", "l\u0061bels": {{"a": 1}}}}"#
    );
    assert_eq!(outcome(&escaped), outcome(&entity(r#""labels": {"a": 1}"#)));
    assert_eq!(
        outcome(&entity(r#""\u0024set": 1"#)),
        Expected::Rejected(Reason::UnsafeFieldName)
    );
    assert_eq!(
        outcome(&entity(r#""\u005fid": 1"#)),
        Expected::Rejected(Reason::UnsafeFieldName)
    );
}

#[test]
fn labels_are_an_object_or_null() {
    for malformed in [
        "1",
        "1.5",
        "true",
        "false",
        r#""a""#,
        "[]",
        r#"[{"key": "a", "value": "b"}]"#,
    ] {
        let value = entity(&format!(r#""labels": {malformed}"#));
        assert_eq!(
            outcome(&value),
            Expected::Rejected(Reason::MalformedLabels),
            "{malformed}"
        );
    }
    for labels in ["null", "{}", r#"{"a": null}"#] {
        let value = entity(&format!(r#""labels": {labels}"#));
        assert!(
            matches!(outcome(&value), Expected::Accepted { .. }),
            "{labels}"
        );
    }
}

#[test]
fn unsafe_names_are_those_that_set_or_bson_cannot_take() {
    for name in [
        "", "$", "$set", "$a", "a.b", ".", "a.", ".a", "_id", r"a\u0000", r"\u0000",
    ] {
        let value = entity(&format!(r#""{name}": 1"#));
        assert_eq!(
            outcome(&value),
            Expected::Rejected(Reason::UnsafeFieldName),
            "{name:?} at the top"
        );
    }
    for name in ["a$", "_ID", "__id", "é", " ", "id_", r"\u0001", "a/b"] {
        let value = entity(&format!(r#""{name}": 1"#));
        assert!(
            matches!(outcome(&value), Expected::Accepted { .. }),
            "{name:?} at the top"
        );
    }
    for name in ["", "$", "$oid", "a.b", "_id", "id", "labels"] {
        let value = entity(&format!(r#""n": {{"{name}": 1, "m": [{{"{name}": 2}}]}}"#));
        assert!(
            matches!(outcome(&value), Expected::Accepted { .. }),
            "{name:?} below the top"
        );
        assert_eq!(accepted_by_reference(&value), outcome(&value));
    }
    for members in [
        r#""n": {"a\u0000b": 1}"#,
        r#""n": [[{"\u0000": 1}]]"#,
        r#""labels": {"a": {"\u0000": 1}}"#,
        r#""labels": {"a": [{"b\u0000": 1}]}"#,
        r#""n": {"labels": {"\u0000": 1}}"#,
        r#""labels": {"labels": {"\u0000": 1}}"#,
        r#""n": {"\u0000": 1}, "n": 1"#,
        r#""labels": {}, "n": {"\u0000": 1}"#,
    ] {
        assert_eq!(
            outcome(&entity(members)),
            Expected::Rejected(Reason::UnsafeFieldName),
            "{members}"
        );
    }
    let in_the_id = format!(r#"{{"id": {{"a\u0000": 1}}, "kind": "Curve", "id": "{ID}"}}"#);
    assert_eq!(
        outcome(&in_the_id),
        Expected::Rejected(Reason::UnsafeFieldName)
    );
}

fn accepted_by_reference(value: &str) -> Expected {
    reference_outcome(
        Some(ID.as_bytes()),
        Some(value.as_bytes()),
        Tombstones::Ignore,
    )
}
