//! What topics are filled with.

use std::fmt::Write as _;

use local_stack::random::Random;
use local_stack::{Generator, Message};

/// The leaves of one object of a nested entity.
const FAN_OUT: usize = 4;
/// A leaf, and its share of the objects around it.
const LEAF_BYTES: usize = 248;

/// What a topic is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Load {
    /// The topic's partitions.
    pub partitions: i32,
    /// Its records.
    pub states: usize,
    /// How many entities they belong to.
    pub entities: usize,
    /// What each looks like.
    pub shape: Shape,
}

/// What entities look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Realistic ones of 18 kinds, 1.9 KB on average.
    Realistic,
    /// About so many bytes in text fields, all of them top-level.
    Flat {
        /// The size of each.
        bytes: usize,
        /// Whether the ids ascend, rather than being scattered as UUIDs are.
        ids_ascend: bool,
    },
    /// About so many bytes in seven top-level fields, nested the deeper and wider the larger it is.
    Nested {
        /// The size of each.
        bytes: usize,
    },
}

impl Load {
    /// Its records, the same ones each time.
    pub fn messages(self) -> Box<dyn Iterator<Item = Message>> {
        let mut random = Random::new(1);
        let states = (0..self.states).map(move |state| (state, state % self.entities));
        match self.shape {
            Shape::Realistic => {
                let states = Generator::new(1, self.entities, self.states);
                Box::new(states.map(Message::from))
            }
            Shape::Flat { bytes, ids_ascend } => Box::new(states.map(move |(state, entity)| {
                let id = match ids_ascend {
                    true => format!("{entity:032x}"),
                    false => scattered_id(entity),
                };
                sized(&mut random, id, state, bytes)
            })),
            Shape::Nested { bytes } => Box::new(states.map(move |(state, entity)| {
                nested(&mut random, scattered_id(entity), state, bytes)
            })),
        }
    }
}

/// As UUIDs are.
pub fn scattered_id(entity: usize) -> String {
    Random::new(entity as u64).hex(32)
}

/// An entity of about `bytes`: text fields of 40 characters.
pub fn sized(random: &mut Random, id: String, state: usize, bytes: usize) -> Message {
    let mut json = head(&id, state);
    let mut field = 0;
    while json.len() + 60 < bytes {
        json += &format!(r#","field{field}":"{}""#, random.hex(40));
        field += 1;
    }
    json += "}";
    Message::new(id, json)
}

/// An entity of about `bytes`: two trees of objects, as dense at any size.
fn nested(random: &mut Random, id: String, state: usize, bytes: usize) -> Message {
    let mut json = head(&id, state);
    let leaves = bytes / LEAF_BYTES / 2;
    for name in ["spec", "outputs"] {
        json += &format!(r#","{name}":"#);
        tree(random, &mut json, leaves.max(1));
    }
    json += "}";
    Message::new(id, json)
}

/// The fields that come first, without the closing brace.
fn head(id: &str, state: usize) -> String {
    format!(
        r#"{{"id":"{id}","kind":"Dataset","account":"00000000","status":"Created","version":{state}"#
    )
}

/// An object of so many leaves, at least one, at the ends of branches of equal length.
fn tree(random: &mut Random, json: &mut String, leaves: usize) {
    if leaves == 1 {
        return leaf(random, json);
    }
    *json += &format!(r#"{{"name":"{}","parts":["#, random.hex(16));
    let branches = leaves.min(FAN_OUT);
    for branch in 0..branches {
        if branch > 0 {
            json.push(',');
        }
        let share = leaves * (branch + 1) / branches - leaves * branch / branches;
        tree(random, json, share);
    }
    *json += "]}";
}

/// Each type of value once, some of them nested.
fn leaf(random: &mut Random, json: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(
        json,
        r#"{{"path":"/{}/{}","digest":"{}","size":{},"ratio":{:.6},"active":{},"note":null,"tags":["{}","{}"],"labels":{{"team":"{}"}}}}"#,
        random.hex(8),
        random.hex(16),
        random.hex(64),
        random.below(1 << 30),
        random.float(1.0),
        random.chance(50),
        random.hex(8),
        random.hex(8),
        random.hex(8),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(shape: Shape) -> Vec<serde_json::Value> {
        let load = Load {
            partitions: 1,
            states: 3,
            entities: 2,
            shape,
        };
        let values = load.messages().filter_map(|message| message.value);
        values
            .map(|value| serde_json::from_slice(&value).unwrap())
            .collect()
    }

    fn depth(value: &serde_json::Value) -> usize {
        let deepest = |values: &mut dyn Iterator<Item = &serde_json::Value>| {
            1 + values.map(depth).max().unwrap_or(0)
        };
        match value {
            serde_json::Value::Array(values) => deepest(&mut values.iter()),
            serde_json::Value::Object(values) => deepest(&mut values.values()),
            _ => 0,
        }
    }

    #[test]
    fn nested_entities_have_few_names_and_the_size_asked_for() {
        for (bytes, levels) in [(20_000, 8), (200_000, 12), (1_000_000, 14)] {
            for value in values(Shape::Nested { bytes }) {
                let size = value.to_string().len();
                assert!(size.abs_diff(bytes) * 20 < bytes, "{size} of {bytes}");
                assert_eq!(value.as_object().unwrap().len(), 7);
                assert!(depth(&value).abs_diff(levels) <= 2, "{}", depth(&value));
            }
        }
    }

    #[test]
    fn the_states_of_an_entity_have_its_id_and_a_version_each() {
        for shape in [
            Shape::Flat {
                bytes: 200,
                ids_ascend: false,
            },
            Shape::Nested { bytes: 2_000 },
        ] {
            let values = values(shape);
            assert_eq!(values[0]["id"], values[2]["id"]);
            assert_ne!(values[0]["id"], values[1]["id"]);
            assert_eq!(
                [0, 1, 2].map(|n| values[n]["version"].as_u64()),
                [0, 1, 2].map(Some)
            );
        }
    }
}
