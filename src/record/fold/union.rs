//! Documents as `$set` adds them up, without parsing their values.

use std::borrow::Cow;

use ahash::HashSet;

use crate::record::document::element;

/// Names of so many are looked for one by one, until so many were not among them; then by hash.
const ONE_BY_ONE_NAMES_MAX: usize = 64;

/// The top-level union of documents, of each name the latest field, and how many names it has at
/// most; the latest document itself, which has `names` at most, where it has every field of the
/// earlier ones. `known` is memory that each union leaves to the next.
pub(super) fn union<'a>(
    earlier: &[&'a [u8]],
    latest: &'a [u8],
    mut names: usize,
    known: &mut HashSet<&'a [u8]>,
) -> (Cow<'a, [u8]>, usize) {
    if earlier.is_empty() {
        return (Cow::Borrowed(latest), names);
    }
    known.clear();
    let latest_names = || elements(latest).map(|(name, _)| name);
    let mut in_order = InOrder::new(latest);
    let mut misses_left = ONE_BY_ONE_NAMES_MAX;
    if names > ONE_BY_ONE_NAMES_MAX {
        misses_left = 0;
        known.extend(latest_names());
    }
    let mut kept = Vec::new();
    for (name, element) in earlier.iter().rev().flat_map(|document| elements(document)) {
        if misses_left > 0 {
            if in_order.has(name) {
                continue;
            }
            misses_left -= 1;
            if misses_left == 0 {
                known.extend(latest_names());
            }
        }
        if known.insert(name) {
            kept.extend_from_slice(element);
            names += 1;
        }
    }
    if kept.is_empty() {
        return (Cow::Borrowed(latest), names);
    }
    let len = latest.len() + kept.len();
    let mut union = Vec::with_capacity(len);
    union.extend_from_slice(&(len as u32).to_le_bytes());
    union.extend_from_slice(&latest[4..latest.len() - 1]);
    union.extend_from_slice(&kept);
    union.push(0);
    (Cow::Owned(union), names)
}

/// The names of a document, looked for in about its own order.
struct InOrder<'a> {
    all: &'a [u8],
    /// What comes behind the name that was found last.
    rest: &'a [u8],
}

impl<'a> InOrder<'a> {
    fn new(document: &'a [u8]) -> Self {
        let all = inside(document);
        InOrder { all, rest: all }
    }

    fn has(&mut self, name: &[u8]) -> bool {
        let found = behind(self.rest, name).or_else(|| behind(self.all, name));
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }
}

/// What comes behind the element of this name.
fn behind<'a>(mut elements: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    loop {
        let other = element::name(elements)?;
        elements = element::after(elements, other)?;
        if other == name {
            return Some(elements);
        }
    }
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
