//! JSON (RFC 8259) as a stream of values and what separates them: validated in one pass,
//! without a tree, recursion or allocation.

mod string;

pub(crate) use self::string::Str;

/// So many digits fit 64 bits whichever they are.
const INTEGER_DIGITS_SURE: usize = 18;

/// The text is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A value, or how it begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Object,
    Array,
    String(Str<'a>),
    Integer(i64),
    Double(f64),
    /// An integer beyond 64 bits, or a number beyond the largest double.
    NumberOutOfRange,
    Bool(bool),
    Null,
}

/// What follows a value, or the beginning of an object or array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next<'a> {
    /// The name of a member, whose value follows.
    Name(Str<'a>),
    /// An element, whose value follows.
    Element,
    EndObject,
    EndArray,
    /// The text ended.
    End,
}

/// Reads one text: a [value](Reader::value) at its beginning and after each [`Next::Name`] and
/// [`Next::Element`], [what is next](Reader::next) otherwise, up to [`Next::End`] or [`Malformed`].
pub(crate) struct Reader<'a> {
    text: &'a str,
    rest: &'a [u8],
    nesting: Nesting,
    /// Whether an object or array has just begun.
    begun: bool,
}

// Inlined throughout: what passes through memory costs more than reading the text.
impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            rest: text.as_bytes(),
            nesting: Nesting::default(),
            begun: false,
        }
    }

    /// How many objects and arrays are open.
    #[inline(always)]
    pub(crate) fn depth(&self) -> usize {
        self.nesting.depth
    }

    #[inline(always)]
    pub(crate) fn value(&mut self) -> Result<Value<'a>, Malformed> {
        self.skip_space();
        match self.rest {
            [b'"', rest @ ..] => {
                self.rest = rest;
                self.string().map(Value::String)
            }
            [b'{', rest @ ..] => Ok(self.begin(rest, Container::Object, Value::Object)),
            [b'[', rest @ ..] => Ok(self.begin(rest, Container::Array, Value::Array)),
            [b'-' | b'0'..=b'9', ..] => self.number(),
            [b't', b'r', b'u', b'e', rest @ ..] => Ok(self.literal(rest, Value::Bool(true))),
            [b'f', b'a', b'l', b's', b'e', rest @ ..] => Ok(self.literal(rest, Value::Bool(false))),
            [b'n', b'u', b'l', b'l', rest @ ..] => Ok(self.literal(rest, Value::Null)),
            _ => Err(Malformed),
        }
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Next<'a>, Malformed> {
        self.skip_space();
        let begun = std::mem::take(&mut self.begun);
        match (self.rest, self.nesting.innermost()) {
            ([b',', rest @ ..], Some(container)) if !begun => {
                self.rest = rest;
                self.member(container)
            }
            ([b'}', rest @ ..], Some(Container::Object)) => Ok(self.end(rest, Next::EndObject)),
            ([b']', rest @ ..], Some(Container::Array)) => Ok(self.end(rest, Next::EndArray)),
            ([_, ..], Some(container)) if begun => self.member(container),
            ([], None) => Ok(Next::End),
            _ => Err(Malformed),
        }
    }

    #[inline(always)]
    fn member(&mut self, container: Container) -> Result<Next<'a>, Malformed> {
        if container == Container::Array {
            return Ok(Next::Element);
        }
        self.skip_space();
        let [b'"', rest @ ..] = self.rest else {
            return Err(Malformed);
        };
        self.rest = rest;
        let name = self.string()?;
        self.skip_space();
        let [b':', rest @ ..] = self.rest else {
            return Err(Malformed);
        };
        self.rest = rest;
        Ok(Next::Name(name))
    }

    #[inline(always)]
    fn begin(&mut self, rest: &'a [u8], container: Container, value: Value<'a>) -> Value<'a> {
        self.rest = rest;
        self.nesting.push(container);
        self.begun = true;
        value
    }

    #[inline(always)]
    fn end(&mut self, rest: &'a [u8], next: Next<'a>) -> Next<'a> {
        self.rest = rest;
        self.nesting.pop();
        next
    }

    #[inline(always)]
    fn literal(&mut self, rest: &'a [u8], value: Value<'a>) -> Value<'a> {
        self.rest = rest;
        value
    }

    /// The string whose opening quote was just read.
    #[inline(always)]
    fn string(&mut self) -> Result<Str<'a>, Malformed> {
        let (string, rest) = Str::read(self.rest).ok_or(Malformed)?;
        self.rest = rest;
        Ok(string)
    }

    fn number(&mut self) -> Result<Value<'a>, Malformed> {
        let start = self.at();
        let negative = self.eat(b"-");
        let leading = self.rest.first();
        let (digits, magnitude) = self.digits();
        match (leading, digits) {
            (_, 0) | (Some(b'0'), 2..) => return Err(Malformed),
            _ => {}
        }
        let mut integer = true;
        if self.eat(b".") {
            integer = false;
            if self.digits().0 == 0 {
                return Err(Malformed);
            }
        }
        if self.eat(b"eE") {
            integer = false;
            self.eat(b"+-");
            if self.digits().0 == 0 {
                return Err(Malformed);
            }
        }
        if integer && digits <= INTEGER_DIGITS_SURE {
            let magnitude = magnitude as i64;
            return Ok(Value::Integer(if negative {
                -magnitude
            } else {
                magnitude
            }));
        }
        let number = &self.text[start..self.at()];
        Ok(if integer {
            number
                .parse()
                .map_or(Value::NumberOutOfRange, Value::Integer)
        } else {
            match number.parse::<f64>() {
                Ok(double) if double.is_finite() => Value::Double(double),
                _ => Value::NumberOutOfRange,
            }
        })
    }

    /// How many bytes of the text were read.
    pub(crate) fn at(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    /// Skips digits; says how many, and the number that they are where it fits.
    fn digits(&mut self) -> (usize, u64) {
        let before = self.rest.len();
        let mut number = 0_u64;
        while let [digit @ b'0'..=b'9', rest @ ..] = self.rest {
            number = number
                .wrapping_mul(10)
                .wrapping_add(u64::from(digit - b'0'));
            self.rest = rest;
        }
        (before - self.rest.len(), number)
    }

    fn eat(&mut self, any_of: &[u8]) -> bool {
        match self.rest {
            [byte, rest @ ..] if any_of.contains(byte) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    #[inline(always)]
    fn skip_space(&mut self) {
        // Writers put one space or none.
        if let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
        if let [0..=b' ', ..] = self.rest {
            self.skip_more_space();
        }
    }

    #[cold]
    fn skip_more_space(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// Which containers are open: one bit per level, the innermost lowest; 64 levels before anything is
/// allocated.
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
        self.depth -= 1;
        self.arrays >>= 1;
        if self.depth.is_multiple_of(64) && self.depth > 0 {
            self.arrays = self.outer.pop().expect("each 64th level left a word");
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
