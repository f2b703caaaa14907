//! Keys, and their text.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

/// A key: where an entity stands below its ancestors, in the default database: one of another is a
/// [`Fault`](crate::Fault).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The project's id, without the prefix of a region such as `s~`; empty if it is not said.
    pub project: String,
    /// The namespace; empty for the default one.
    pub namespace: String,
    /// The steps from the first ancestor to the entity itself. A key that was read has one or more.
    pub path: Vec<Step>,
}

/// One step of a key's path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Step {
    /// The kind.
    pub kind: String,
    /// What tells it from others of its kind and parent.
    pub id: Id,
}

/// The id of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A number, which Datastore mostly chose. Never 0 in a key that was read.
    Number(i64),
    /// A name, which the application chose. Never empty in a key that was read.
    Name(String),
}

impl Key {
    /// The kind of the entity: that of the last step; empty if there is no step.
    pub fn kind(&self) -> &str {
        self.path.last().map_or("", |step| &step.kind)
    }

    /// The id of the entity: that of the last step.
    pub fn id(&self) -> Option<&Id> {
        self.path.last().map(|step| &step.id)
    }

    /// The key without its last step, or nothing if that leaves no step.
    pub fn parent(&self) -> Option<Key> {
        let (_, path) = self.path.split_last()?;
        (!path.is_empty()).then(|| Key {
            project: self.project.clone(),
            namespace: self.namespace.clone(),
            path: path.to_vec(),
        })
    }

    /// Whether there is a step, and each has a kind and an id.
    pub(crate) fn complete(&self) -> bool {
        let complete = |step: &Step| {
            !step.kind.is_empty()
                && match &step.id {
                    Id::Number(number) => *number != 0,
                    Id::Name(name) => !name.is_empty(),
                }
        };
        !self.path.is_empty() && self.path.iter().all(complete)
    }
}

/// The id alone, as in the text of a key.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(number) => write!(f, "{number}"),
            Id::Name(name) => {
                let mut rest = name.as_str();
                // So that it is not read as a number.
                if is_number(name)
                    && let Some(first) = name.bytes().next()
                {
                    write!(f, "%{first:02X}")?;
                    rest = &name[1..];
                }
                escape(f, rest)
            }
        }
    }
}

/// Kind and id, such as `Account:public`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, &self.kind)?;
        write!(f, ":{}", self.id)
    }
}

/// The path alone, such as `Account:public/Evaluation:5634161670881280`. `/`, `:`, `%` and control
/// characters are written as `%` and two hex digits a byte, and so is the first character of a name
/// that looks like a number. The text of a complete key parses back.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.path.iter().enumerate() {
            if index > 0 {
                f.write_char('/')?;
            }
            write!(f, "{step}")?;
        }
        Ok(())
    }
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A step without `:`, or with more than one.
    #[error("each step of a key is KIND:ID; a ':' within one of them is written %3A")]
    Step,
    /// A step whose kind or id is empty.
    #[error("each step of a key has a kind and an id")]
    Empty,
    /// Digits that are no number of 64 bits, or begin with a needless 0.
    #[error("an id of digits is a number of 64 bits; the first digit of a name is written %3N")]
    Number,
    /// `%` without two hex digits after it, or bytes that are not UTF-8.
    #[error("'%' in a key stands before two hex digits, and all bytes are UTF-8")]
    Escape,
}

/// The inverse of `Display`; project and namespace are empty.
impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Key, KeyError> {
        let path = text.split('/').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Key {
            project: String::new(),
            namespace: String::new(),
            path,
        })
    }
}

impl FromStr for Step {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Step, KeyError> {
        let (kind, id) = text.split_once(':').ok_or(KeyError::Step)?;
        if kind.is_empty() || id.is_empty() {
            return Err(KeyError::Empty);
        }
        if id.contains(':') {
            return Err(KeyError::Step);
        }
        let kind = unescape(kind)?;
        let id = if is_number(id) {
            // `Display` of a number gives no other text than the one that was parsed.
            let number: i64 = id.parse().map_err(|_| KeyError::Number)?;
            if number.to_string() != id {
                return Err(KeyError::Number);
            }
            Id::Number(number)
        } else {
            Id::Name(unescape(id)?)
        };
        Ok(Step { kind, id })
    }
}

/// Whether a text is digits, with `-` before them or not.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn escape(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut buffer = [0; 4];
    for char in text.chars() {
        if matches!(char, '/' | ':' | '%') || char.is_control() {
            for byte in char.encode_utf8(&mut buffer).bytes() {
                write!(f, "%{byte:02X}")?;
            }
        } else {
            f.write_char(char)?;
        }
    }
    Ok(())
}

fn unescape(text: &str) -> Result<String, KeyError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2).ok_or(KeyError::Escape)?;
            let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(KeyError::Escape);
            let byte = digit(digits[0])? * 16 + digit(digits[1])?;
            bytes.push(u8::try_from(byte).expect("two hex digits are a byte"));
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).map_err(|_| KeyError::Escape)
}

#[cfg(test)]
mod tests;
