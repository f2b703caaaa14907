//! JSON (RFC 8259) as a stream of names and values: validated in one pass, without a tree,
//! recursion or allocation.

mod nesting;
mod number;
mod string;

use self::nesting::{Container, Nesting};
pub(crate) use self::string::Str;

/// The text is not a JSON object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// How many bytes of it were read.
    pub(crate) at: usize,
}

/// A value, or how it begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Object,
    Array,
    String(Str<'a>),
    Integer(i64),
    Double(f64),
    /// An integer beyond 64 bits, or a number beyond the largest double; as it is written.
    NumberOutOfRange(&'a str),
    Bool(bool),
    Null,
}

/// What is told of an object while it is read. Its members are at depth 1.
pub(crate) trait Visitor<'a> {
    /// The name of a member, whose value follows.
    fn name(&mut self, name: Str<'a>, depth: usize);

    /// A value, or how it begins: that of the name before, or an element of an array.
    fn value(&mut self, value: Value<'a>, depth: usize);

    /// The end of an object or array that stands at this depth; of the whole, at 0.
    fn end(&mut self, depth: usize);
}

/// Reads one object, and tells `visitor`.
///
/// # Errors
/// `text` is anything else. What comes before the fault was told.
// Inlined, as all that it calls: what passes through memory costs more than reading the text.
#[inline(always)]
pub(crate) fn read<'a>(text: &'a str, visitor: &mut impl Visitor<'a>) -> Result<(), Malformed> {
    let mut reader = Reader::new(text);
    if reader.token() != b'{' {
        return Err(reader.malformed());
    }
    let mut member_follows = reader.begin(Container::Object);
    loop {
        while member_follows {
            if reader.nesting.innermost() == Some(Container::Object) {
                let name = reader.name()?;
                visitor.name(name, reader.nesting.depth());
            }
            member_follows = reader.value(visitor)?;
        }
        match (reader.token(), reader.nesting.innermost()) {
            (b',', Some(_)) => {
                reader.pass();
                member_follows = true;
            }
            (b'}', Some(Container::Object)) | (b']', Some(Container::Array)) => {
                reader.at += 1;
                reader.nesting.pop();
                visitor.end(reader.nesting.depth());
            }
            (_, None) if reader.at == text.len() => return Ok(()),
            _ => return Err(reader.malformed()),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    /// How many bytes of it were read.
    at: usize,
    nesting: Nesting,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            nesting: Nesting::default(),
        }
    }

    /// A member's name, with the colon.
    #[inline(always)]
    fn name(&mut self) -> Result<Str<'a>, Malformed> {
        if self.token() != b'"' {
            return Err(self.malformed());
        }
        let name = self.string()?;
        if self.token() != b':' {
            return Err(self.malformed());
        }
        self.pass();
        Ok(name)
    }

    /// A value, or how it begins; whether a member of what begins follows.
    #[inline(always)]
    fn value(&mut self, visitor: &mut impl Visitor<'a>) -> Result<bool, Malformed> {
        let depth = self.nesting.depth();
        match self.token() {
            b'"' => visitor.value(Value::String(self.string()?), depth),
            b'{' => {
                visitor.value(Value::Object, depth);
                return Ok(self.begin(Container::Object));
            }
            b'[' => {
                visitor.value(Value::Array, depth);
                return Ok(self.begin(Container::Array));
            }
            b'-' | b'0'..=b'9' => {
                let number = number::read(self.text, self.at);
                let (number, end) = number.ok_or_else(|| self.malformed())?;
                self.at = end;
                visitor.value(number, depth);
            }
            b't' => visitor.value(self.literal(b"true", Value::Bool(true))?, depth),
            b'f' => visitor.value(self.literal(b"false", Value::Bool(false))?, depth),
            b'n' => visitor.value(self.literal(b"null", Value::Null)?, depth),
            _ => return Err(self.malformed()),
        }
        Ok(false)
    }

    /// Goes into an object or array; whether it has members.
    #[inline(always)]
    fn begin(&mut self, container: Container) -> bool {
        self.at += 1;
        self.nesting.push(container);
        self.token()
            != match container {
                Container::Object => b'}',
                Container::Array => b']',
            }
    }

    #[inline(always)]
    fn literal(&mut self, name: &[u8], value: Value<'a>) -> Result<Value<'a>, Malformed> {
        if !self.text.as_bytes()[self.at..].starts_with(name) {
            return Err(self.malformed());
        }
        self.at += name.len();
        Ok(value)
    }

    /// The string whose opening quote comes next.
    #[inline(always)]
    fn string(&mut self) -> Result<Str<'a>, Malformed> {
        self.at += 1;
        let string = Str::read(&self.text.as_bytes()[self.at..]);
        let string = string.ok_or_else(|| self.malformed())?;
        self.at += string.raw_len() + 1;
        Ok(string)
    }

    /// The next byte that is no space; 0, which is no token, at the end of the text.
    #[inline(always)]
    fn token(&mut self) -> u8 {
        let byte = self.byte();
        if byte > b' ' {
            return byte;
        }
        self.at = end_of_space(self.text.as_bytes(), self.at);
        self.byte()
    }

    /// Goes past a separator, and past the one space that most writers put behind it.
    #[inline(always)]
    fn pass(&mut self) {
        self.at += 1;
        if self.byte() == b' ' {
            self.at += 1;
        }
    }

    #[inline(always)]
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn malformed(&self) -> Malformed {
        Malformed { at: self.at }
    }
}

/// Where the space that begins at `start` ends.
#[cold]
fn end_of_space(text: &[u8], start: usize) -> usize {
    let is_space = |byte: &&u8| matches!(**byte, b' ' | b'\n' | b'\r' | b'\t');
    start + text[start..].iter().take_while(is_space).count()
}
