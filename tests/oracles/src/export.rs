//! What must hold of the reader of Datastore exports, whatever the bytes.

use datastore_export::write::encode;
use datastore_export::{Entity, Value, decode_line, decode_record, read_log};

/// Panics unless: an entity that is read from a record is read again from what it is written as; a
/// line is read or refused; and a log is read to its end, with an entity or a fault for each piece.
///
/// The first byte chooses which of them the rest is.
pub fn holds(input: &[u8]) {
    let Some((which, bytes)) = input.split_first() else {
        return;
    };
    match which % 3 {
        0 => {
            if let Ok(entity) = decode_record(bytes) {
                is_read_again(&entity);
            }
        }
        1 => drop(decode_line(bytes)),
        _ => {
            // Each item takes bytes of the log, a fragment's header at the least, but for the last.
            let items_max = bytes.len() + 1;
            let items = read_log(bytes, "-").take(items_max + 1).count();
            assert!(items <= items_max, "{items} of {} bytes", bytes.len());
        }
    }
}

/// As text, since NaN differs from itself.
fn is_read_again(entity: &Entity) {
    // What may be read may be more than may be written, such as an array in an array.
    if let Ok(record) = encode(entity) {
        let again = decode_record(&record).expect("what we write is read");
        assert_eq!(told(&again), told(entity));
    }
}

/// Which properties are indexed is not kept, and at each depth those stand before the others: without
/// their order.
fn told(entity: &Entity) -> (String, String) {
    (format!("{:?}", entity.key), properties(&entity.properties))
}

fn properties(all: &[(String, Value)]) -> String {
    let one = |(name, value): &(String, Value)| format!("{name:?}: {}", of_value(value));
    let mut properties: Vec<String> = all.iter().map(one).collect();
    properties.sort();
    format!("{{{}}}", properties.join(", "))
}

fn of_value(value: &Value) -> String {
    match value {
        Value::Entity(inner) => properties(inner),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(of_value).collect();
            format!("[{}]", values.join(", "))
        }
        plain => format!("{plain:?}"),
    }
}
