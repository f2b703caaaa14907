//! The names of the containers that are being written: finds those given twice and settles what
//! they stand for.

use std::cmp::Ordering;

use bson::spec::ElementType;

use super::room::{MARGIN, Room};
use super::{Shape, begin_entry, element};

/// Up to here comparing a name with every other is cheaper than sorting.
const PAIRWISE_NAMES_MAX: usize = 32;
/// Capacity that is kept from one document to the next.
const KEPT_NAMES_MAX: usize = 4 * 1024;
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The names of all open objects and maps, those of the innermost last.
#[derive(Default)]
pub(super) struct Names {
    names: Vec<Name>,
    survivors: Vec<Survivor>,
    resolved: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Name {
    hash: u32,
    /// Start of its element in the document.
    at: u32,
}

/// What is known of the names of one container: whether one may be given twice.
#[derive(Default)]
pub(super) struct Seen {
    /// A bit for each, by its hash.
    bits: u64,
    may_repeat: bool,
}

/// A name's last element, and the place of its first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Survivor {
    place: u32,
    at: u32,
}

impl Seen {
    /// False is certain.
    #[inline(always)]
    pub(super) fn may_repeat(&self) -> bool {
        self.may_repeat
    }
}

impl Names {
    pub(super) fn reset(&mut self) {
        self.names.clear();
        self.names.shrink_to(KEPT_NAMES_MAX);
        self.survivors.shrink_to(KEPT_NAMES_MAX);
        self.resolved.shrink_to(KEPT_BYTES_MAX);
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.names.truncate(len);
    }

    /// Adds the name of the element that starts at `at`, of the container whose names begin at
    /// index `from`.
    #[inline(always)]
    pub(super) fn push(&mut self, name: &[u8], at: usize, from: usize, seen: &mut Seen) {
        let hash = hash(name);
        let bit = 1 << (hash >> 26);
        if seen.bits & bit != 0 && !seen.may_repeat {
            seen.may_repeat = self.has(from, hash);
        }
        seen.bits |= bit;
        let at = at as u32;
        self.names.push(Name { hash, at });
    }

    /// Whether one of the names from index `from` on may have this hash; of many, one may.
    fn has(&self, from: usize, hash: u32) -> bool {
        let names = &self.names[from..];
        names.len() > PAIRWISE_NAMES_MAX || names.iter().any(|name| name.hash == hash)
    }

    /// Takes back the last name and says where its element starts.
    pub(super) fn pop(&mut self) -> Option<usize> {
        self.names.pop().map(|name| name.at as usize)
    }

    /// Whether one of the names from index `from` on may be given twice, after
    /// [`Seen::may_repeat`] said so of them; false is certain.
    #[cold]
    pub(super) fn may_repeat(&mut self, from: usize) -> bool {
        let names = &mut self.names[from..];
        if names.len() <= PAIRWISE_NAMES_MAX {
            return true;
        }
        names.sort_unstable_by_key(|name| name.hash);
        names.windows(2).any(|pair| pair[0].hash == pair[1].hash)
    }

    /// The elements that the names from index `from` on, of one container of `document`, result in:
    /// each name once, with its last value in the place of its first; no nulls in a map.
    pub(super) fn resolve(&mut self, from: usize, shape: Shape, document: &[u8]) -> &[u8] {
        let names = &mut self.names[from..];
        names.sort_unstable_by(|a, b| compare(document, shape, a, b).then(a.at.cmp(&b.at)));
        let groups = names.chunk_by(|a, b| compare(document, shape, a, b).is_eq());
        let survivor = |group: &[Name]| Survivor {
            place: group[0].at,
            at: group[group.len() - 1].at,
        };
        self.survivors.clear();
        self.survivors.extend(groups.map(survivor));
        self.survivors.sort_unstable();

        self.resolved.resize(document.len() + MARGIN, 0);
        let mut resolved = Room::new(&mut self.resolved);
        let mut entries = 0;
        for survivor in &self.survivors {
            let element = &document[survivor.at as usize..];
            let element = &element[..element_len(element)];
            if shape != Shape::Map {
                resolved.append(element);
            } else if !entry_is_null(element) {
                begin_entry(&mut resolved, entries);
                entries += 1;
                resolved.append(&element[value_start(element)..]);
            }
        }
        let len = resolved.len();
        &self.resolved[..len]
    }
}

fn compare(document: &[u8], shape: Shape, a: &Name, b: &Name) -> Ordering {
    let name = |name: &Name| {
        let element = &document[name.at as usize..];
        if shape == Shape::Map {
            entry_key(element)
        } else {
            &element[1..value_start(element) - 1]
        }
    };
    a.hash.cmp(&b.hash).then_with(|| name(a).cmp(name(b)))
}

/// Tells most names apart; those it does not are compared.
#[inline]
fn hash(name: &[u8]) -> u32 {
    let ends = if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29)
    } else if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
    } else {
        let byte = |at: usize| u64::from(name.get(at).copied().unwrap_or_default());
        byte(0) | byte(1) << 8 | byte(2) << 16
    };
    ((ends ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// The key of an entry of a map.
fn entry_key(element: &[u8]) -> &[u8] {
    let string = &element[value_start(element) + b"llll\x02key\0".len()..];
    &string[4..3 + int32(string)]
}

fn entry_is_null(element: &[u8]) -> bool {
    let value = value_start(element) + b"llll\x02key\0llll".len() + entry_key(element).len() + 1;
    element[value] == ElementType::Null as u8
}

/// Where the value of an element begins: after its type and its name.
fn value_start(bytes: &[u8]) -> usize {
    let name = element::name(bytes).expect("an element that was written has a name");
    name.len() + 2
}

/// The length of the element that `bytes` begin with.
fn element_len(bytes: &[u8]) -> usize {
    let rest = element::name(bytes).and_then(|name| element::after(bytes, name));
    bytes.len() - rest.expect("an element that was written ends").len()
}

fn int32(bytes: &[u8]) -> usize {
    let bytes = bytes.first_chunk().expect("a length has four bytes");
    u32::from_le_bytes(*bytes) as usize
}
