//! A string of a JSON text: found and validated, with its escapes still in it.

use wide::u8x16;

/// A string of the text. Valid, if the text is UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Str<'a> {
    /// As it is in the text, with the quote that ends it.
    closed: &'a [u8],
    len: usize,
}

impl<'a> Str<'a> {
    /// The string whose opening quote comes before `text`, and what follows its closing one.
    #[inline(always)]
    pub(super) fn read(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut at = plain_len(text);
        let mut shrinkage = 0;
        loop {
            match text.get(at)? {
                b'"' => break,
                b'\\' => {
                    let (character, escape_len) = unescape(&text[at..])?;
                    shrinkage += escape_len - character.len_utf8();
                    at += escape_len;
                    at += plain_len(&text[at..]);
                }
                _ => return None,
            }
        }
        let (closed, rest) = text.split_at(at + 1);
        let len = at - shrinkage;
        Some((Str { closed, len }, rest))
    }

    /// Bytes of the string once its escapes are resolved.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The string, if it has no escapes.
    pub(crate) fn plain(self) -> Option<&'a [u8]> {
        let raw = self.raw();
        (raw.len() == self.len).then_some(raw)
    }

    fn raw(self) -> &'a [u8] {
        &self.closed[..self.closed.len() - 1]
    }

    /// Appends the string, its escapes resolved (UTF-8), and a NUL.
    #[inline(always)]
    pub(crate) fn append_with_nul(self, out: &mut Vec<u8>) {
        if self.plain().is_some() {
            // One copy, in which the quote is overwritten.
            out.extend_from_slice(self.closed);
            *out.last_mut().expect("the quote was copied") = 0;
        } else {
            self.append_unescaped(out);
            out.push(0);
        }
    }

    fn append_unescaped(self, out: &mut Vec<u8>) {
        let mut rest = self.raw();
        while let Some(plain) = memchr::memchr(b'\\', rest) {
            let (character, escape_len) =
                unescape(&rest[plain..]).expect("the escapes were validated");
            out.extend_from_slice(&rest[..plain]);
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &rest[plain + escape_len..];
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
        self.append_unescaped(scratch);
        scratch
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
    let (chunks, rest) = bytes.as_chunks();
    for (index, chunk) in chunks.iter().enumerate() {
        let special = special_bytes(u8x16::new(*chunk));
        if special != 0 {
            return index * 16 + special.trailing_zeros() as usize;
        }
    }
    let rest_plain = rest
        .iter()
        .take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
        .count();
    chunks.len() * 16 + rest_plain
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
