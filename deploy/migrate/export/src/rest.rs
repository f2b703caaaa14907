//! The JSON of Datastore's REST API: `v1.Entity`, `v1.Key` and `v1.Value`.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use jiff::civil::{DateTime, date};
use serde_json::value::RawValue;

use crate::decode::Inflate;
use crate::fault::OWN_KEY;
use crate::json::{Json, Members, Why};
use crate::{EMBEDDED_DEPTH_MAX, Entity, Fault, Id, Key, Step, Value, proto};

const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

/// The entity of a line's members, without its key, which was taken out of them.
pub(crate) fn entity(members: Members<'_>, key: Members<'_>) -> Result<Entity, Fault> {
    let because = |why: Why| not_entity(&format!("its key: {why}"));
    let key = self::key(key, OWN_KEY, because)?;
    let mut inflate = Inflate::new();
    let properties = properties(members, &mut inflate, 0).map_err(|fault| match fault {
        InEntity::Shape(why) => not_entity(why),
        InEntity::Fault(fault) => fault,
    })?;
    Ok(Entity { key, properties })
}

fn not_entity(why: &str) -> Fault {
    Fault::NotEntity { why: why.into() }
}

/// What is wrong with an entity: its own shape, or something of a property.
enum InEntity {
    Shape(Why),
    Fault(Fault),
}

impl From<Why> for InEntity {
    fn from(why: Why) -> InEntity {
        InEntity::Shape(why)
    }
}

impl From<Fault> for InEntity {
    fn from(fault: Fault) -> InEntity {
        InEntity::Fault(fault)
    }
}

fn properties(
    mut members: Members<'_>,
    inflate: &mut Inflate,
    depth: usize,
) -> Result<Vec<(String, Value)>, InEntity> {
    let properties = match members.take("properties").map(Json::parse).transpose()? {
        None => vec![],
        Some(Json::Object(properties)) => properties.0,
        Some(_) => return Err("properties that are no object".into()),
    };
    if !members.0.is_empty() {
        return Err("it has members beside key and properties".into());
    }
    let mut read = Vec::with_capacity(properties.len());
    for (name, raw) in properties {
        let value = value(raw, &name, inflate, depth)?;
        read.push((name, value));
    }
    Ok(read)
}

/// A `v1.Value`. Of the members that a value may have besides its type, `meaning` says whether it
/// is compressed, and `excludeFromIndexes` says nothing of the value.
fn value(raw: &RawValue, name: &str, inflate: &mut Inflate, depth: usize) -> Result<Value, Fault> {
    let because = |why: Why| Fault::value(name, why);
    let Json::Object(mut members) = Json::parse(raw).map_err(because)? else {
        return Err(because("its value is no object of a type and a value"));
    };
    members.take("excludeFromIndexes");
    let meaning = members
        .take("meaning")
        .map(Json::parse)
        .transpose()
        .map_err(because)?;
    let zlib = match meaning {
        Some(Json::Integer(meaning)) => meaning == i64::from(proto::ZLIB),
        _ => false,
    };
    let mut members = members.0.into_iter();
    let Some((kind, raw)) = members.next() else {
        return Ok(Value::Null);
    };
    if members.next().is_some() {
        return Err(because("a value of two types at once"));
    }
    let json = Json::parse(raw).map_err(because)?;
    if matches!(kind.as_str(), "arrayValue" | "entityValue") && depth == EMBEDDED_DEPTH_MAX {
        return Err(Fault::depth(name));
    }
    match (kind.as_str(), json) {
        ("keyValue", Json::Object(members)) => {
            let key = key(members, &Fault::property(name), because)?;
            Ok(Value::Key(key))
        }
        ("blobValue", Json::Text(text)) => {
            let bytes = base64(&text).map_err(because)?;
            Ok(Value::Blob(match zlib {
                true => inflate.inflate(&bytes, name)?,
                false => bytes,
            }))
        }
        ("entityValue", Json::Object(members)) => {
            let properties = embedded(members, name, inflate, depth)?;
            Ok(Value::Entity(properties))
        }
        ("arrayValue", Json::Object(members)) => {
            let elements = elements(members).map_err(because)?.into_iter();
            let values = elements.map(|raw| value(raw, name, inflate, depth + 1));
            Ok(Value::Array(values.collect::<Result<_, _>>()?))
        }
        (kind, json) => scalar(kind, json).map_err(because),
    }
}

/// A value that neither holds others nor needs the name of its property.
fn scalar(kind: &str, json: Json<'_>) -> Result<Value, Why> {
    Ok(match (kind, json) {
        ("nullValue", _) => Value::Null,
        ("booleanValue", Json::Bool(bool)) => Value::Bool(bool),
        ("integerValue", Json::Integer(integer)) => Value::Integer(integer),
        ("integerValue", Json::Text(text)) => {
            Value::Integer(text.parse().map_err(|_| "no whole number of 64 bits")?)
        }
        ("doubleValue", json) => Value::Double(double(json)?),
        ("timestampValue", Json::Text(text)) => Value::Timestamp(timestamp(&text)?),
        ("stringValue", Json::Text(text)) => Value::Text(text),
        ("geoPointValue", Json::Object(members)) => point(members)?,
        _ => return Err("a type that no value of v1.Value has"),
    })
}

