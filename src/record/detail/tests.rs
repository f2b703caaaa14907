use super::*;
use crate::record::entity::{Decoded, Decoder, Tombstones};
use std::sync::Arc;

fn of(key: &str, value: &str) -> (Reason, Detail) {
    let mapping = Arc::new(Mapping::builtin());
    let mut decoder = Decoder::new(Arc::clone(&mapping), Tombstones::Ignore);
    let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
    let Decoded::Rejected(reason) = decoder.decode(key, value, &mut Vec::new()) else {
        panic!("the record is accepted");
    };
    (reason, detail(&mapping, key, value, reason))
}

fn kind(kind: &str) -> Detail {
    Detail {
        kind: Some(kind.to_owned()),
        ..Detail::default()
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn each_fault_has_its_detail() {
    for (value, expected) in [
        (r#"{"id":"k","kind":"Novelty"}"#, kind("Novelty")),
        (
            r#"{"id":"other","kind":"Model"}"#,
            Detail {
                key: text("k"),
                id: text("other"),
                ..kind("Model")
            },
        ),
        (
            r#"{"kind":"Model"}"#,
            Detail {
                field: text("id"),
                found: Some("nothing"),
                ..kind("Model")
            },
        ),
        (
            r#"{"id":"k","kind":"Model","kind":7}"#,
            Detail {
                field: text("kind"),
                found: Some("a number"),
                ..Detail::default()
            },
        ),
        (
            r#"{"id":"k","kind":"Model","labels":["a"]}"#,
            Detail {
                field: text("labels"),
                found: Some("an array"),
                ..kind("Model")
            },
        ),
        (
            r#"{"id":"k","kind":"Model","a.b":1}"#,
            Detail {
                field: text("a.b"),
                ..kind("Model")
            },
        ),
        (
            r#"{"id":"k","kind":"Model","a":[{},{"b\u0000":1}]}"#,
            Detail {
                field: text("a[1].b\0"),
                ..kind("Model")
            },
        ),
        (
            r#"{"id":"k","kind":"Model","a":{"b":[0, 18446744073709551616 ]}}"#,
            Detail {
                field: text("a.b[1]"),
                number: text("18446744073709551616"),
                ..kind("Model")
            },
        ),
        (
            r#"{"id":"k","kind":"Model","a":,}"#,
            Detail {
                message: text("expected value at line 1 column 30"),
                ..kind("Model")
            },
        ),
        (
            r#"{"id":"k","kind":"Model","a":"\ud800"}"#,
            Detail {
                message: text("an escape that is no character, behind byte 30"),
                ..kind("Model")
            },
        ),
        (
            "[1]",
            Detail {
                message: text("an array, not an object"),
                ..Detail::default()
            },
        ),
    ] {
        assert_eq!(of("k", value).1, expected, "{value}");
    }
}

#[test]
fn the_depth_and_its_place_are_said_whatever_the_depth() {
    for levels in [100, 200_000] {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        let (reason, detail) = of(
            "k",
            &format!(r#"{{"id":"k","kind":"Model","a":{open}{close}}}"#),
        );
        assert_eq!(reason, Reason::TooDeep);
        assert_eq!(detail.depth, Some(levels as u32 + 1));
        assert!(detail.field.unwrap().starts_with("a"));
    }
}

#[test]
fn the_size_is_that_of_the_document() {
    let mapping = Mapping::builtin();
    let small =
        r#"{"id":"k","kind":"Model","labels":{"a":"b","c":"d"},"n":[1,2.5,null,9999999999]}"#;
    let mut out = Vec::new();
    let mut decoder = Decoder::new(Arc::new(mapping), Tombstones::Ignore);
    decoder.decode(Some(b"k"), Some(small.as_bytes()), &mut out);
    let mapping = Mapping::builtin();
    let mut walk = Walk::new(&mapping);
    walk.read(small).unwrap();
    assert_eq!(walk.bytes as usize, out.len() + b"t_id\0llllk\0".len());
    let large = format!(
        r#"{{"id":"k","kind":"Model","a":"{}"}}"#,
        "x".repeat(17 << 20)
    );
    let (reason, detail) = of("k", &large);
    assert_eq!(reason, Reason::TooLarge);
    assert_eq!(detail.bytes, Some((17 << 20) + 11 + 5 + 16 + 8));
}

#[test]
fn what_is_quoted_is_cut_and_says_so() {
    let (_, detail) = of(
        "k",
        &format!(r#"{{"id":"k","kind":"{}"}}"#, "é".repeat(300)),
    );
    assert_eq!(detail.kind.unwrap(), format!("{}…", "é".repeat(128)));
}
