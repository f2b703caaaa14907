//! A string of a JSON text: found and validated, with its escapes still in it.

use wide::u8x16;

/// Short strings are copied as whole blocks, since a call of `memcpy` takes longer.
const BLOCK: usize = 16;

/// A string of the text. Valid, if the text is UTF-8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Str<'a> {
    /// The text from the string's first byte on.
    from: &'a [u8],
    /// How many bytes of it are the string, with its escapes.
    raw_len: usize,
    len: usize,
}

impl<'a> Str<'a> {
    /// The string whose opening quote comes before `from`.
    #[inline(always)]
    pub(super) fn read(from: &'a [u8]) -> Option<Self> {
        let len = plain_len(from);
        if from.get(len) == Some(&b'"') {
            let raw_len = len;
            return Some(Str { from, raw_len, len });
        }
        Self::read_escaped(from, len)
    }

    /// The same, after so many plain bytes.
    fn read_escaped(from: &'a [u8], plain: usize) -> Option<Self> {
        let mut raw_len = plain;
        let mut shrinkage = 0;
        loop {
            match from.get(raw_len)? {
                b'"' => break,
                b'\\' => {
                    let (character, escape_len) = unescape(&from[raw_len..])?;
                    shrinkage += escape_len - character.len_utf8();
                    raw_len += escape_len;
                    raw_len += plain_len(&from[raw_len..]);
                }
                _ => return None,
            }
        }
        let len = raw_len - shrinkage;
        Some(Str { from, raw_len, len })
    }

    /// Bytes of the string in the text, with its escapes.
    #[inline(always)]
    pub(super) fn raw_len(self) -> usize {
        self.raw_len
    }

    /// Bytes of the string once its escapes are resolved.
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The string, if it has no escapes.
    #[inline(always)]
    pub(crate) fn plain(self) -> Option<&'a [u8]> {
        (self.raw_len == self.len).then(|| self.raw())
    }

    #[inline(always)]
    fn raw(self) -> &'a [u8] {
        &self.from[..self.raw_len]
    }

    /// Writes the string, its escapes resolved (UTF-8), to the start of `to`, which is longer than
    /// it by two blocks at least. What stands behind it there may be overwritten.
    #[inline(always)]
    pub(crate) fn copy_to(self, to: &mut [u8]) {
        let Str { from, raw_len, len } = self;
        if len != raw_len {
            self.unescape_to(to);
        } else if len <= BLOCK
            && let (Some(from), Some(to)) = (from.first_chunk::<BLOCK>(), to.first_chunk_mut())
        {
            *to = *from;
        } else if len <= 2 * BLOCK
            && let (Some(from), Some(to)) =
                (from.first_chunk::<{ 2 * BLOCK }>(), to.first_chunk_mut())
        {
            *to = *from;
        } else {
            to[..len].copy_from_slice(&from[..len]);
        }
    }

    fn unescape_to(self, out: &mut [u8]) {
        let mut rest = self.raw();
        let mut at = 0;
        while let Some(plain) = memchr::memchr(b'\\', rest) {
            let (character, escape_len) =
                unescape(&rest[plain..]).expect("the escapes were validated");
            out[at..at + plain].copy_from_slice(&rest[..plain]);
            at += plain;
            at += character.encode_utf8(&mut out[at..]).len();
            rest = &rest[plain + escape_len..];
        }
        out[at..at + rest.len()].copy_from_slice(rest);
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
        scratch.resize(self.len, 0);
        self.unescape_to(scratch);
        scratch
    }
}

impl PartialEq for Str<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.raw() == other.raw()
    }
}

/// The character that the escape at the start of `bytes` stands for, and the length of that escape.
/// An escape is always longer than its character. A lone surrogate has no character.
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

/// How many bytes at the start of `bytes` are neither a quote, nor a backslash, nor a control
/// character.
#[inline(always)]
fn plain_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk() {
        let special = special_bytes(u8x16::new(*chunk));
        if special != 0 {
            return at + special.trailing_zeros() as usize;
        }
        at += BLOCK;
    }
    let rest = bytes[at..]
        .iter()
        .take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    at + rest.count()
}

/// A bit for each special byte, the first one lowest.
#[inline(always)]
fn special_bytes(bytes: u8x16) -> u32 {
    let quotes = bytes.simd_eq(u8x16::splat(b'"'));
    let backslashes = bytes.simd_eq(u8x16::splat(b'\\'));
    let controls = bytes.simd_eq(bytes.min(u8x16::splat(0x1f)));
    (quotes | backslashes | controls).to_bitmask()
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
                    // Surrounded by what an incorrect borrow between bytes would take for special.
                    let mut text = [0x21, 0x5d, 0x23, 0x80, 0xff, 0x20, 0x7f, 0xa2, 0xdc].repeat(3);
                    text.truncate(len);
                    text.insert(place, byte);
                    let expected = if special { place } else { text.len() };
                    assert_eq!(plain_len(&text), expected, "{byte:#x} at {place} of {len}");
                }
            }
        }
    }
}
