//! Plain entities: `key` and properties side by side, with JSON's own types.

use serde_json::value::RawValue;

use crate::fault::OWN_KEY;
use crate::json::{Json, Members};
use crate::rest::step;
use crate::{EMBEDDED_DEPTH_MAX, Entity, Fault, Key, Value};

/// The entity of a line's members, without its key, which was taken out of them.
pub(crate) fn entity(members: Members<'_>, key: Key) -> Result<Entity, Fault> {
    let properties = properties(members, 0)?;
    Ok(Entity { key, properties })
}

/// A key of text such as `Account:public/Evaluation:5634161670881280`.
pub(crate) fn key_of_text(text: &str) -> Result<Key, Fault> {
    let key: Key = text.parse().map_err(|why| not_key(&format!("{why}")))?;
    complete(key)
}

/// A key that is a list of `{kind, id}` or `{kind, name}`.
pub(crate) fn key_of_list(list: Vec<&RawValue>) -> Result<Key, Fault> {
    let steps = list.into_iter().map(step);
    complete(Key {
        project: String::new(),
        namespace: String::new(),
        path: steps.collect::<Result<_, _>>().map_err(not_key)?,
    })
}

fn not_key(why: &str) -> Fault {
    Fault::NotEntity {
        why: format!("its key: {why}"),
    }
}

fn complete(key: Key) -> Result<Key, Fault> {
    match key.complete() {
        true => Ok(key),
        false => Err(Fault::KeyIncomplete {
            at: OWN_KEY.to_owned(),
        }),
    }
}

fn properties(members: Members<'_>, depth: usize) -> Result<Vec<(String, Value)>, Fault> {
    let property = |(name, raw): (String, &RawValue)| {
        let value = value(raw, &name, depth)?;
        Ok((name, value))
    };
    members.0.into_iter().map(property).collect()
}

fn value(raw: &RawValue, name: &str, depth: usize) -> Result<Value, Fault> {
    let json = Json::parse(raw).map_err(|why| Fault::value(name, why))?;
    if depth == EMBEDDED_DEPTH_MAX && matches!(json, Json::Array(_) | Json::Object(_)) {
        return Err(Fault::depth(name));
    }
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(bool),
        Json::Integer(integer) => Value::Integer(integer),
        Json::Double(double) => Value::Double(double),
        Json::Text(text) => Value::Text(text),
        Json::Array(list) => {
            let values = list.into_iter().map(|raw| value(raw, name, depth + 1));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Json::Object(members) => {
            let properties = properties(members, depth + 1);
            Value::Entity(properties.map_err(|fault| fault.within(name))?)
        }
    })
}
