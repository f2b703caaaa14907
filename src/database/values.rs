//! Values of documents that others may have written: the server, a shell, another release. Pure.

use bson::{Bson, Uuid};

/// Up to here, each whole number is a double of its own.
const WHOLE_DOUBLE_MAX: f64 = 9_007_199_254_740_992.0;

/// A whole number, in whichever of BSON's types it is: the MongoDB shell writes doubles.
pub fn number(value: Option<&Bson>) -> Option<i64> {
    match value? {
        Bson::Int64(n) => Some(*n),
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Double(n) if n.fract() == 0.0 && n.abs() <= WHOLE_DOUBLE_MAX => Some(*n as i64),
        _ => None,
    }
}

/// A UUID, which is binary data of subtype 4.
pub fn uuid(value: Option<&Bson>) -> Option<Uuid> {
    match value? {
        Bson::Binary(binary) => binary.to_uuid().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_from_any_type_as_long_as_it_is_whole() {
        for (value, expected) in [
            (Bson::Int32(-7), Some(-7)),
            (Bson::Int64(1 << 60), Some(1 << 60)),
            (Bson::Double(1e15), Some(1_000_000_000_000_000)),
            (Bson::Double(0.5), None),
            (Bson::Double(1e18), None),
            (Bson::Double(f64::NAN), None),
            (Bson::from("7"), None),
            (Bson::Null, None),
        ] {
            assert_eq!(number(Some(&value)), expected, "{value}");
        }
        assert_eq!(number(None), None);
    }

    #[test]
    fn only_a_uuid_is_one() {
        let id = Uuid::from_bytes([7; 16]);
        assert_eq!(uuid(Some(&id.into())), Some(id));
        assert_eq!(uuid(Some(&Bson::from(id.to_string()))), None);
        assert_eq!(uuid(None), None);
    }
}
