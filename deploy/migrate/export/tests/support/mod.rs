//! Random entities, of every type of value.

use datastore_export::{Entity, Id, Key, Step, Value};
use proptest::prelude::*;

/// A key that is complete.
pub fn key() -> impl Strategy<Value = Key> {
    let id = prop_oneof![
        any::<i64>()
            .prop_filter("0 is no id", |id| *id != 0)
            .prop_map(Id::Number),
        "\\PC{1,5}".prop_map(Id::Name),
    ];
    let step = ("\\PC{1,5}", id).prop_map(|(kind, id)| Step { kind, id });
    let path = prop::collection::vec(step, 1..4);
    ("[a-z]{1,6}", "[a-z]{0,3}", path).prop_map(|(project, namespace, path)| Key {
        project,
        namespace,
        path,
    })
}

/// Any value. NaN is left out, as it equals nothing.
pub fn value() -> impl Strategy<Value = Value> {
    let double =
        || prop::num::f64::ANY.prop_filter("NaN equals nothing", |double| !double.is_nan());
    let one = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        double().prop_map(Value::Double),
        any::<i64>().prop_map(Value::Timestamp),
        "\\PC{0,9}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Value::Blob),
        key().prop_map(Value::Key),
        (double(), double()).prop_map(|(latitude, longitude)| Value::Point {
            latitude,
            longitude
        }),
    ];
    one.prop_recursive(4, 24, 4, |inner| {
        let list = inner.clone().prop_filter("no list in a list", |value| {
            !matches!(value, Value::Array(_))
        });
        prop_oneof![
            properties(inner).prop_map(Value::Entity),
            prop::collection::vec(list, 0..4).prop_map(Value::Array),
        ]
    })
}

/// Properties, each name once, in the order of an export: the indexed ones first.
fn properties(
    value: impl Strategy<Value = Value> + 'static,
) -> impl Strategy<Value = Vec<(String, Value)>> {
    prop::collection::btree_map("\\PC{1,4}", value, 0..5).prop_map(|properties| {
        let mut properties: Vec<(String, Value)> = properties.into_iter().collect();
        properties.sort_by_key(|(_, value)| !indexed(value));
        properties
    })
}

fn indexed(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.len() <= 1_500,
        Value::Blob(_) | Value::Entity(_) => false,
        Value::Array(values) => values.iter().all(indexed),
        _ => true,
    }
}

/// An entity, with a blob of up to `padding_bytes_max` bytes as its last property.
pub fn entity(padding_bytes_max: usize) -> impl Strategy<Value = Entity> {
    let padding = prop_oneof![0..50_usize, 0..=padding_bytes_max];
    (key(), properties(value()), padding).prop_map(|(key, mut properties, padding)| {
        properties.push(("its padding".into(), Value::Blob(vec![7; padding])));
        Entity { key, properties }
    })
}
