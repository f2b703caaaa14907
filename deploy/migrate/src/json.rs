//! What an entity is as JSON: names in their order, integers of 64 bits, no number that JSON lacks.

use serde::ser::{Serialize, SerializeMap as _, Serializer};

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
