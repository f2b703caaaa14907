//! JSON (RFC 8259) as a stream of events: validated in one pass, without a tree, recursion or allocation.

/// The text is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What the text says next.
#[derive(Debug, PartialEq)]
pub(crate) enum Event<'a> {
    BeginObject,
    EndObject,
    BeginArray,
    EndArray,
    /// The name of the member whose value comes next.
    Name(Str<'a>),
    String(Str<'a>),
    Integer(i64),
    Double(f64),
    /// An integer beyond 64 bits, or a number beyond the largest double.
    NumberOutOfRange,
    True,
    False,
    Null,
    /// The text ended after one whole value.
    End,
}

/// A string of the text: valid, with its escapes still in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Str<'a> {
    raw: &'a [u8],
    len: usize,
}

/// Reads the events of one text.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    nesting: Nesting,
    expected: Expected,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Value,
    FirstElement,
    FirstName,
    CommaOrEnd,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            nesting: Nesting::default(),
            expected: Expected::Value,
        }
    }

    /// How many objects and arrays are open.
    pub(crate) fn depth(&self) -> usize {
        self.nesting.depth
    }

    /// The next event. `Malformed` and [`Event::End`] are the last ones.
    // Inlined throughout: events that pass through memory cost more than reading the text.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Event<'a>, Malformed> {
        let mut byte = self.peek_token();
        match self.expected {
            Expected::Value => {}
            Expected::FirstElement if byte == Some(b']') => return Ok(self.end(Event::EndArray)),
            Expected::FirstElement => {}
            Expected::FirstName if byte == Some(b'}') => return Ok(self.end(Event::EndObject)),
            Expected::FirstName => return self.name(byte),
            Expected::CommaOrEnd => match (byte, self.nesting.innermost()) {
                (None, None) => return Ok(Event::End),
                (Some(b'}'), Some(Container::Object)) => return Ok(self.end(Event::EndObject)),
                (Some(b']'), Some(Container::Array)) => return Ok(self.end(Event::EndArray)),
                (Some(b','), Some(container)) => {
                    self.at += 1;
                    byte = self.peek_token();
                    if container == Container::Object {
                        return self.name(byte);
                    }
                }
                _ => return Err(Malformed),
            },
        }
        self.expected = Expected::CommaOrEnd;
        match byte {
            Some(b'"') => self.string().map(Event::String),
            Some(b'{') => {
                Ok(self.begin(Container::Object, Expected::FirstName, Event::BeginObject))
            }
            Some(b'[') => {
                Ok(self.begin(Container::Array, Expected::FirstElement, Event::BeginArray))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Event::True),
            Some(b'f') => self.literal("false", Event::False),
            Some(b'n') => self.literal("null", Event::Null),
            _ => Err(Malformed),
        }
    }

    #[inline(always)]
    fn begin(&mut self, container: Container, expected: Expected, event: Event<'a>) -> Event<'a> {
        self.at += 1;
        self.nesting.push(container);
        self.expected = expected;
        event
    }

    #[inline(always)]
    fn end(&mut self, event: Event<'a>) -> Event<'a> {
        self.at += 1;
        self.nesting.pop();
        self.expected = Expected::CommaOrEnd;
        event
    }

    #[inline(always)]
    fn name(&mut self, byte: Option<u8>) -> Result<Event<'a>, Malformed> {
        if byte != Some(b'"') {
            return Err(Malformed);
        }
        let name = self.string()?;
        if self.peek_token() != Some(b':') {
            return Err(Malformed);
        }
        self.at += 1;
        self.expected = Expected::Value;
        Ok(Event::Name(name))
    }

    /// The string whose opening quote is next.
    #[inline(always)]
    fn string(&mut self) -> Result<Str<'a>, Malformed> {
        let text = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        let mut shrinkage = 0;
        loop {
            at += plain_len(&text[at..]);
            match text.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    let raw = &text[start..at];
                    return Ok(Str {
                        raw,
                        len: raw.len() - shrinkage,
                    });
                }
                Some(b'\\') => {
                    let (character, escape_len) = unescape(&text[at..]).ok_or(Malformed)?;
                    shrinkage += escape_len - character.len_utf8();
                    at += escape_len;
                }
                _ => return Err(Malformed),
            }
        }
    }

    fn number(&mut self) -> Result<Event<'a>, Malformed> {
        let start = self.at;
        self.eat(b"-");
        match (self.peek(), self.digits()) {
            (_, 0) | (Some(b'0'), 2..) => return Err(Malformed),
            _ => {}
        }
        let mut integer = true;
        if self.eat(b".") {
            integer = false;
            if self.digits() == 0 {
                return Err(Malformed);
            }
        }
        if self.eat(b"eE") {
            integer = false;
            self.eat(b"+-");
            if self.digits() == 0 {
                return Err(Malformed);
            }
        }
        let number = &self.text[start..self.at];
        Ok(if integer {
            number
                .parse()
                .map_or(Event::NumberOutOfRange, Event::Integer)
        } else {
            match number.parse::<f64>() {
                Ok(double) if double.is_finite() => Event::Double(double),
                _ => Event::NumberOutOfRange,
            }
        })
    }

    #[inline(always)]
    fn literal(&mut self, literal: &str, event: Event<'a>) -> Result<Event<'a>, Malformed> {
        if !self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            return Err(Malformed);
        }
        self.at += literal.len();
        Ok(event)
    }

    /// Skips digits and says how many.
    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn eat(&mut self, any_of: &[u8]) -> bool {
        let found = self.peek().is_some_and(|byte| any_of.contains(&byte));
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek_token(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                byte => return byte,
            }
        }
    }
}

