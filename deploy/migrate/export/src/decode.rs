//! From an `EntityProto` to an entity, by the rules of Google's `datastore_pbs.py`, which turns
//! them into the REST API's entities. Where that one guesses, this gives a fault instead: a value
//! of two types, or text that is not UTF-8.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::ZlibDecoder;
use prost::Message;
use prost::bytes::Bytes;

use crate::fault::OWN_KEY;
use crate::proto::{self, EntityProto, Property, PropertyValue, ReferenceValue, UserValue};
use crate::{EMBEDDED_DEPTH_MAX, ENTITY_BYTES_MAX, Entity, Fault, Id, Key, Step, Value};

/// The entity of one record.
pub(crate) fn record(bytes: Vec<u8>) -> Result<Entity, Fault> {
    let proto =
        EntityProto::decode(Bytes::from(bytes)).map_err(|_| not_entity("no EntityProto"))?;
    let reference = proto.key.as_ref().ok_or_else(|| not_entity("no key"))?;
    let elements = reference.path.iter().flat_map(|path| &path.element);
    let key = key(
        Partition {
            app: &reference.app,
            name_space: reference.name_space.as_deref(),
            database: reference.database.as_deref(),
        },
        elements.map(|step| (&*step.kind, step.id, step.name.as_deref())),
        OWN_KEY,
    )?;
    let mut inflate = Inflate::new();
    let properties = properties(&proto, &mut inflate, 0)?;
    Ok(Entity { key, properties })
}

fn not_entity(why: &str) -> Fault {
    Fault::NotEntity { why: why.into() }
}

/// A property as it is gathered.
struct Gathered {
    value: Value,
    multiple: bool,
}

fn properties(
    proto: &EntityProto,
    inflate: &mut Inflate,
    depth: usize,
) -> Result<Vec<(String, Value)>, Fault> {
    let mut order: Vec<String> = vec![];
    let mut gathered: HashMap<String, Gathered> = HashMap::new();
    for bytes in proto.property.iter().chain(&proto.raw_property) {
        let property = Property::decode(bytes.clone())
            .map_err(|_| not_entity("a property that is none of an EntityProto"))?;
        let name = text(&property.name, "the name of a property")?;
        let multiple = property.multiple;
        let empty = property.meaning == Some(proto::EMPTY_LIST);
        let value = value(property, &name, inflate, depth)?;
        match gathered.get_mut(&name) {
            None => {
                let value = match multiple && !empty {
                    true => Value::Array(vec![value]),
                    false => value,
                };
                let multiple = multiple && !empty;
                order.push(name.clone());
                gathered.insert(name, Gathered { value, multiple });
            }
            Some(Gathered {
                value: Value::Array(values),
                multiple: true,
            }) if multiple && !empty => values.push(value),
            Some(_) => return Err(Fault::value(&name, "given twice, but not repeated")),
        }
    }
    let take = |name: String| {
        let found = gathered.remove(&name).expect("gathered with its name");
        (name, found.value)
    };
    Ok(order.into_iter().map(take).collect())
}

fn value(
    property: Property,
    name: &str,
    inflate: &mut Inflate,
    depth: usize,
) -> Result<Value, Fault> {
    let meaning = property.meaning.unwrap_or_default();
    let zlib = meaning == proto::ZLIB || property.meaning_uri.as_deref() == Some(proto::ZLIB_URI);
    if meaning == proto::EMPTY_LIST {
        return Ok(Value::Array(vec![]));
    }
    // What is left of the struct must be empty: a value has one type.
    let mut value = property.value.unwrap_or_default();
    let found = if let Some(integer) = value.integer.take() {
        match meaning {
            proto::GD_WHEN => Value::Timestamp(integer),
            _ => Value::Integer(integer),
        }
    } else if let Some(boolean) = value.boolean.take() {
        Value::Bool(boolean)
    } else if let Some(double) = value.double.take() {
        Value::Double(double)
    } else if let Some(point) = value.point.take() {
        Value::Point {
            latitude: point.x,
            longitude: point.y,
        }
    } else if let Some(reference) = value.reference.take() {
        Value::Key(reference_value(&reference, name)?)
    } else if let Some(user) = value.user.take() {
        Value::Entity(user_value(user, name)?)
    } else if let Some(mut bytes) = value.string.take() {
        let mut blob = matches!(meaning, proto::BLOB | proto::BYTESTRING);
        if zlib {
            bytes = inflate.inflate(&bytes, name)?;
            blob |= !matches!(meaning, proto::TEXT | proto::ENTITY_PROTO);
        }
        match meaning {
            _ if blob => Value::Blob(bytes),
            proto::ENTITY_PROTO => embedded(bytes, name, inflate, depth)?,
            _ => Value::Text(into_text(bytes, name)?),
        }
    } else {
        Value::Null
    };
    match value == PropertyValue::default() {
        true => Ok(found),
        false => Err(Fault::value(name, "a value of two types at once")),
    }
}

