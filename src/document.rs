//! A raw BSON document, written front to back, its objects without duplicate names.

mod names;

use bson::spec::ElementType;

use self::names::Names;
use crate::json::Str;

/// MongoDB's limit for a document.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A document may pass the limit by this much while what will be removed from it is still there:
/// the id, deleted entries of a map, values that a later duplicate replaces.
const REMOVABLE_BYTES_MAX: usize = 64 * 1024;

/// How the next container is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Array,
    /// An object `{k: v}` as the array `[{"key": k, "value": v}]`, without entries whose value is null.
    Map,
}

/// Memory that a [`Writer`] leaves to the next one.
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

/// Appends one document to a buffer. After [`Writer::stop`] it ignores what it is told.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    scratch: &'a mut Scratch,
    /// Where the type of the named element that comes next belongs.
    element_type: usize,
    stopped: bool,
    too_large: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, scratch: &'a mut Scratch) -> Self {
        scratch.frames.clear();
        scratch.names.reset();
        let start = out.len();
        Self {
            out,
            start,
            scratch,
            element_type: start,
            stopped: false,
            too_large: false,
        }
    }

    /// The document will not be used.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether the document passed its limit by so much that it was given up.
    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// Opens the document itself, or the container that is the next value.
    pub(crate) fn begin(&mut self, shape: Shape) {
        if self.stopped {
            return;
        }
        if !self.scratch.frames.is_empty() {
            let is_object = shape == Shape::Object;
            self.element(if is_object {
                ElementType::EmbeddedDocument
            } else {
                ElementType::Array
            });
        }
        let (start, names) = (self.len(), self.scratch.names.len());
        self.scratch.frames.push(Frame {
            shape,
            start,
            names,
            elements: 0,
            entry: 0,
            has_nulls: false,
        });
        self.out.extend_from_slice(&[0; 4]);
    }

    /// Closes the innermost container.
    pub(crate) fn end(&mut self) {
        if self.stopped {
            return;
        }
        let Some(frame) = self.scratch.frames.pop() else {
            return;
        };
        if frame.shape != Shape::Array {
            let names = &mut self.scratch.names;
            if frame.has_nulls || names.may_repeat(frame.names) {
                let elements = names.resolve(frame.names, frame.shape, &self.out[self.start..]);
                self.out.truncate(self.start + frame.start + 4);
                self.out.extend_from_slice(elements);
            }
            names.truncate(frame.names);
        }
        self.close(frame.start);
        self.element_done();
    }

    /// The name of the next value. In an object it must not hold NUL.
    pub(crate) fn name(&mut self, name: &[u8]) {
        let Some(frame) = self.scratch.frames.last_mut().filter(|_| !self.stopped) else {
            return;
        };
        self.scratch.names.push(name, self.out.len() - self.start);
        if frame.shape == Shape::Map {
            begin_entry(self.out, frame.elements);
            frame.elements += 1;
            frame.entry = self.out.len() - self.start;
            self.out
                .extend_from_slice(&[0, 0, 0, 0, ElementType::String as u8]);
            self.out.extend_from_slice(b"key\0");
            push_string(self.out, name.len(), |out| out.extend_from_slice(name));
            self.element_type = self.out.len();
            self.out.extend_from_slice(b"\0value\0");
        } else {
            self.element_type = self.out.len();
            self.out.push(0);
            self.out.extend_from_slice(name);
            self.out.push(0);
        }
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
            push_string(out, string.len(), |out| string.append_to(out))
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
        if let Some(frame) = self.scratch.frames.last_mut() {
            frame.has_nulls |= frame.shape == Shape::Map;
        }
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

    /// What stands before a value.
    #[inline]
    fn element(&mut self, element_type: ElementType) {
        match self.scratch.frames.last_mut() {
            Some(frame) if frame.shape == Shape::Array => {
                self.out.push(element_type as u8);
                push_index(self.out, frame.elements);
                frame.elements += 1;
            }
            _ => self.out[self.element_type] = element_type as u8,
        }
    }

    /// What stands behind a value.
    #[inline]
    fn element_done(&mut self) {
        if let Some(&Frame {
            shape: Shape::Map,
            entry,
            ..
        }) = self.scratch.frames.last()
        {
            self.close(entry);
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

fn push_string(out: &mut Vec<u8>, len: usize, push: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&(len as u32 + 1).to_le_bytes());
    push(out);
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_given_up_leaves_nothing_to_the_next() {
        let (mut out, mut scratch) = (Vec::new(), Scratch::default());
        for _ in 0..2 {
            let mut writer = Writer::new(&mut out, &mut scratch);
            writer.begin(Shape::Object);
            writer.name(b"a");
            writer.begin(Shape::Object);
            writer.name(b"b");
            writer.stop();
            assert_eq!((scratch.frames.len(), scratch.names.len()), (2, 2));
        }
    }
}
