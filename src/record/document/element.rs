//! Where the elements of a raw document begin and end, without parsing their values.

use bson::spec::ElementType;

/// The name of the element that `elements` begin with.
#[inline]
pub(crate) fn name(elements: &[u8]) -> Option<&[u8]> {
    let from_name = elements.get(1..)?;
    Some(&from_name[..memchr::memchr(0, from_name)?])
}

/// What follows the first element, whose name is given.
#[inline]
pub(crate) fn after<'a>(elements: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = elements.get(name.len() + 2..)?;
    let length = || Some(u32::from_le_bytes(*value.first_chunk()?) as usize);
    let value_len = match ElementType::from(*elements.first()?) {
        Some(ElementType::String) => 4 + length()?,
        Some(ElementType::EmbeddedDocument | ElementType::Array) => length()?,
        Some(ElementType::Double | ElementType::Int64) => 8,
        Some(ElementType::Int32) => 4,
        Some(ElementType::Boolean) => 1,
        _ => 0,
    };
    value.get(value_len..)
}
