//! Documents as `$set` adds them up, without parsing their values.

use std::borrow::Cow;
use std::collections::HashSet;

/// The top-level union of documents, of each name the latest field; the latest document itself where
/// it has every field of the earlier ones.
pub(super) fn union<'a>(earlier: &[&[u8]], latest: &'a [u8]) -> Cow<'a, [u8]> {
    if earlier.is_empty() {
        return Cow::Borrowed(latest);
    }
    let mut names: HashSet<&[u8]> = elements(latest).map(|(name, _)| name).collect();
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
    let name = |(name, _)| name;
    elements(a).map(name).eq(elements(b).map(name))
}

/// The elements of a document that [`Decoder`](crate::entity::Decoder) made: name and whole element.
pub(super) fn elements(document: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = document.get(4..document.len() - 1).unwrap_or_default();
    std::iter::from_fn(move || {
        let kind = *rest.first()?;
        let name_len = memchr::memchr(0, &rest[1..])?;
        let value = 1 + name_len + 1;
        let length = |at: usize| -> Option<usize> {
            Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?) as usize)
        };
        let value_len = match kind {
            0x01 | 0x12 => 8,
            0x02 => 4 + length(value)?,
            0x03 | 0x04 => length(value)?,
            0x08 => 1,
            0x10 => 4,
            _ => 0,
        };
        let (element, tail) = rest.split_at_checked(value + value_len)?;
        rest = tail;
        Some((&element[1..1 + name_len], element))
    })
}
