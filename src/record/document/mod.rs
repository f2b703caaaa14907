//! A raw BSON document, written front to back, its objects without duplicate names.

pub(crate) mod element;
mod names;

use std::mem;

use bson::spec::ElementType;

use self::names::Names;
use super::json::Str;

/// MongoDB's limit for a document.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A document may pass the limit by this much while what will be removed from it is still there:
/// the id, deleted entries of a map, values that a later duplicate replaces.
const REMOVABLE_BYTES_MAX: usize = 64 * 1024;

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
    shape: Shape,
    start: usize,
    /// Where its names begin among all names.
    names: usize,
    /// Elements of an array or a map so far.
    elements: u32,
    /// Start of the current entry of a map.
    entry: usize,
    has_nulls: bool,
}

impl Frame {
    fn new(shape: Shape, start: usize, names: usize) -> Self {
        Frame {
            shape,
            start,
            names,
            elements: 0,
            entry: 0,
            has_nulls: false,
        }
    }
}

/// Appends one document to a buffer. After [`Encoder::stop`] it ignores every call.
pub(crate) struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    scratch: &'a mut Scratch,
    /// The innermost container.
    frame: Frame,
    /// Where the type of the named element that comes next belongs.
    element_type: usize,
    stopped: bool,
    too_large: bool,
}

impl<'a> Encoder<'a> {
    /// Opens the document.
    pub(crate) fn new(out: &'a mut Vec<u8>, scratch: &'a mut Scratch) -> Self {
        scratch.frames.clear();
        scratch.names.reset();
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        Self {
            out,
            start,
            scratch,
            frame: Frame::new(Shape::Object, 0, 0),
            element_type: start,
            stopped: false,
            too_large: false,
        }
    }

    /// Ignores every call from now on: the document will not be used.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether the document passed its limit by so much that it was given up.
    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// Opens the container that is the next value.
    pub(crate) fn begin(&mut self, shape: Shape) {
        if self.stopped {
            return;
        }
        let is_object = shape == Shape::Object;
        self.element(if is_object {
            ElementType::EmbeddedDocument
        } else {
            ElementType::Array
        });
        let inner = Frame::new(shape, self.len(), self.scratch.names.len());
        let outer = mem::replace(&mut self.frame, inner);
        self.scratch.frames.push(outer);
        self.out.extend_from_slice(&[0; 4]);
    }

    /// Closes the innermost container, or in the end the document.
    pub(crate) fn end(&mut self) {
        if self.stopped {
            return;
        }
        let frame = &self.frame;
        if frame.shape != Shape::Array {
            let names = &mut self.scratch.names;
            if frame.has_nulls || names.may_repeat(frame.names) {
                let elements = names.resolve(frame.names, frame.shape, &self.out[self.start..]);
                self.out.truncate(self.start + frame.start + 4);
                self.out.extend_from_slice(elements);
            }
            names.truncate(frame.names);
        }
        self.close(self.frame.start);
        if let Some(outer) = self.scratch.frames.pop() {
            self.frame = outer;
            self.element_done();
        }
    }

    /// The name of the next value. In an object it must not hold NUL.
    #[inline(always)]
    pub(crate) fn name(&mut self, name: Str<'_>, resolved: &[u8]) {
        if self.stopped {
            return;
        }
        self.scratch.names.push(resolved, self.len());
        if self.frame.shape == Shape::Map {
            self.entry(resolved);
        } else {
            self.element_type = self.out.len();
            self.out.push(0);
            name.append_with_nul(self.out);
        }
    }

    /// An entry of a map, up to its value.
    fn entry(&mut self, name: &[u8]) {
        begin_entry(self.out, self.frame.elements);
        self.frame.elements += 1;
        self.frame.entry = self.len();
        self.out
            .extend_from_slice(&[0, 0, 0, 0, ElementType::String as u8]);
        self.out.extend_from_slice(b"key\0");
        self.out
            .extend_from_slice(&(name.len() as u32 + 1).to_le_bytes());
        self.out.extend_from_slice(name);
        self.out.push(0);
        self.element_type = self.out.len();
        self.out.extend_from_slice(b"\0value\0");
    }

