//! Every rule of "Entity → document".

use std::sync::Arc;

use bson::{Bson, Document, doc};
use test_oracles::reference::{Expected, reference_document};
use workflows_sink::record::entity::{Decoded, Decoder, Tombstones};
use workflows_sink::record::mapping::Mapping;

use crate::{ID, accepted, entity, outcome};

/// The fields of an entity with these members, in order, without id and kind.
fn fields(members: &str) -> Document {
    let text = entity(members);
    let Expected::Accepted { mut document, .. } = outcome(&text) else {
        panic!("{text}: {:?}", outcome(&text))
    };
    let mut expected = reference_document(&text);
    assert_eq!(expected.remove("_id"), Some(Bson::from(ID)));
    assert_eq!(
        accepted(&text),
        expected.to_vec().unwrap(),
        "{text}: byte for byte"
    );
    document.remove("_id");
    document.remove("kind");
    document
}

/// What a value of a field, which is also tried as an element of an array, becomes.
fn value(json: &str) -> Bson {
    let document = fields(&format!(
        r#""n": {json}, "in": [0, {json}, {{"m": {json}}}]"#
    ));
    let value = document.get("n").unwrap().clone();
    let array = vec![
        Bson::Int32(0),
        value.clone(),
        doc! { "m": value.clone() }.into(),
    ];
    assert_eq!(document.get("in"), Some(&Bson::Array(array)));
    value
}

#[test]
fn the_id_becomes_the_documents_own() {
    let Expected::Accepted { document, .. } = outcome(&format!(
        r#"{{"a": 1, "id": "{ID}", "kind": "Curve", "b": 2}}"#
    )) else {
        panic!("must be accepted")
    };
    assert_eq!(
        document,
        doc! { "_id": ID, "a": 1, "kind": "Curve", "b": 2 }
    );
}

