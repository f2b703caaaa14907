//! The bytes that a document is written into: made before, so that nothing grows while it is
//! written.

use bson::spec::ElementType;

/// What is written around a name or a value takes less, with the blocks by which a string is
/// copied.
pub(crate) const MARGIN: usize = 96;

/// Bytes that are written front to back.
pub(super) struct Room<'a> {
    bytes: &'a mut [u8],
    len: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// What is written is not wanted any more.
    Closed,
    /// Something did not fit.
    Full,
}

// Inlined throughout: each is a few instructions.
impl<'a> Room<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        let state = State::Open;
        Self {
            bytes,
            len: 0,
            state,
        }
    }

    /// How many bytes were written.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What was written.
    #[inline(always)]
    pub(super) fn written(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// What comes behind that, if so many bytes fit with [`MARGIN`] more.
    #[inline(always)]
    pub(super) fn rest(&mut self, bytes: usize) -> Option<&mut [u8]> {
        let rest = self.bytes.get_mut(self.len..)?;
        (rest.len() >= bytes + MARGIN).then_some(rest)
    }

    /// Takes so many bytes as written.
    #[inline(always)]
    pub(super) fn advance(&mut self, bytes: usize) {
        self.len += bytes;
    }

    /// Whether there is [`MARGIN`] left.
    #[inline(always)]
    pub(super) fn has_room(&mut self) -> bool {
        let has_room = self.rest(0).is_some();
        if !has_room {
            self.fill();
        }
        has_room
    }

    /// Writes a value of a fixed length, if there is room.
    #[inline(always)]
    pub(super) fn write<const N: usize>(&mut self, value: [u8; N]) -> bool {
        let Some(to) = self.rest(0) else {
            self.fill();
            return false;
        };
        to[..N].copy_from_slice(&value);
        self.len += N;
        true
    }

    /// Writes the type of an element that was begun, unless the room was closed since.
    #[inline(always)]
    pub(super) fn set_type(&mut self, at: usize, element_type: ElementType) {
        if let Some(byte) = self.bytes.get_mut(at) {
            *byte = element_type as u8;
        }
    }

    /// Writes bytes that fit: after [`Room::has_room`].
    #[inline(always)]
    pub(super) fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.set(self.len, bytes);
        self.len += N;
    }

    /// Writes a slice that fits.
    #[inline(always)]
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Overwrites what stands at `at`.
    #[inline(always)]
    pub(super) fn set<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        *self.bytes[at..].first_chunk_mut().expect("it fits") = bytes;
    }

    /// Takes back what stands behind `len`.
    #[inline(always)]
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = len;
    }

    /// Has no room from now on.
    #[inline(always)]
    pub(super) fn close(&mut self) {
        self.shut(State::Closed);
    }

    /// The same, since something did not fit.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        self.shut(State::Full);
    }

    #[inline(always)]
    fn shut(&mut self, state: State) {
        if self.state == State::Open {
            self.state = state;
            self.bytes = &mut [];
            self.len = 0;
        }
    }

    #[inline(always)]
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether something did not fit.
    pub(super) fn is_full(&self) -> bool {
        self.state == State::Full
    }
}
