//! JSON, one level at a time.
//!
//! Unlike `serde_json::Value` this keeps the order of members, refuses a member that is given
//! twice, and tells `1` from `1.0`: only the text of a number says which of Datastore's types it
//! has.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A value, with what it holds still as text.
#[derive(Debug)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Double(f64),
    Text(String),
    Array(Vec<&'a RawValue>),
    Object(Members<'a>),
}

/// The members of an object, in their order, each name once.
#[derive(Debug)]
pub(crate) struct Members<'a>(pub Vec<(String, &'a RawValue)>);

/// Why a value is none of Datastore's, in words.
pub(crate) type Why = &'static str;

impl<'a> Json<'a> {
    pub(crate) fn parse(raw: &'a RawValue) -> Result<Json<'a>, Why> {
        let text = raw.get();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Json::Null,
            Some(b't') => Json::Bool(true),
            Some(b'f') => Json::Bool(false),
            Some(b'"') => Json::Text(
                serde_json::from_str(text).map_err(|_| "text with half a surrogate pair")?,
            ),
            Some(b'[') => {
                Json::Array(serde_json::from_str(text).map_err(|_| "a list that is not JSON")?)
            }
            Some(b'{') => Json::Object(Members::parse(text)?),
            _ if text.contains(['.', 'e', 'E']) => {
                let number: f64 = text.parse().map_err(|_| "a number that is not JSON")?;
                match number.is_finite() {
                    true => Json::Double(number),
                    false => return Err("a number beyond those of 64 bits"),
                }
            }
            _ => Json::Integer(
                text.parse()
                    .map_err(|_| "a whole number beyond 64 bits; with a point it is read")?,
            ),
        })
    }
}

impl<'a> Members<'a> {
    fn parse(text: &'a str) -> Result<Members<'a>, Why> {
        let members: Members = serde_json::from_str(text)
            .map_err(|_| "an object whose names hold half a surrogate pair")?;
        let mut names = HashSet::with_capacity(members.0.len());
        match members.0.iter().all(|(name, _)| names.insert(name)) {
            true => Ok(members),
            false => Err("an object with a member given twice"),
        }
    }

    /// Takes the member of this name out.
    pub(crate) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let index = self.0.iter().position(|(member, _)| member == name)?;
        Some(self.0.remove(index).1)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = vec![];
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
