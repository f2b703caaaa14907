//! A raw BSON document, written front to back, its objects without duplicate names.

pub(crate) mod element;
mod names;
mod room;

use std::mem;

use bson::spec::ElementType;

use self::names::{Names, Seen};
pub(crate) use self::room::MARGIN;
use self::room::Room;
use super::json::Str;

/// MongoDB's limit for a document.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A document may pass the limit by this much while what will be removed from it is still there:
/// the id, deleted entries of a map, values that a later duplicate replaces.
const REMOVABLE_BYTES_MAX: usize = 64 * 1024;
/// The most room that a document is given.
pub(crate) const ROOM_BYTES_MAX: usize = DOCUMENT_BYTES_MAX + REMOVABLE_BYTES_MAX + MARGIN;

/// How the next container is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Array,
    /// An object `{k: v}` as the array `[{"key": k, "value": v}]`, without entries whose value is
    /// null.
    Map,
}

/// Memory that an [`Encoder`] leaves to the next one.
#[derive(Default)]
pub(crate) struct Scratch {
    frames: Vec<Frame>,
    names: Names,
}

/// An open container. Positions count from the document's first byte.
struct Frame {
    seen: Seen,
    start: u32,
    /// Where its names begin among all names.
    names: u32,
    /// Elements of an array or a map so far.
    elements: u32,
    /// Start of the current entry of a map.
    entry: u32,
    shape: Shape,
    has_nulls: bool,
}

impl Frame {
    #[inline(always)]
    fn new(shape: Shape, start: usize, names: usize) -> Self {
        Frame {
            shape,
            start: start as u32,
            names: names as u32,
            seen: Seen::default(),
            elements: 0,
            entry: 0,
            has_nulls: false,
        }
    }
}

/// Writes one document into room that was made before. After [`Encoder::stop`] it ignores every
/// call.
pub(crate) struct Encoder<'a> {
    out: Room<'a>,
    scratch: &'a mut Scratch,
    /// The innermost container.
    frame: Frame,
    /// Where the type of the named element that comes next belongs.
    element_type: usize,
}

impl<'a> Encoder<'a> {
    /// Opens the document. `room` has [`MARGIN`] bytes at least.
    pub(crate) fn new(room: &'a mut [u8], scratch: &'a mut Scratch) -> Self {
        scratch.frames.clear();
        scratch.names.reset();
        let mut out = Room::new(room);
        out.put([0; 4]);
        Self {
            out,
            scratch,
            frame: Frame::new(Shape::Object, 0, 0),
            element_type: 0,
        }
    }

    /// Ignores every call from now on: the document will not be used.
    #[inline(always)]
    pub(crate) fn stop(&mut self) {
        self.out.close();
    }

    /// The length of the document, which has ended; `None` if there was not enough room.
    pub(crate) fn len(&self) -> Option<usize> {
        (!self.out.is_full()).then_some(self.out.len())
    }

    /// Opens the container that is the next value.
    #[inline]
    pub(crate) fn begin(&mut self, shape: Shape) {
        let element_type = match shape {
            Shape::Object => ElementType::EmbeddedDocument,
            Shape::Array | Shape::Map => ElementType::Array,
        };
        self.element(element_type);
        let start = self.out.len();
        if self.out.write([0; 4]) {
            let inner = Frame::new(shape, start, self.scratch.names.len());
            let outer = mem::replace(&mut self.frame, inner);
            self.scratch.frames.push(outer);
        }
    }

    /// Closes the innermost container, or in the end the document.
    #[inline]
    pub(crate) fn end(&mut self) {
        if !self.out.has_room() {
            return;
        }
        let Frame {
            shape, has_nulls, ..
        } = self.frame;
        let (start, names) = (self.frame.start as usize, self.frame.names as usize);
        if shape != Shape::Array {
            let open = &mut self.scratch.names;
            if has_nulls || self.frame.seen.may_repeat() && open.may_repeat(names) {
                let elements = open.resolve(names, shape, self.out.written());
                self.out.truncate(start + 4);
                self.out.append(elements);
            }
            open.truncate(names);
        }
        self.close(start);
        if let Some(outer) = self.scratch.frames.pop() {
            self.frame = outer;
            self.element_done();
        }
    }

    /// The name of the next value. In an object it must not hold NUL.
    #[inline(always)]
    pub(crate) fn name(&mut self, name: Str<'_>, resolved: &[u8]) {
        let start = self.out.len();
        let Some(to) = self.out.rest(name.len()) else {
            return self.out.fill();
        };
        if self.frame.shape == Shape::Map {
            self.entry(resolved);
        } else {
            to[0] = 0;
            name.copy_to(&mut to[1..]);
            to[1 + name.len()] = 0;
            self.out.advance(name.len() + 2);
            self.element_type = start;
        }
        let Frame { names, seen, .. } = &mut self.frame;
        self.scratch
            .names
            .push(resolved, start, *names as usize, seen);
    }

