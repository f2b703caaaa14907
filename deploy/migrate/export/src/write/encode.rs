//! From an entity to an `EntityProto`.

use anyhow::{Result, bail, ensure};
use prost::Message;
use prost::bytes::Bytes;

use crate::proto::{
    self, Element, EntityProto, PathElement, PointValue, Property, PropertyValue, Reference,
    ReferenceValue,
};
use crate::{EMBEDDED_DEPTH_MAX, ENTITY_BYTES_MAX, Entity, Id, Key, Value};

/// Bytes of a text that Datastore indexes; a longer one it stores without an index.
const INDEXED_BYTES_MAX: usize = 1_500;

/// The `EntityProto` of an entity.
///
/// Texts of more than 1,500 bytes, blobs and embedded entities are written as Datastore stores
/// them: not indexed, so behind the indexed properties.
///
/// # Errors
///
/// What the format has no place for: a list within a list, a property given twice, an incomplete
/// key, and what no reader would read: more than [`ENTITY_BYTES_MAX`] or [`EMBEDDED_DEPTH_MAX`].
pub fn encode(entity: &Entity) -> Result<Vec<u8>> {
    ensure!(entity.key.complete(), "the key is incomplete");
    let key = &entity.key;
    let mut proto = properties(&entity.properties, 0)?;
    let path = path(key);
    proto.entity_group = Some(proto::Path {
        element: path.element[..1].to_vec(),
    });
    proto.key = Some(Reference {
        app: key.project.clone().into(),
        path: Some(path),
        name_space: name_space(key),
        database: None,
    });
    let bytes = proto.encode_to_vec();
    ensure!(bytes.len() <= ENTITY_BYTES_MAX, "{key} is too long");
    Ok(bytes)
}

fn path(key: &Key) -> proto::Path {
    let step = |step: &crate::Step| {
        let (id, name) = id(&step.id);
        Element {
            kind: step.kind.clone().into(),
            id,
            name,
        }
    };
    proto::Path {
        element: key.path.iter().map(step).collect(),
    }
}

fn id(id: &Id) -> (Option<i64>, Option<Vec<u8>>) {
    match id {
        Id::Number(number) => (Some(*number), None),
        Id::Name(name) => (None, Some(name.clone().into())),
    }
}

fn name_space(key: &Key) -> Option<Vec<u8>> {
    let name = key.namespace.as_str();
    (!name.is_empty()).then(|| name.into())
}

fn properties(properties: &[(String, Value)], depth: usize) -> Result<EntityProto> {
    let mut proto = EntityProto::default();
    let mut names: Vec<&str> = properties.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some([name, _]) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("property {name} is given twice");
    }
    for (name, value) in properties {
        let list = match indexed(value) {
            true => &mut proto.property,
            false => &mut proto.raw_property,
        };
        let mut add = |value: &Value, multiple| {
            let property = property(name, value, multiple, depth)?;
            list.push(Bytes::from(property.encode_to_vec()));
            anyhow::Ok(())
        };
        match value {
            Value::Array(values) if !values.is_empty() => {
                for value in values {
                    if matches!(value, Value::Array(_)) {
                        bail!("property {name} is a list within a list");
                    }
                    add(value, true)?;
                }
            }
            value => add(value, false)?,
        }
    }
    Ok(proto)
}

/// Whether Datastore would index the property. Of a list all elements are, or none is, so that they
/// stay in order.
fn indexed(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.len() <= INDEXED_BYTES_MAX,
        Value::Blob(_) | Value::Entity(_) => false,
        Value::Array(values) => values.iter().all(indexed),
        _ => true,
    }
}

fn property(name: &str, value: &Value, multiple: bool, depth: usize) -> Result<Property> {
    let mut meaning = None;
    let mut encoded = PropertyValue::default();
    match value {
        Value::Null => {}
        Value::Bool(bool) => encoded.boolean = Some(*bool),
        Value::Integer(integer) => encoded.integer = Some(*integer),
        Value::Double(double) => encoded.double = Some(*double),
        Value::Timestamp(micros) => {
            meaning = Some(proto::GD_WHEN);
            encoded.integer = Some(*micros);
        }
        Value::Text(text) => {
            meaning = (!indexed(value)).then_some(proto::TEXT);
            encoded.string = Some(text.clone().into());
        }
        Value::Blob(bytes) => {
            meaning = Some(proto::BLOB);
            encoded.string = Some(bytes.clone());
        }
        Value::Key(key) => {
            ensure!(key.complete(), "the key in property {name} is incomplete");
            encoded.reference = Some(reference(key));
        }
        Value::Point {
            latitude,
            longitude,
        } => {
            meaning = Some(proto::GEORSS_POINT);
            encoded.point = Some(PointValue {
                x: *latitude,
                y: *longitude,
            });
        }
        Value::Entity(inner) => {
            ensure!(depth < EMBEDDED_DEPTH_MAX, "property {name} is too deep");
            meaning = Some(proto::ENTITY_PROTO);
            encoded.string = Some(properties(inner, depth + 1)?.encode_to_vec());
        }
        // The caller has written all others one by one.
        Value::Array(_) => meaning = Some(proto::EMPTY_LIST),
    }
    Ok(Property {
        meaning,
        meaning_uri: None,
        name: name.into(),
        multiple,
        value: Some(encoded),
    })
}

fn reference(key: &Key) -> ReferenceValue {
    let step = |step: &crate::Step| {
        let (id, name) = id(&step.id);
        PathElement {
            kind: step.kind.clone().into(),
            id,
            name,
        }
    };
    ReferenceValue {
        app: key.project.clone().into(),
        path_element: key.path.iter().map(step).collect(),
        name_space: name_space(key),
        database: None,
    }
}