impl<'a> Str<'a> {
    /// Bytes of the string once its escapes are resolved.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The string, if it has no escapes.
    pub(crate) fn plain(self) -> Option<&'a [u8]> {
        (self.raw.len() == self.len).then_some(self.raw)
    }

    /// Appends the string, its escapes resolved: UTF-8.
    pub(crate) fn append_to(self, out: &mut Vec<u8>) {
        let mut rest = self.raw;
        if self.plain().is_none() {
            while let Some(plain) = memchr::memchr(b'\\', rest) {
                let Some((character, escape_len)) = unescape(&rest[plain..]) else {
                    break;
                };
                out.extend_from_slice(&rest[..plain]);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[plain + escape_len..];
            }
        }
        out.extend_from_slice(rest);
    }

    /// The string, its escapes resolved into `scratch` where it has any.
    #[inline]
    pub(crate) fn resolve<'s>(self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        if let Some(plain) = self.plain() {
            return plain;
        }
        scratch.clear();
        self.append_to(scratch);
        scratch
    }
}

/// The character that the escape at the start of `bytes` stands for, and the length of that escape.
/// An escape is always longer than its character. Lone surrogates stand for nothing.
fn unescape(bytes: &[u8]) -> Option<(char, usize)> {
    let character = match *bytes.get(1)? {
        byte @ (b'"' | b'\\' | b'/') => byte,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unescape_utf16(bytes),
        _ => return None,
    };
    Some((char::from(character), 2))
}

fn unescape_utf16(bytes: &[u8]) -> Option<(char, usize)> {
    let unit = utf16_unit(bytes)?;
    if let Some(character) = char::from_u32(unit) {
        return Some((character, 6));
    }
    let low = utf16_unit(&bytes[6..]).filter(|low| (0xdc00..0xe000).contains(low))?;
    // A low surrogate where the high one belongs comes out beyond the last character.
    let character = char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00))?;
    Some((character, 12))
}

/// The UTF-16 code unit of a `\uXXXX` at the start of `bytes`.
fn utf16_unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, &digit| {
        Some(unit << 4 | char::from(digit).to_digit(16)?)
    })
}

/// How many bytes at the start of `bytes` are neither a quote, nor a backslash, nor a control character.
#[inline]
fn plain_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let rest_plain = rest
        .iter()
        .take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
        .count();
    words.len() * 8 + rest_plain
}

/// The high bit of the first special byte of a little-endian word (and some bits above it), or 0.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let quotes = word ^ (ONES * b'"' as u64);
    let backslashes = word ^ (ONES * b'\\' as u64);
    let found = quotes.wrapping_sub(ONES) & !quotes
        | backslashes.wrapping_sub(ONES) & !backslashes
        | word.wrapping_sub(ONES * 0x20) & !word;
    found & (ONES * 0x80)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// Which containers are open: one bit per level, the innermost lowest; 64 levels before anything is allocated.
#[derive(Default)]
struct Nesting {
    depth: usize,
    arrays: u64,
    outer: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, container: Container) {
        if self.depth.is_multiple_of(64) && self.depth > 0 {
            self.outer.push(self.arrays);
        }
        self.arrays = self.arrays << 1 | u64::from(container == Container::Array);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.arrays >>= 1;
        if self.depth.is_multiple_of(64) {
            self.arrays = self.outer.pop().unwrap_or_default();
        }
    }

    fn innermost(&self) -> Option<Container> {
        let container = if self.arrays & 1 == 1 {
            Container::Array
        } else {
            Container::Object
        };
        (self.depth > 0).then_some(container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_plain_text_is_found_at_every_place() {
        for byte in 0..=u8::MAX {
            let special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for len in 0..20 {
                for place in 0..=len {
                    // Around it what a wrong borrow between bytes would take for special.
                    let mut text = [0x21, 0x5d, 0x23, 0x80, 0xff, 0x20, 0x7f, 0xa2, 0xdc].repeat(3);
                    text.truncate(len);
                    text.insert(place, byte);
                    let expected = if special { place } else { text.len() };
                    assert_eq!(plain_len(&text), expected, "{byte:#x} at {place} of {len}");
                }
            }
        }
    }

    #[test]
    fn nesting_remembers_every_level() {
        let kind = |level: usize| {
            if level.is_multiple_of(3) {
                Container::Array
            } else {
                Container::Object
            }
        };
        let mut nesting = Nesting::default();
        assert!(nesting.innermost().is_none());
        (0..300).for_each(|level| nesting.push(kind(level)));
        for level in (0..300).rev() {
            assert_eq!(nesting.depth, level + 1);
            assert!(nesting.innermost() == Some(kind(level)), "level {level}");
            nesting.pop();
        }
        assert!(nesting.innermost().is_none());
    }
}
