//! Where the elements of a raw document begin and end, without parsing their values.

use bson::spec::ElementType;
use wide::u8x16;

/// The name of the element that `elements` begin with.
#[inline]
pub(crate) fn name(elements: &[u8]) -> Option<&[u8]> {
    let from_name = elements.get(1..)?;
    if let Some(block) = from_name.first_chunk()
        && let Some(len) = first_nul(u8x16::new(*block))
    {
        return Some(&from_name[..len]);
    }
    Some(&from_name[..memchr::memchr(0, from_name)?])
}

/// The name of the element that `elements` begin with, if `others` begin with one of that name.
#[inline]
pub(crate) fn common_name<'a>(elements: &'a [u8], others: &[u8]) -> Option<&'a [u8]> {
    let (from_name, other) = (elements.get(1..)?, others.get(1..)?);
    if let (Some(block), Some(of_other)) = (from_name.first_chunk(), other.first_chunk()) {
        let (block, of_other) = (u8x16::new(*block), u8x16::new(*of_other));
        if let Some(len) = first_nul(block) {
            let equal = block.simd_eq(of_other).to_bitmask().trailing_ones() as usize;
            // The end is to be common too.
            return (equal > len).then(|| &from_name[..len]);
        }
    }
    let name = name(elements)?;
    let with_nul = ..name.len() + 1;
    (from_name.get(with_nul) == other.get(with_nul)).then_some(name)
}

#[inline]
fn first_nul(block: u8x16) -> Option<usize> {
    let nuls = block.simd_eq(u8x16::ZERO).to_bitmask();
    (nuls != 0).then_some(nuls.trailing_zeros() as usize)
}

/// How long the value of an element is, by its type: a number of bytes, and with [`COUNTED`] as
/// many more as it says at its start.
const VALUE_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    bytes[ElementType::Double as usize] = 8;
    bytes[ElementType::String as usize] = COUNTED + 4;
    bytes[ElementType::EmbeddedDocument as usize] = COUNTED;
    bytes[ElementType::Array as usize] = COUNTED;
    bytes[ElementType::Boolean as usize] = 1;
    bytes[ElementType::Int32 as usize] = 4;
    bytes[ElementType::Int64 as usize] = 8;
    bytes
};
const COUNTED: u8 = 0x80;

/// What follows the first element, whose name is given.
#[inline(always)]
pub(crate) fn after<'a>(elements: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = elements.get(name.len() + 2..)?;
    let bytes = VALUE_BYTES[usize::from(*elements.first()?)];
    let value_len = usize::from(bytes & !COUNTED);
    let counted = if bytes & COUNTED != 0 {
        u32::from_le_bytes(*value.first_chunk()?) as usize
    } else {
        0
    };
    value.get(value_len + counted..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_common_only_to_its_end() {
        // Names around the length of a block, alone and with others behind.
        for len in [0, 1, 14, 15, 16, 17, 40] {
            for behind in [0, 1, 30] {
                let of = |name: &str| {
                    let mut element = vec![0x0a];
                    element.extend_from_slice(name.as_bytes());
                    element.push(0);
                    element.resize(element.len() + behind, b'x');
                    element
                };
                let one = "n".repeat(len);
                assert_eq!(name(&of(&one)), Some(one.as_bytes()));
                assert_eq!(common_name(&of(&one), &of(&one)), Some(one.as_bytes()));
                let longer = format!("{one}x");
                assert_eq!(common_name(&of(&one), &of(&longer)), None, "{len}");
                assert_eq!(common_name(&of(&longer), &of(&one)), None, "{len}");
                let other = format!("{one}y");
                assert_eq!(common_name(&of(&longer), &of(&other)), None, "{len}");
            }
        }
        assert_eq!(name(b""), None);
        assert_eq!(name(b"\x0aunended"), None);
        assert_eq!(common_name(b"", b""), None);
    }
}