fn embedded(
    bytes: Vec<u8>,
    name: &str,
    inflate: &mut Inflate,
    depth: usize,
) -> Result<Value, Fault> {
    if depth == EMBEDDED_DEPTH_MAX {
        return Err(Fault::depth(name));
    }
    let proto = EntityProto::decode(Bytes::from(bytes))
        .map_err(|_| Fault::value(name, "its embedded entity is no EntityProto"))?;
    let properties = properties(&proto, inflate, depth + 1).map_err(|fault| fault.within(name))?;
    Ok(Value::Entity(properties))
}

fn reference_value(reference: &ReferenceValue, name: &str) -> Result<Key, Fault> {
    let elements = reference.path_element.iter();
    key(
        Partition {
            app: &reference.app,
            name_space: reference.name_space.as_deref(),
            database: reference.database.as_deref(),
        },
        elements.map(|step| (&*step.kind, step.id, step.name.as_deref())),
        &Fault::property(name),
    )
}

/// What a key says of where its path is.
struct Partition<'a> {
    /// The project, perhaps with `REGION~` before it and `!DATABASE` behind it.
    app: &'a [u8],
    name_space: Option<&'a [u8]>,
    database: Option<&'a [u8]>,
}

/// A key of steps, each with a kind, an id and a name. `at` is what faults call it.
fn key<'a>(
    partition: Partition<'_>,
    steps: impl Iterator<Item = (&'a [u8], Option<i64>, Option<&'a [u8]>)>,
    at: &str,
) -> Result<Key, Fault> {
    let step = |(kind, id, name): (&[u8], Option<i64>, Option<&[u8]>)| {
        Ok(Step {
            kind: text(kind, at)?,
            // As in Google's code, a name beside an id is ignored.
            id: match (id, name) {
                (None | Some(0), Some(name)) => Id::Name(text(name, at)?),
                (id, _) => Id::Number(id.unwrap_or_default()),
            },
        })
    };
    let app = text(partition.app, at)?;
    let project = app.rsplit('~').next().unwrap_or_default();
    let (project, database) = project.split_once('!').unwrap_or((project, ""));
    Fault::unless_default(database, at)?;
    Fault::unless_default(&text(partition.database.unwrap_or_default(), at)?, at)?;
    let key = Key {
        project: project.to_owned(),
        namespace: text(partition.name_space.unwrap_or_default(), at)?,
        path: steps.map(step).collect::<Result<_, Fault>>()?,
    };
    match key.complete() {
        true => Ok(key),
        false => Err(Fault::KeyIncomplete { at: at.to_owned() }),
    }
}

/// A user as `datastore_pbs.py` names its parts, and the nickname besides.
fn user_value(user: UserValue, name: &str) -> Result<Vec<(String, Value)>, Fault> {
    let mut properties = vec![];
    let mut add = |part: &str, bytes: Option<Vec<u8>>| {
        if let Some(bytes) = bytes {
            let text = into_text(bytes, name)?;
            properties.push((part.to_owned(), Value::Text(text)));
        }
        Ok::<_, Fault>(())
    };
    add("email", user.email)?;
    add("auth_domain", user.auth_domain)?;
    add("nickname", user.nickname)?;
    add("user_id", user.obfuscated_gaiaid)?;
    add("federated_identity", user.federated_identity)?;
    add("federated_provider", user.federated_provider)?;
    if let Some(id) = user.gaiaid.filter(|id| *id != 0) {
        properties.push(("internal_id".to_owned(), Value::Integer(id)));
    }
    Ok(properties)
}

fn text(bytes: &[u8], at: &str) -> Result<String, Fault> {
    into_text(bytes.to_vec(), at)
}

fn into_text(bytes: Vec<u8>, at: &str) -> Result<String, Fault> {
    String::from_utf8(bytes).map_err(|_| Fault::not_utf8(at))
}

/// Inflates values, bounded by [`ENTITY_BYTES_MAX`] for one entity together.
pub(crate) struct Inflate {
    bytes_left: usize,
}

impl Inflate {
    pub(crate) fn new() -> Inflate {
        Inflate {
            bytes_left: ENTITY_BYTES_MAX,
        }
    }

    pub(crate) fn inflate(&mut self, bytes: &[u8], name: &str) -> Result<Vec<u8>, Fault> {
        let mut inflated = vec![];
        ZlibDecoder::new(bytes)
            .take(self.bytes_left as u64 + 1)
            .read_to_end(&mut inflated)
            .map_err(|_| Fault::value(name, "said to be compressed, but not by zlib"))?;
        self.bytes_left = self
            .bytes_left
            .checked_sub(inflated.len())
            .ok_or(Fault::Oversize)?;
        Ok(inflated)
    }
}

#[cfg(test)]
mod tests;