fn embedded(
    mut members: Members<'_>,
    name: &str,
    inflate: &mut Inflate,
    depth: usize,
) -> Result<Vec<(String, Value)>, Fault> {
    members.take("key");
    properties(members, inflate, depth + 1).map_err(|fault| match fault {
        InEntity::Shape(why) => Fault::value(name, why),
        InEntity::Fault(fault) => fault.within(name),
    })
}

fn elements(mut members: Members<'_>) -> Result<Vec<&RawValue>, Why> {
    match members.take("values").map(Json::parse).transpose()? {
        None => Ok(vec![]),
        Some(Json::Array(values)) => Ok(values),
        Some(_) => Err("a list whose values are no list"),
    }
}

fn double(json: Json<'_>) -> Result<f64, Why> {
    match json {
        Json::Double(double) => Ok(double),
        // What JSON writes without a point may be a number all the same.
        #[expect(clippy::cast_precision_loss, reason = "a double is what it says it is")]
        Json::Integer(integer) => Ok(integer as f64),
        Json::Text(text) => match text.as_str() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            text => text.parse().map_err(|_| "no number"),
        },
        _ => Err("no number"),
    }
}

/// Microseconds since 1970. What is finer is cut off towards the past, as Datastore does.
fn timestamp(text: &str) -> Result<i64, Why> {
    let why = "no time of RFC 3339";
    let nanos = match text.parse::<Timestamp>() {
        Ok(time) => time.as_nanosecond(),
        // A timestamp ends a day before the year does, for the sake of all zones.
        Err(_) => {
            let time = text.strip_suffix(['Z', 'z']).ok_or(why)?;
            let time: DateTime = time.parse().map_err(|_| why)?;
            time.duration_since(EPOCH).as_nanos()
        }
    };
    i64::try_from(nanos.div_euclid(1_000)).map_err(|_| "a time beyond 64 bits of microseconds")
}

/// Both alphabets, padded or not, as proto3's JSON has it.
fn base64(text: &str) -> Result<Vec<u8>, Why> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = match text.contains(['-', '_']) {
        true => &URL_SAFE,
        false => &STANDARD,
    };
    let engine = GeneralPurpose::new(alphabet, config);
    engine.decode(text).map_err(|_| "bytes that are no base64")
}

/// A `LatLng`; what is not there is 0, as in all of proto3.
fn point(mut members: Members<'_>) -> Result<Value, Why> {
    let mut degrees = |name| {
        let json = members.take(name).map(Json::parse).transpose()?;
        json.map_or(Ok(0.0), double)
    };
    Ok(Value::Point {
        latitude: degrees("latitude")?,
        longitude: degrees("longitude")?,
    })
}

/// A `v1.Key` of the default database. `at` is what faults call it, but for those of its shape.
fn key(members: Members<'_>, at: &str, because: impl Fn(Why) -> Fault) -> Result<Key, Fault> {
    let (key, database) = parts(members).map_err(because)?;
    Fault::unless_default(&database, at)?;
    match key.complete() {
        true => Ok(key),
        false => Err(Fault::KeyIncomplete { at: at.to_owned() }),
    }
}

/// The key, which may be incomplete, and its database.
fn parts(mut members: Members<'_>) -> Result<(Key, String), Why> {
    let mut partition = match members.take("partitionId").map(Json::parse).transpose()? {
        None | Some(Json::Null) => None,
        Some(Json::Object(partition)) => Some(partition),
        Some(_) => return Err("a partition that is no object"),
    };
    let mut part = |name| {
        let raw = partition.as_mut().and_then(|members| members.take(name));
        match raw.map(Json::parse).transpose()? {
            None => Ok(String::new()),
            Some(Json::Text(text)) => Ok(text),
            Some(_) => Err("a partition whose parts are no text"),
        }
    };
    let project = part("projectId")?;
    let namespace = part("namespaceId")?;
    let database = part("databaseId")?;
    let path = match members.take("path").map(Json::parse).transpose()? {
        None => vec![],
        Some(Json::Array(steps)) => steps,
        Some(_) => return Err("a path that is no list"),
    };
    let key = Key {
        project,
        namespace,
        path: path.into_iter().map(step).collect::<Result<_, _>>()?,
    };
    Ok((key, database))
}

/// A step of a path; without an id or a name it has the id 0.
pub(crate) fn step(raw: &RawValue) -> Result<Step, Why> {
    let Json::Object(mut members) = Json::parse(raw)? else {
        return Err("a step that is no object");
    };
    let mut take = |name| members.take(name).map(Json::parse).transpose();
    let kind = match take("kind")? {
        Some(Json::Text(kind)) => kind,
        Some(_) => return Err("a kind that is no text"),
        None => String::new(),
    };
    let id = match (take("id")?, take("name")?) {
        (Some(Json::Integer(id)), None) => Id::Number(id),
        (Some(Json::Text(id)), None) => {
            Id::Number(id.parse().map_err(|_| "an id that is no number")?)
        }
        (None, Some(Json::Text(name))) => Id::Name(name),
        (None, None) => Id::Number(0),
        (Some(_), Some(_)) => return Err("a step with both an id and a name"),
        _ => return Err("an id that is no number, or a name that is no text"),
    };
    match members.0.is_empty() {
        true => Ok(Step { kind, id }),
        false => Err("a step with members beside kind, id and name"),
    }
}

#[cfg(test)]
mod tests;