#[test]
fn every_kind_goes_to_its_collection() {
    for (kind, collection) in [
        ("OCIArtifact", "artifacts"),
        ("Analysis", "analyses"),
        ("SafetyCase", "safetycases"),
    ] {
        let value = format!(r#"{{"id": "{ID}", "kind": "{kind}"}}"#);
        assert!(
            matches!(outcome(&value), Expected::Accepted { collection: found, .. } if found == collection)
        );
    }
}

#[test]
fn labels_become_an_array_without_the_nulls() {
    for (labels, expected) in [
        ("null", Bson::Null),
        ("{}", Bson::Array(vec![])),
        (r#"{"a": null}"#, Bson::Array(vec![])),
        (
            r#"{"b": "1", "a": "2"}"#,
            vec![
                doc! { "key": "b", "value": "1" },
                doc! { "key": "a", "value": "2" },
            ]
            .into(),
        ),
        (
            r#"{"a": null, "b": "1", "c": null, "d": "2"}"#,
            vec![
                doc! { "key": "b", "value": "1" },
                doc! { "key": "d", "value": "2" },
            ]
            .into(),
        ),
        (
            r#"{"a": 1, "a": 2}"#,
            vec![doc! { "key": "a", "value": 2 }].into(),
        ),
        (
            r#"{"a": 1, "b": 2, "a": 3}"#,
            vec![
                doc! { "key": "a", "value": 3 },
                doc! { "key": "b", "value": 2 },
            ]
            .into(),
        ),
        (
            r#"{"a": null, "b": 2, "a": 3}"#,
            vec![
                doc! { "key": "a", "value": 3 },
                doc! { "key": "b", "value": 2 },
            ]
            .into(),
        ),
        (
            r#"{"a": 1, "b": 2, "a": null}"#,
            vec![doc! { "key": "b", "value": 2 }].into(),
        ),
        (r#"{"": 1}"#, vec![doc! { "key": "", "value": 1 }].into()),
        (
            r#"{"$a.b": 1, "_id": 2}"#,
            vec![
                doc! { "key": "$a.b", "value": 1 },
                doc! { "key": "_id", "value": 2 },
            ]
            .into(),
        ),
        (
            r#"{"a\u0000b": 1, "a": 2, "a\u0000b": 3}"#,
            vec![
                doc! { "key": "a\0b", "value": 3 },
                doc! { "key": "a", "value": 2 },
            ]
            .into(),
        ),
        (
            r#"{"a": {"x": null}, "b": [null], "c": true}"#,
            vec![
                doc! { "key": "a", "value": { "x": null } },
                doc! { "key": "b", "value": [null] },
                doc! { "key": "c", "value": true },
            ]
            .into(),
        ),
        (
            r#"{"a": {"x": 1, "x": {}}, "a": {"y": 1}}"#,
            vec![doc! { "key": "a", "value": { "y": 1 } }].into(),
        ),
    ] {
        assert_eq!(
            fields(&format!(r#""labels": {labels}, "z": 1"#)),
            doc! { "labels": expected, "z": 1 },
            "{labels}"
        );
    }
    let many: Vec<String> = (0..1234)
        .map(|n| format!(r#""l{n}": {}"#, if n % 3 == 0 { "null" } else { "7" }))
        .collect();
    let found = fields(&format!(r#""labels": {{{}}}"#, many.join(",")));
    assert_eq!(found.get_array("labels").unwrap().len(), 1234 - 412);
}

#[test]
fn only_the_labels_at_the_top_become_an_array() {
    assert_eq!(
        fields(r#""n": {"labels": {"a": 1}}"#),
        doc! { "n": { "labels": { "a": 1 } } }
    );
    assert_eq!(
        fields(r#""annotations": [{"key": "a", "value": null}]"#),
        doc! { "annotations": [{ "key": "a", "value": null }] }
    );
}

#[test]
fn the_order_of_fields_is_kept() {
    let members =
        r#""z": {"b": 1, "a": {"d": 1, "c": 2}, "10": 1, "9": 2}, "a": [{"y": 1, "x": 2}]"#;
    let names = |document: &Document| document.keys().cloned().collect::<Vec<_>>();
    let document = fields(members);
    assert_eq!(names(&document), ["z", "a"]);
    assert_eq!(
        names(document.get_document("z").unwrap()),
        ["b", "a", "10", "9"]
    );
}

#[test]
fn an_array_counts_its_elements() {
    let elements: Vec<String> = (0..1200).map(|n| n.to_string()).collect();
    let expected: Vec<Bson> = (0..1200).map(Bson::Int32).collect();
    assert_eq!(
        value(&format!("[{}]", elements.join(","))),
        Bson::Array(expected)
    );
}

#[test]
fn a_name_given_twice_keeps_its_first_place_and_its_last_value() {
    for (members, expected) in [
        (r#""a": 1, "b": 2, "a": "x""#, doc! { "a": "x", "b": 2 }),
        (
            r#""a": {"x": 1}, "b": 2, "a": [], "b": null, "c": 3, "a": 1.5"#,
            doc! { "a": 1.5, "b": null, "c": 3 },
        ),
        (
            r#""n": {"a": 1, "b": {"c": 1, "d": 2, "c": 3}, "a": 2}"#,
            doc! { "n": { "a": 2, "b": { "c": 3, "d": 2 } } },
        ),
        (
            r#""n": [{"a": 1, "a": 2}, {"a": 3}]"#,
            doc! { "n": [{ "a": 2 }, { "a": 3 }] },
        ),
        (
            r#""n": {"": 1, "": 2}, "é": 1, "\u00e9": 2"#,
            doc! { "n": { "": 2 }, "é": 2 },
        ),
        (
            r#""abcdefgh-1-ijklmnop": 1, "abcdefgh-2-ijklmnop": 2"#,
            doc! { "abcdefgh-1-ijklmnop": 1, "abcdefgh-2-ijklmnop": 2 },
        ),
        (
            r#""labels": {"a": 1}, "z": 1, "labels": {"b": 2}"#,
            doc! { "labels": [{ "key": "b", "value": 2 }], "z": 1 },
        ),
        (
            r#""a": true, "b": 1.5, "c": 4294967296, "d": null, "e": {}, "f": [1], "g": "s", "h": 1, "a": false"#,
            doc! { "a": false, "b": 1.5, "c": 1_i64 << 32, "d": null, "e": {}, "f": [1], "g": "s", "h": 1 },
        ),
        (
            r#""labels": {"a": 1}, "labels": null"#,
            doc! { "labels": null },
        ),
    ] {
        let found = fields(members);
        assert_eq!(found, expected, "{members}");
        assert!(found.keys().eq(expected.keys()), "{members}");
    }
}

#[test]
fn names_given_twice_among_many_are_found_too() {
    let name = |n: usize| format!("abcdefgh-{:03}-ijklmnop", n % 100);
    let members: Vec<String> = (0..150).map(|n| format!(r#""{}": {n}"#, name(n))).collect();
    let expected: Document = (0..100)
        .map(|n| {
            (
                name(n),
                Bson::Int32(if n < 50 { n + 100 } else { n } as i32),
            )
        })
        .collect();
    assert_eq!(
        fields(&format!(r#""n": {{{}}}"#, members.join(","))),
        doc! { "n": expected }
    );
    let distinct = members[..100].join(",");
    assert_eq!(
        fields(&format!(r#""n": {{{distinct}}}"#))
            .get_document("n")
            .unwrap()
            .len(),
        100
    );
}

#[test]
fn a_text_may_become_a_document_many_times_as_long() {
    // Two bytes an element, which take twelve as BSON.
    for elements in [1_000, 3_000, 6_000, 20_000, 300_000] {
        let text = vec!["0"; elements].join(",");
        let expected = vec![Bson::Int32(0); elements];
        assert_eq!(
            value(&format!("[{text}]")),
            Bson::Array(expected),
            "{elements}"
        );
    }
}

#[test]
fn each_name_of_any_number_is_found_when_it_is_given_again() {
    for names in [1, 2, 31, 32, 33, 34, 65, 100] {
        let members: Vec<String> = (0..names).map(|n| format!(r#""n{n}": {n}"#)).collect();
        let members = members.join(",");
        for again in 0..names {
            let of = fields(&format!(r#""n": {{{members}, "n{again}": "again"}}"#));
            let expected: Document = (0..names)
                .map(|n| match n {
                    _ if n == again => (format!("n{n}"), Bson::from("again")),
                    _ => (format!("n{n}"), Bson::Int32(n)),
                })
                .collect();
            assert_eq!(of, doc! { "n": expected }, "n{again} of {names}");
        }
    }
}

#[test]
fn numbers_become_the_narrowest_type_that_holds_them() {
    for (json, expected) in [
        ("0", Bson::Int32(0)),
        ("-0", Bson::Int32(0)),
        ("2147483647", Bson::Int32(i32::MAX)),
        ("2147483648", Bson::Int64(1 << 31)),
        ("-2147483648", Bson::Int32(i32::MIN)),
        ("-2147483649", Bson::Int64(-(1 << 31) - 1)),
        ("9007199254740993", Bson::Int64((1 << 53) + 1)),
        ("9223372036854775807", Bson::Int64(i64::MAX)),
        ("-9223372036854775808", Bson::Int64(i64::MIN)),
        ("0.0", Bson::Double(0.0)),
        ("1.0", Bson::Double(1.0)),
        ("1e0", Bson::Double(1.0)),
        ("1E+2", Bson::Double(100.0)),
        ("-1.5e-3", Bson::Double(-0.0015)),
        ("0.1", Bson::Double(0.1)),
        ("9007199254740993.0", Bson::Double(9007199254740992.0)),
        (
            "9007199254740992.99999999999999999999999",
            Bson::Double(9007199254740992.0),
        ),
        (
            "9007199254740993.00000000000000000000001",
            Bson::Double(9007199254740994.0),
        ),
        (
            "2.2250738585072011e-308",
            Bson::Double(2.225_073_858_507_201e-308),
        ),
        ("1.7976931348623157e308", Bson::Double(f64::MAX)),
        ("4.9e-324", Bson::Double(f64::from_bits(1))),
        ("1e-400", Bson::Double(0.0)),
        ("9223372036854775808.0", Bson::Double(9223372036854775808.0)),
    ] {
        assert_eq!(value(json), expected, "{json}");
    }
    let Bson::Double(zero) = value("-0.0") else {
        panic!("a double")
    };
    assert!(zero == 0.0 && zero.is_sign_negative());
    assert_eq!(
        value(&format!("0.{}1", "0".repeat(5_000))),
        Bson::Double(0.0)
    );
    assert_eq!(
        value(&format!("{}.5e-4999", "9".repeat(5_000))),
        Bson::Double(10.0)
    );
}

#[test]
fn strings_stay_what_they_are() {
    for (json, expected) in [
        (r#""""#, ""),
        (r#""$status""#, "$status"),
        (r#""a\u0000b""#, "a\0b"),
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r#""\u00e9\u4E2d\ud83d\ude00""#, "é中\u{1f600}"),
        (r#""\uD800\uDC00\udbff\udfff""#, "\u{10000}\u{10ffff}"),
        (r#""\ud7ff\ue000\uffff""#, "\u{d7ff}\u{e000}\u{ffff}"),
        (
            "\"é中\u{1f600}\u{7f}\u{2028}\u{feff}\"",
            "é中\u{1f600}\u{7f}\u{2028}\u{feff}",
        ),
    ] {
        assert_eq!(value(json), Bson::from(expected), "{json}");
    }
    assert_eq!(value("true"), Bson::Boolean(true));
    assert_eq!(value("false"), Bson::Boolean(false));
    assert_eq!(value("null"), Bson::Null);
    assert_eq!(value("[]"), Bson::Array(vec![]));
    assert_eq!(value("{}"), Bson::Document(doc! {}));
}

#[test]
fn nothing_in_a_payload_is_interpreted() {
    for json in [
        r#"{"$oid": "0123456789abcdef01234567"}"#,
        r#"{"$date": "2026-01-01T00:00:00Z"}"#,
        r#"{"$date": {"$numberLong": "1"}}"#,
        r#"{"$numberLong": "1"}"#,
        r#"{"$numberDecimal": "1"}"#,
        r#"{"$binary": {"base64": "AA==", "subType": "00"}}"#,
        r#"{"$code": "x", "$scope": {}}"#,
        r#"{"$symbol": "x"}"#,
        r#"{"$undefined": true}"#,
        r#"{"$minKey": 1}"#,
        r#"{"$regularExpression": {"pattern": "a", "options": ""}}"#,
        r#"{"$timestamp": {"t": 1, "i": 1}}"#,
        r#"{"$uuid": "00000000-0000-0000-0000-000000000000"}"#,
        r#"{"$serde_json::private::Number": "1"}"#,
        r#"{"$__bson_private_bson_bytes": "x"}"#,
    ] {
        let Bson::Document(document) = value(json) else {
            panic!("{json} is an object")
        };
        assert!(document.keys().next().unwrap().starts_with('$'), "{json}");
    }
}

#[test]
fn another_schema_is_another_mapping() {
    let mapping = Mapping::parse(
        "id='uid'\nkind='type'\nmaps=['tags','props']\nskipped_ids=['-']\n[collections]\nT='ts'",
    )
    .unwrap();
    let mut decoder = Decoder::new(Arc::new(mapping), Tombstones::Ignore);
    let mut out = Vec::new();
    let text = r#"{"props": {"p": 1}, "uid": "u", "labels": {"l": 1}, "type": "T", "tags": {"t": null}, "id": 1}"#;
    let decoded = decoder.decode(Some(b"u"), Some(text.as_bytes()), &mut out);
    assert!(matches!(decoded, Decoded::Accepted { .. }), "{decoded:?}");
    let expected = doc! { "props": [{ "key": "p", "value": 1 }], "labels": { "l": 1 }, "type": "T", "tags": [], "id": 1 };
    assert_eq!(out, expected.to_vec().unwrap());
    for malformed in [
        r#"{"uid": "u", "type": "T", "tags": 1}"#,
        r#"{"uid": "u", "type": "T", "props": 1, "tags": {}}"#,
    ] {
        let decoded = decoder.decode(Some(b"u"), Some(malformed.as_bytes()), &mut out);
        assert_eq!(
            decoded,
            Decoded::Rejected(workflows_sink::record::entity::Reason::MalformedLabels)
        );
    }
}
