//! The record contract: what a record comes to, and exactly which document.

mod documents;
mod edges;
mod outcomes;
mod properties;

use std::sync::Arc;

use test_oracles::decode::{ID, decoded};
use test_oracles::reference::Expected;
use workflows_sink::record::entity::{Decoded, Decoder, Tombstones};
use workflows_sink::record::mapping::Mapping;

fn decoder(tombstones: Tombstones) -> Decoder {
    Decoder::new(Arc::new(Mapping::builtin()), tombstones)
}

/// What the decoder makes of a record, in the reference's words. Checks that a decoder that has
/// been used does the same again.
fn decode(key: Option<&[u8]>, value: Option<&[u8]>, tombstones: Tombstones) -> Expected {
    let (mut decoder, mut out) = (decoder(tombstones), b"before".to_vec());
    let first = decoded(&mut decoder, key, value, &mut out);
    let second = decoded(&mut decoder, key, value, &mut out);
    assert_eq!(second, first, "the second time");
    first
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
