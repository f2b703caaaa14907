//! Documents as `$set` adds them up, without parsing their values.

use std::borrow::Cow;

use ahash::HashSet;

use crate::record::document::element;

/// The top-level union of documents, of each name the latest field; the latest document itself
/// where it has every field of the earlier ones. `names` is memory that each union leaves to the
/// next; after one that is not borrowed it holds the names of that.
pub(super) fn union<'a>(
    earlier: &[&'a [u8]],
    latest: &'a [u8],
    names: &mut HashSet<&'a [u8]>,
) -> Cow<'a, [u8]> {
    if earlier.is_empty() {
        return Cow::Borrowed(latest);
    }
    names.clear();
    names.extend(elements(latest).map(|(name, _)| name));
    let mut kept = Vec::new();
    for (name, element) in earlier.iter().rev().flat_map(|document| elements(document)) {
        if names.insert(name) {
            kept.extend_from_slice(element);
        }
    }
    if kept.is_empty() {
        return Cow::Borrowed(latest);
    }
    let len = latest.len() + kept.len();
    let mut union = Vec::with_capacity(len);
    union.extend_from_slice(&(len as u32).to_le_bytes());
    union.extend_from_slice(&latest[4..latest.len() - 1]);
    union.extend_from_slice(&kept);
    union.push(0);
    Cow::Owned(union)
}

/// Whether two documents have the same names in the same order.
pub(super) fn same_names(a: &[u8], b: &[u8]) -> bool {
    let (mut a, mut b) = (inside(a), inside(b));
    while let Some(name) = element::common_name(a, b) {
        match (element::after(a, name), element::after(b, name)) {
            (Some(rest_of_a), Some(rest_of_b)) => (a, b) = (rest_of_a, rest_of_b),
            _ => return false,
        }
    }
    a.is_empty() && b.is_empty()
}

/// The elements of a document that [`Decoder`](crate::record::entity::Decoder) made: name and whole
/// element.
pub(super) fn elements(document: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = inside(document);
    std::iter::from_fn(move || {
        let name = element::name(rest)?;
        let tail = element::after(rest, name)?;
        let element = &rest[..rest.len() - tail.len()];
        rest = tail;
        Some((name, element))
    })
}

/// A document without its frame.
fn inside(document: &[u8]) -> &[u8] {
    &document[4..document.len() - 1]
}
