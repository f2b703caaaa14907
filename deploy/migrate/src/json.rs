//! What an entity is as JSON: names in their order, integers of 64 bits, no number that JSON lacks.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;

use crate::id::Fingerprint;

/// Whole numbers below this are the same as integers and as doubles.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Double(f64),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, its names in this order.
    Object(Vec<(String, Json)>),
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Integer(value) => serializer.serialize_i64(*value),
            Json::Double(value) => serializer.serialize_f64(*value),
            Json::Text(value) => serializer.serialize_str(value),
            Json::Array(values) => serializer.collect_seq(values),
            Json::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

/// A value of the mapping file.
impl From<&toml::Value> for Json {
    fn from(value: &toml::Value) -> Json {
        match value {
            toml::Value::String(text) if text == crate::mapping::NULL => Json::Null,
            toml::Value::String(text) => Json::Text(text.clone()),
            toml::Value::Integer(value) => Json::Integer(*value),
            toml::Value::Float(value) if value.is_finite() => Json::Double(*value),
            toml::Value::Float(_) => Json::Null,
            toml::Value::Boolean(value) => Json::Bool(*value),
            toml::Value::Datetime(value) => Json::Text(value.to_string()),
            toml::Value::Array(values) => Json::Array(values.iter().map(Json::from).collect()),
            toml::Value::Table(table) => Json::Object(
                (table.iter())
                    .map(|(name, value)| (name.clone(), Json::from(value)))
                    .collect(),
            ),
        }
    }
}

/// A state of an entity by its JSON: members in any order, and numbers in any form, are the same. What is
/// no JSON, as a tombstone, counts by its bytes.
pub fn state_of(value: &[u8]) -> Fingerprint {
    match serde_json::from_slice(value) {
        Ok(value) => Fingerprint::of(same_form(value).to_string()),
        Err(_) => Fingerprint::of(value),
    }
}

/// The one form of a value: members by name, whole numbers as integers.
fn same_form(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and in bounds")]
            Some(double)
                if number.is_f64() && double.fract() == 0.0 && double.abs() < EXACT_MAX =>
            {
                Value::from(double as i64)
            }
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(same_form).collect(),
        Value::Object(members) => {
            let members: BTreeMap<String, Value> = members
                .into_iter()
                .map(|(name, value)| (name, same_form(value)))
                .collect();
            members.into_iter().collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_the_same_in_any_order_and_form() {
        let state = |text: &str| state_of(text.as_bytes());
        let one = state(r#"{"a":{"x":1,"y":null},"b":"\u00e9"}"#);
        assert_eq!(
            one,
            state("{ \"b\" : \"\u{e9}\", \"a\" : { \"y\": null, \"x\": 1.0 } }")
        );
        for other in [
            r#"{"a":{"x":1},"b":"\u00e9"}"#,
            r#"{"a":{"x":2,"y":null},"b":"\u00e9"}"#,
            "",
        ] {
            assert_ne!(one, state(other), "{other}");
        }
        let large = |number: i64| state(&number.to_string());
        assert_ne!(large(i64::MAX), large(i64::MAX - 1));
    }
}
