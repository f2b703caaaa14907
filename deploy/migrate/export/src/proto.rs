//! The messages of App Engine's `datastore_v3/entity.proto`, with its numbers of fields.
//!
//! What the format calls a string may hold any bytes, so all are bytes here. Properties are kept as
//! they are encoded, and decoded one by one: so a record takes little more memory than its length.

use prost::Message;
use prost::bytes::Bytes;

/// A time in microseconds since 1970 UTC.
pub(crate) const GD_WHEN: i32 = 7;
/// A point with degrees of latitude and longitude.
pub(crate) const GEORSS_POINT: i32 = 9;
/// Bytes that are not indexed.
pub(crate) const BLOB: i32 = 14;
/// Text that is not indexed.
pub(crate) const TEXT: i32 = 15;
/// Bytes that are indexed.
pub(crate) const BYTESTRING: i32 = 16;
/// An embedded `EntityProto`.
pub(crate) const ENTITY_PROTO: i32 = 19;
/// Bytes that NDB compressed. App Engine writes [`ZLIB_URI`] instead; the REST API has this.
pub(crate) const ZLIB: i32 = 22;
/// A list without elements.
pub(crate) const EMPTY_LIST: i32 = 24;
/// The `meaning_uri` of bytes that NDB compressed.
pub(crate) const ZLIB_URI: &[u8] = b"ZLIB";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EntityProto {
    #[prost(message, optional, tag = "13")]
    pub key: Option<Reference>,
    /// [`Property`] that are indexed.
    #[prost(bytes = "bytes", repeated, tag = "14")]
    pub property: Vec<Bytes>,
    /// [`Property`] that are not.
    #[prost(bytes = "bytes", repeated, tag = "15")]
    pub raw_property: Vec<Bytes>,
    #[prost(message, optional, tag = "16")]
    pub entity_group: Option<Path>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reference {
    #[prost(bytes = "vec", required, tag = "13")]
    pub app: Vec<u8>,
    #[prost(message, optional, tag = "14")]
    pub path: Option<Path>,
    #[prost(bytes = "vec", optional, tag = "20")]
    pub name_space: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "23")]
    pub database: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Path {
    #[prost(group, repeated, tag = "1")]
    pub element: Vec<Element>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Element {
    #[prost(bytes = "vec", required, tag = "2")]
    pub kind: Vec<u8>,
    #[prost(int64, optional, tag = "3")]
    pub id: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub name: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Property {
    #[prost(int32, optional, tag = "1")]
    pub meaning: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub meaning_uri: Option<Vec<u8>>,
    #[prost(bytes = "vec", required, tag = "3")]
    pub name: Vec<u8>,
    #[prost(bool, required, tag = "4")]
    pub multiple: bool,
    #[prost(message, optional, tag = "5")]
    pub value: Option<PropertyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PropertyValue {
    #[prost(int64, optional, tag = "1")]
    pub integer: Option<i64>,
    #[prost(bool, optional, tag = "2")]
    pub boolean: Option<bool>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub string: Option<Vec<u8>>,
    #[prost(double, optional, tag = "4")]
    pub double: Option<f64>,
    #[prost(group, optional, tag = "5")]
    pub point: Option<PointValue>,
    #[prost(group, optional, tag = "8")]
    pub user: Option<UserValue>,
    #[prost(group, optional, tag = "12")]
    pub reference: Option<ReferenceValue>,
}

/// Latitude and longitude, in degrees.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PointValue {
    #[prost(double, required, tag = "6")]
    pub x: f64,
    #[prost(double, required, tag = "7")]
    pub y: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserValue {
    #[prost(bytes = "vec", optional, tag = "9")]
    pub email: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "10")]
    pub auth_domain: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "11")]
    pub nickname: Option<Vec<u8>>,
    #[prost(int64, optional, tag = "18")]
    pub gaiaid: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "19")]
    pub obfuscated_gaiaid: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "21")]
    pub federated_identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "22")]
    pub federated_provider: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReferenceValue {
    #[prost(bytes = "vec", required, tag = "13")]
    pub app: Vec<u8>,
    #[prost(group, repeated, tag = "14")]
    pub path_element: Vec<PathElement>,
    #[prost(bytes = "vec", optional, tag = "20")]
    pub name_space: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "23")]
    pub database: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PathElement {
    #[prost(bytes = "vec", required, tag = "15")]
    pub kind: Vec<u8>,
    #[prost(int64, optional, tag = "16")]
    pub id: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "17")]
    pub name: Option<Vec<u8>>,
}
