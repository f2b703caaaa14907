//! Whatever bytes a record has, the decoder comes to what the slow reference comes to.

use std::sync::Arc;

use bson::{Document, RawDocument, doc};
use workflows_sink::record::entity::{Decoded, Decoder, Reason, Skip, Tombstones};
use workflows_sink::record::mapping::Mapping;

use crate::reference::{Expected, parse, reference_outcome};

/// The id of entities whose rest alone is given.
pub const ID: &str = "0123456789abcdef0123456789abcdef";

const DELETE: u8 = 1;
const NO_KEY: u8 = 2;
const OWN_KEY: u8 = 4;
const NO_VALUE: u8 = 8;
const MEMBERS: u8 = 16;

/// A record as its first byte says: tombstones delete (1), without a key (2), with a key of its own
/// (4: one byte of length, then the key; otherwise [`ID`]), without a value (8), and with members
/// of an entity for a value (16).
pub fn holds(data: &[u8]) {
    let Some((flags, rest)) = data.split_first() else {
        return;
    };
    let (key, rest) = match rest.split_first() {
        Some((length, rest)) if flags & OWN_KEY != 0 => {
            rest.split_at((*length as usize).min(rest.len()))
        }
        _ => (ID.as_bytes(), rest),
    };
    let whole;
    let value = if flags & MEMBERS != 0 {
        let head = format!(r#"{{"id":"{ID}","kind":"Curve","#);
        whole = [head.as_bytes(), rest, b"}"].concat();
        &whole
    } else {
        rest
    };
    let tombstones = match flags & DELETE {
        0 => Tombstones::Ignore,
        _ => Tombstones::Delete,
    };
    agrees(
        (flags & NO_KEY == 0).then_some(key),
        (flags & NO_VALUE == 0).then_some(value),
        tombstones,
    );
}

/// The decoder and the reference come to the same, byte for byte, and what was in the buffer stays.
pub fn agrees(key: Option<&[u8]>, value: Option<&[u8]>, tombstones: Tombstones) {
    let mut decoder = Decoder::new(Arc::new(Mapping::builtin()), tombstones);
    let found = decoded(&mut decoder, key, value, &mut b"before".to_vec());
    let mut expected = reference_outcome(key, value, tombstones);
    if expected == Expected::Rejected(Reason::TooDeep) && value.is_some_and(beyond_the_reference) {
        let refused = matches!(
            found,
            Expected::Rejected(_) | Expected::Skipped(Skip::NullId)
        );
        assert!(refused, "{found:?}");
        return;
    }
    if let Expected::Accepted { document, .. } = &mut expected {
        // Its place says nothing: the decoder leaves the `_id` to the key.
        let id = document.remove("_id").expect("an _id");
        let mut first = doc! { "_id": id };
        first.extend(std::mem::take(document));
        *document = first;
    }
    assert_eq!(found, expected);
}

/// What the decoder makes of a record by the shipped mapping, in the reference's words. Checks that
/// it leaves alone what was in the buffer before, and adds nothing but the document's fields.
pub fn decoded(
    decoder: &mut Decoder,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Expected {
    let before = out.clone();
    let decoded = decoder.decode(key, value, out);
    assert!(out.starts_with(&before));
    match decoded {
        Decoded::Accepted {
            collection,
            document,
            names,
        } => {
            assert_eq!(document, before.len()..out.len());
            let bytes = &out[document];
            let fields = RawDocument::from_bytes(bytes).expect("BSON");
            let fields = Document::try_from(fields).expect("BSON all the way down");
            assert_eq!(fields.to_vec().expect("BSON"), bytes);
            assert!(names as usize >= fields.len());
            let id = str::from_utf8(key.expect("a key")).expect("UTF-8");
            let mut document = doc! { "_id": id };
            document.extend(fields);
            Expected::Accepted {
                collection: Mapping::builtin().collection(collection).to_owned(),
                document,
            }
        }
        other => {
            assert_eq!(*out, before);
            match other {
                Decoded::Delete => Expected::Delete,
                Decoded::Skipped(skip) => Expected::Skipped(skip),
                Decoded::Rejected(reason) => Expected::Rejected(reason),
                Decoded::Accepted { .. } => unreachable!("above"),
            }
        }
    }
}

/// Whether a value is nested more deeply than the reference can read: it then knows of no other
/// fault.
fn beyond_the_reference(value: &[u8]) -> bool {
    str::from_utf8(value).is_ok_and(|text| parse(text) == Err(Reason::TooDeep))
}
