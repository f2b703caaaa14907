//! Entities and their values.

use crate::Key;

/// An entity: a key and its properties.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Its key, which is complete: each step has an id.
    pub key: Key,
    /// Its properties, each name once. In an export they stand in the order of their first
    /// appearance, the indexed ones before the others; in JSON in the order of the text.
    pub properties: Vec<(String, Value)>,
}

impl Entity {
    /// The value of the property of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.properties
            .iter()
            .find(|(property, _)| property == name)
            .map(|(_, value)| value)
    }
}

/// A value of a property, with the types of Datastore's REST API (`v1.Value`).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing; also a property of an export in which no value is set.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number, which may be NaN or infinite.
    Double(f64),
    /// Microseconds since 1970 UTC. Datastore keeps the years 1 to 9999; an export may hold any
    /// number.
    Timestamp(i64),
    /// Text.
    Text(String),
    /// Bytes. A compressed property of App Engine's NDB is inflated; if it was text, it is bytes
    /// here all the same, as NDB marks both alike.
    Blob(Vec<u8>),
    /// A reference to another entity, which is complete.
    Key(Key),
    /// A place on the earth, in degrees.
    Point {
        /// Degrees to the north.
        latitude: f64,
        /// Degrees to the east.
        longitude: f64,
    },
    /// An embedded entity's properties, each name once. A key of its own, if it has one, is
    /// dropped.
    ///
    /// A user of App Engine is one too, with the properties that are set of `email`,
    /// `auth_domain`, `nickname`, `internal_id`, `user_id`, `federated_identity` and
    /// `federated_provider`.
    Entity(Vec<(String, Value)>),
    /// The values of a repeated property, in order.
    Array(Vec<Value>),
}
