//! The record contract: what a record comes to, and exactly which document.

#[path = "../support/reference.rs"]
mod reference;

mod documents;
mod edges;
mod outcomes;
mod properties;

use std::sync::Arc;

use bson::{Document, RawDocument};
use reference::Expected;
use workflows_sink::record::entity::{Decoded, Decoder, Tombstones};
use workflows_sink::record::mapping::Mapping;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn decoder(tombstones: Tombstones) -> Decoder {
    Decoder::new(Arc::new(Mapping::builtin()), tombstones)
}

/// What the decoder makes of a record, in the reference's words. Checks that it leaves alone what was
/// in the buffer before, and that a decoder that has been used does the same again.
fn decode(key: Option<&[u8]>, value: Option<&[u8]>, tombstones: Tombstones) -> Expected {
    let mut decoder = decoder(tombstones);
    let mut out = b"before".to_vec();
    let first = decoder.decode(key, value, &mut out);
    assert!(out.starts_with(b"before"));
    if !matches!(first, Decoded::Accepted { .. }) {
        assert_eq!(out, b"before");
    }
    let expected = in_the_references_words(first, key, &out);
    let again = decoder.decode(key, value, &mut out);
    assert_eq!(
        in_the_references_words(again, key, &out),
        expected,
        "the second time"
    );
    expected
}

fn in_the_references_words(decoded: Decoded, key: Option<&[u8]>, out: &[u8]) -> Expected {
    match decoded {
        Decoded::Accepted {
            collection,
            document,
        } => {
            assert_eq!(document.end, out.len());
            let fields = RawDocument::from_bytes(&out[document]).expect("BSON");
            let fields = Document::try_from(fields).expect("BSON all the way down");
            let mut document = bson::doc! { "_id": str::from_utf8(key.unwrap()).unwrap() };
            document.extend(fields);
            Expected::Accepted {
                collection: Mapping::builtin().collection(collection).to_owned(),
                document,
            }
        }
        Decoded::Delete => Expected::Delete,
        Decoded::Skipped(skip) => Expected::Skipped(skip),
        Decoded::Rejected(reason) => Expected::Rejected(reason),
    }
}

/// The fields, byte for byte, of an entity that must be accepted.
fn accepted(value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    match decoder(Tombstones::Ignore).decode(Some(ID.as_bytes()), Some(value.as_bytes()), &mut out)
    {
        Decoded::Accepted { document, .. } => out[document].to_vec(),
        other => panic!("{other:?}: {}", value.get(..200).unwrap_or(value)),
    }
}

/// The outcome of a record with the usual key.
fn outcome(value: &str) -> Expected {
    decode(
        Some(ID.as_bytes()),
        Some(value.as_bytes()),
        Tombstones::Ignore,
    )
}

/// An entity with these members besides id and kind.
fn entity(members: &str) -> String {
    format!(
        r#"{{"id": "{ID}", "kind": "Curve"{}{members}}}"#,
        if members.is_empty() { "" } else { ", " }
    )
}