    /// Takes back the last element of the innermost object.
    pub(crate) fn remove_last(&mut self) {
        if self.stopped {
            return;
        }
        if let Some(element) = self.scratch.names.pop() {
            self.out.truncate(self.start + element);
        }
    }

    pub(crate) fn string(&mut self, string: Str) {
        // Checked before it is copied, so that no string however long is copied in vain.
        if self.len() + string.len() > DOCUMENT_BYTES_MAX + REMOVABLE_BYTES_MAX {
            self.give_up();
        }
        self.value(ElementType::String, |out| {
            out.extend_from_slice(&(string.len() as u32 + 1).to_le_bytes());
            string.append_with_nul(out);
        });
    }

    pub(crate) fn integer(&mut self, integer: i64) {
        match i32::try_from(integer) {
            Ok(small) => self.value(ElementType::Int32, |out| {
                out.extend_from_slice(&small.to_le_bytes())
            }),
            Err(_) => self.value(ElementType::Int64, |out| {
                out.extend_from_slice(&integer.to_le_bytes())
            }),
        }
    }

    pub(crate) fn double(&mut self, double: f64) {
        self.value(ElementType::Double, |out| {
            out.extend_from_slice(&double.to_le_bytes())
        });
    }

    pub(crate) fn bool(&mut self, bool: bool) {
        self.value(ElementType::Boolean, |out| out.push(u8::from(bool)));
    }

    pub(crate) fn null(&mut self) {
        self.frame.has_nulls |= self.frame.shape == Shape::Map;
        self.value(ElementType::Null, |_| {});
    }

    #[inline]
    fn value(&mut self, element_type: ElementType, push: impl FnOnce(&mut Vec<u8>)) {
        if self.stopped {
            return;
        }
        self.element(element_type);
        push(self.out);
        self.element_done();
    }

    /// Writes what precedes a value.
    #[inline]
    fn element(&mut self, element_type: ElementType) {
        if self.frame.shape == Shape::Array {
            self.out.push(element_type as u8);
            push_index(self.out, self.frame.elements);
            self.frame.elements += 1;
        } else {
            self.out[self.element_type] = element_type as u8;
        }
    }

    /// Writes what follows a value.
    #[inline]
    fn element_done(&mut self) {
        if self.frame.shape == Shape::Map {
            self.close(self.frame.entry);
        }
        if self.len() > DOCUMENT_BYTES_MAX + REMOVABLE_BYTES_MAX {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.too_large = true;
        self.stopped = true;
    }

    fn len(&self) -> usize {
        self.out.len() - self.start
    }

    /// Ends the document that began at `start`.
    fn close(&mut self, start: usize) {
        self.out.push(0);
        let document = &mut self.out[self.start + start..];
        let len = document.len() as u32;
        document[..4].copy_from_slice(&len.to_le_bytes());
    }
}

fn begin_entry(out: &mut Vec<u8>, index: u32) {
    out.push(ElementType::EmbeddedDocument as u8);
    push_index(out, index);
}

/// The name of an array's element.
fn push_index(out: &mut Vec<u8>, index: u32) {
    let mut digits = [0; 11];
    let mut at = digits.len() - 1;
    let mut rest = index;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::json::{Next, Reader, Value};

    #[test]
    fn a_document_that_is_given_up_leaves_nothing_to_the_next() {
        let (mut out, mut scratch) = (Vec::new(), Scratch::default());
        for _ in 0..2 {
            let mut writer = Encoder::new(&mut out, &mut scratch);
            let mut reader = Reader::new(r#"{"a":{"b":"#);
            for _ in 0..2 {
                assert_eq!(reader.value(), Ok(Value::Object));
                let Ok(Next::Name(name)) = reader.next() else {
                    panic!("no name");
                };
                writer.name(name, name.plain().unwrap());
                writer.begin(Shape::Object);
            }
            writer.stop();
            assert_eq!((scratch.frames.len(), scratch.names.len()), (2, 2));
        }
    }
}