    /// An entry of a map, up to its value.
    #[inline(always)]
    fn entry(&mut self, name: &[u8]) {
        begin_entry(&mut self.out, self.frame.elements);
        self.frame.elements += 1;
        self.frame.entry = self.out.len() as u32;
        self.out.put([0, 0, 0, 0, ElementType::String as u8]);
        self.out.put(*b"key\0");
        self.out.put((name.len() as u32 + 1).to_le_bytes());
        self.out.append(name);
        self.out.put([0]);
        self.element_type = self.out.len();
        self.out.put(*b"\0value\0");
    }

    /// Takes back the last element of the innermost object.
    #[inline]
    pub(crate) fn remove_last(&mut self) {
        if self.out.is_open()
            && let Some(element) = self.scratch.names.pop()
        {
            self.out.truncate(element);
        }
    }

    #[inline]
    pub(crate) fn string(&mut self, string: Str) {
        self.element(ElementType::String);
        let len = string.len();
        let Some(to) = self.out.rest(len) else {
            return self.out.fill();
        };
        to[..4].copy_from_slice(&(len as u32 + 1).to_le_bytes());
        string.copy_to(&mut to[4..]);
        to[4 + len] = 0;
        self.out.advance(len + 5);
        self.element_done();
    }

    #[inline(always)]
    pub(crate) fn integer(&mut self, integer: i64) {
        match i32::try_from(integer) {
            Ok(small) => self.value(ElementType::Int32, small.to_le_bytes()),
            Err(_) => self.value(ElementType::Int64, integer.to_le_bytes()),
        }
    }

    #[inline(always)]
    pub(crate) fn double(&mut self, double: f64) {
        self.value(ElementType::Double, double.to_le_bytes());
    }

    #[inline(always)]
    pub(crate) fn bool(&mut self, bool: bool) {
        self.value(ElementType::Boolean, [u8::from(bool)]);
    }

    #[inline(always)]
    pub(crate) fn null(&mut self) {
        self.frame.has_nulls |= self.frame.shape == Shape::Map;
        self.value(ElementType::Null, []);
    }

    #[inline]
    fn value<const N: usize>(&mut self, element_type: ElementType, value: [u8; N]) {
        self.element(element_type);
        self.out.write(value);
        self.element_done();
    }

    /// Writes what precedes a value.
    #[inline(always)]
    fn element(&mut self, element_type: ElementType) {
        if self.frame.shape != Shape::Array {
            self.out.set_type(self.element_type, element_type);
        } else if self.out.has_room() {
            self.out.put([element_type as u8]);
            put_index(&mut self.out, self.frame.elements);
            self.frame.elements += 1;
        }
    }

    /// Writes what follows a value.
    #[inline(always)]
    fn element_done(&mut self) {
        if self.frame.shape == Shape::Map && self.out.has_room() {
            self.close(self.frame.entry as usize);
        }
    }

    /// Ends the document that began at `start`.
    #[inline(always)]
    fn close(&mut self, start: usize) {
        self.out.put([0]);
        let len = (self.out.len() - start) as u32;
        self.out.set(start, len.to_le_bytes());
    }
}

#[inline(always)]
fn begin_entry(out: &mut Room<'_>, index: u32) {
    out.put([ElementType::EmbeddedDocument as u8]);
    put_index(out, index);
}

/// The name of an array's element.
#[inline(always)]
fn put_index(out: &mut Room<'_>, index: u32) {
    if index < 10 {
        out.put([b'0' + index as u8]);
    } else {
        out.append(itoa::Buffer::new().format(index).as_bytes());
    }
    out.put([0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::json::{self, Value, Visitor};

    /// Encodes names and objects, and stops at the second one.
    struct Stopping<'w>(Encoder<'w>);

    impl<'a> Visitor<'a> for Stopping<'_> {
        fn name(&mut self, name: Str<'a>, _: usize) {
            self.0.name(name, name.plain().unwrap());
        }

        fn value(&mut self, value: Value<'a>, depth: usize) {
            assert_eq!(value, Value::Object);
            self.0.begin(Shape::Object);
            if depth == 2 {
                self.0.stop();
            }
        }

        fn end(&mut self, _: usize) {
            self.0.end();
        }
    }

    #[test]
    fn a_document_that_is_given_up_leaves_nothing_to_the_next() {
        let (mut room, mut scratch) = ([0; 4 * MARGIN], Scratch::default());
        for _ in 0..2 {
            let mut stopping = Stopping(Encoder::new(&mut room, &mut scratch));
            json::read(r#"{"a":{"b":{"c":{}}}}"#, &mut stopping).unwrap();
            assert_eq!((scratch.frames.len(), scratch.names.len()), (2, 2));
        }
    }

    #[test]
    fn what_does_not_fit_is_told_and_nothing_behind_it_is_written() {
        for bytes in MARGIN..4 * MARGIN {
            let (mut room, mut scratch) = (vec![0; bytes], Scratch::default());
            let mut encoder = Encoder::new(&mut room, &mut scratch);
            let mut written = encoder.len();
            while encoder.len().is_some() {
                written = encoder.len();
                encoder.begin(Shape::Array);
                encoder.integer(1 << 40);
                encoder.end();
                encoder.null();
            }
            assert!(written.unwrap() <= bytes, "{bytes}");
            encoder.end();
            assert_eq!(encoder.len(), None);
        }
    }
}
