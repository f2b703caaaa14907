//! A number of a JSON text.

use super::Value;

/// So many digits fit 64 bits whichever they are.
const INTEGER_DIGITS_SURE: usize = 18;

/// The number at `start` of `text`, and where it ends. `None` if there is none.
pub(super) fn read(text: &str, start: usize) -> Option<(Value<'_>, usize)> {
    let bytes = text.as_bytes();
    let negative = bytes.get(start) == Some(&b'-');
    let first = start + usize::from(negative);
    let (mut end, magnitude) = digits(bytes, first);
    let digits_read = end - first;
    if digits_read == 0 || digits_read > 1 && bytes[first] == b'0' {
        return None;
    }
    let integer_end = end;
    if bytes.get(end) == Some(&b'.') {
        end = some_digits(bytes, end + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let signed = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
        end = some_digits(bytes, end + 1 + usize::from(signed))?;
    }
    let number = if end > integer_end {
        double(&text[start..end])
    } else if digits_read <= INTEGER_DIGITS_SURE {
        let magnitude = magnitude as i64;
        Value::Integer(if negative { -magnitude } else { magnitude })
    } else {
        let parsed = text[start..end].parse();
        parsed.map_or(Value::NumberOutOfRange(&text[start..end]), Value::Integer)
    };
    Some((number, end))
}

fn double(number: &str) -> Value<'_> {
    match number.parse::<f64>() {
        Ok(double) if double.is_finite() => Value::Double(double),
        _ => Value::NumberOutOfRange(number),
    }
}

/// Where at least one digit ends that begins at `start`.
fn some_digits(bytes: &[u8], start: usize) -> Option<usize> {
    let (end, _) = digits(bytes, start);
    (end > start).then_some(end)
}

/// Where the digits that begin at `start` end, and the number that they are where it fits.
#[inline(always)]
fn digits(bytes: &[u8], start: usize) -> (usize, u64) {
    let mut number = 0_u64;
    let mut end = start;
    while let Some(digit @ b'0'..=b'9') = bytes.get(end) {
        number = number
            .wrapping_mul(10)
            .wrapping_add(u64::from(digit - b'0'));
        end += 1;
    }
    (end, number)
}
