//! Entities like those of Dyff: seeded, of realistic kinds and sizes, each with the states of its
//! life.

use crate::json::Object;
use crate::kinds;
use crate::random::Random;

/// Entities whose lives overlap at any time.
const ALIVE_MAX: usize = 1_000;
const LABELS: [&str; 5] = ["project", "team", "phase", "owner", "dyff.io/priority"];
/// Creation times spread over this many seconds from the beginning of the year.
const CREATED_SECONDS_MAX: usize = 300 * 86_400;

/// One state of one entity: a record of the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The entity's id, 32 hex digits: the record's key.
    pub id: String,
    /// Its kind, such as `Dataset`.
    pub kind: &'static str,
    /// The whole entity in this state: the record's value.
    pub json: String,
}

/// An iterator over the states of many entities, in the order in which a topic would have them.
#[derive(Clone, Debug)]
pub struct Generator {
    random: Random,
    alive: Vec<Life>,
    entities_left: usize,
    states_left: usize,
}

#[derive(Clone, Debug)]
struct Life {
    id: String,
    kind: &'static str,
    account: String,
    /// The fields that differ from kind to kind and stay the same for life, as JSON text without
    /// braces.
    body: String,
    metadata: String,
    labels: Vec<(&'static str, Option<String>)>,
    created_seconds: usize,
    lived: usize,
    states: usize,
}

impl Generator {
    /// `states` in all of `entities`, each of which has at least one; the same seed gives the same
    /// states.
    pub fn new(seed: u64, entities: usize, states: usize) -> Generator {
        let entities = entities.clamp(states.min(1), states);
        Generator {
            random: Random::new(seed),
            alive: vec![],
            entities_left: entities,
            states_left: states,
        }
    }

    /// Brings an entity to life, with a share of the states that are not given out yet.
    fn bear(&mut self) -> Life {
        let random = &mut self.random;
        let spare = self.states_left - self.entities_left;
        let states = match self.entities_left {
            1 => self.states_left,
            entities => 1 + random.below(2 * spare / entities + 1).min(spare),
        };
        self.entities_left -= 1;
        self.states_left -= states;
        let kind = kinds::pick(random);
        let mut metadata = String::new();
        kinds::metadata(random, &mut metadata);
        Life {
            id: random.hex(32),
            kind: kind.name,
            account: format!("{:024}{}", 0, random.hex(8)),
            body: kind.body(random),
            metadata,
            labels: vec![
                ("name", Some(kinds::title(random))),
                ("project", Some(format!("p{}", random.below(40)))),
            ],
            created_seconds: random.below(CREATED_SECONDS_MAX),
            lived: 0,
            states,
        }
    }
}

impl Iterator for Generator {
    type Item = State;

    fn next(&mut self) -> Option<State> {
        while self.alive.len() < ALIVE_MAX && self.entities_left > 0 {
            let life = self.bear();
            self.alive.push(life);
        }
        if self.alive.is_empty() {
            return None;
        }
        let index = self.random.below(self.alive.len());
        let life = &mut self.alive[index];
        let state = life.live(&mut self.random);
        if life.lived == life.states {
            self.alive.swap_remove(index);
        }
        Some(state)
    }
}

impl Life {
    /// The next state.
    fn live(&mut self, random: &mut Random) -> State {
        let (status, reason) = self.status(random);
        self.change_labels(random);
        let mut json = String::with_capacity(self.body.len() + self.metadata.len() + 700);
        Object::write(&mut json, |entity| {
            entity.verbatim(&self.body);
            entity.text("id", &self.id);
            entity.text("account", &self.account);
            entity.text("schemaVersion", "0.1");
            entity.object("labels", |labels| {
                for (name, value) in &self.labels {
                    match value {
                        Some(value) => labels.text(name, value),
                        None => labels.plain(name, "null"),
                    }
                }
            });
            entity.text("creationTime", &timestamp(self.created_seconds));
            entity.text("status", status);
            match reason {
                Some(reason) => entity.text("reason", reason),
                None => entity.plain("reason", "null"),
            }
            // Later states are without it: under `$set` the document keeps the last one.
            if random.chance(30) {
                entity.text("message", &kinds::sentence(random));
            }
            if self.lived > 0 {
                entity.text(
                    "lastTransitionTime",
                    &timestamp(self.created_seconds + 7 * self.lived),
                );
            }
            entity.text("kind", self.kind);
            entity.verbatim(&self.metadata);
        });
        // A null deletes a label once; the state after is without it.
        self.labels.retain(|(_, value)| value.is_some());
        self.lived += 1;
        State {
            id: self.id.clone(),
            kind: self.kind,
            json,
        }
    }

    fn status(&self, random: &mut Random) -> (&'static str, Option<&'static str>) {
        match (self.lived, self.states - self.lived) {
            (0, _) => ("Created", None),
            (_, 1) if random.chance(10) => ("Failed", Some("Interrupted")),
            (_, 1) => ("Complete", None),
            (1, _) => ("Admitted", None),
            (2, _) => ("Admitted", Some("Unverified")),
            (lived, _) => (
                "Running",
                [None, Some("Restarted"), Some("Verified")][lived % 3],
            ),
        }
    }

    fn change_labels(&mut self, random: &mut Random) {
        if self.lived == 0 || !random.chance(25) {
            return;
        }
        let name = random.pick(&LABELS);
        let value = random
            .chance(70)
            .then(|| format!("{} {}", kinds::word(random), self.lived));
        match self.labels.iter_mut().find(|(label, _)| *label == name) {
            Some(label) => label.1 = value,
            None if value.is_some() => self.labels.push((name, value)),
            None => (),
        }
    }
}

/// A time of the year 2026, whose months all have 28 days here.
fn timestamp(seconds: usize) -> String {
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let (month, day) = (day / 28 % 12 + 1, day % 28 + 1);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("2026-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    fn parse(state: &State) -> Value {
        serde_json::from_str(&state.json).unwrap_or_else(|error| panic!("{error}: {}", state.json))
    }

    #[test]
    fn the_same_seed_gives_the_same_states_and_another_others() {
        let all: Vec<State> = Generator::new(7, 200, 1_000).collect();
        assert!(Generator::new(7, 200, 1_000).eq(all.iter().cloned()));
        assert!(
            Generator::new(8, 200, 1_000)
                .zip(&all)
                .all(|(other, state)| other.id != state.id)
        );
    }

    #[test]
    fn there_are_as_many_states_and_entities_as_asked_for() {
        for (entities, states) in [
            (1, 1),
            (1, 50),
            (200, 200),
            (200, 1_000),
            (1_000, 2_500),
            (3, 10_000),
        ] {
            let all: Vec<State> = Generator::new(1, entities, states).collect();
            assert_eq!(all.len(), states);
            assert_eq!(
                all.iter()
                    .map(|state| &state.id)
                    .collect::<BTreeSet<_>>()
                    .len(),
                entities
            );
        }
        assert_eq!(Generator::new(1, 10, 0).count(), 0);
        assert_eq!(Generator::new(1, 10, 3).count(), 3);
    }

    #[test]
    fn every_state_is_a_whole_entity_of_one_life() {
        let mut lives: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for state in Generator::new(3, 300, 1_500) {
            let entity = parse(&state);
            assert_eq!(entity["id"], state.id.as_str());
            assert_eq!(entity["kind"], state.kind);
            assert!(state.id.len() == 32 && state.id.bytes().all(|byte| byte.is_ascii_hexdigit()));
            for field in ["account", "schemaVersion", "creationTime", "status"] {
                assert!(entity[field].is_string(), "{field}");
            }
            assert!(entity["labels"].is_object() && entity["annotations"].is_array());
            lives.entry(state.id).or_default().push(entity);
        }
        for life in lives.values() {
            assert_eq!(life[0]["status"], "Created");
            assert!(life.iter().all(|state| state["kind"] == life[0]["kind"]));
            for pair in life.windows(2) {
                let deleted =
                    |label: &String| pair[0]["labels"].get(label).is_some_and(Value::is_null);
                let labels = pair[1]["labels"].as_object().unwrap();
                assert!(
                    !labels
                        .iter()
                        .any(|(label, value)| value.is_null() && deleted(label)),
                    "deleted twice"
                );
            }
            if life.len() > 1 {
                assert!(
                    ["Complete", "Failed"]
                        .contains(&life.last().unwrap()["status"].as_str().unwrap())
                );
            }
        }
        let interleaved = Generator::new(3, 300, 1_500)
            .map(|state| state.id)
            .collect::<Vec<_>>();
        assert!(
            interleaved
                .windows(2)
                .filter(|pair| pair[0] != pair[1])
                .count()
                > 1_000
        );
    }

    /// What a decoder could misread must be there in every thousand states.
    #[test]
    fn the_hard_values_are_there() {
        let states: Vec<State> = Generator::new(5, 300, 1_000).collect();
        let has = |what: fn(&Value) -> bool| {
            fn any(value: &Value, what: fn(&Value) -> bool) -> bool {
                what(value)
                    || match value {
                        Value::Array(values) => values.iter().any(|value| any(value, what)),
                        Value::Object(fields) => fields.values().any(|value| any(value, what)),
                        _ => false,
                    }
            }
            states.iter().any(|state| any(&parse(state), what))
        };
        assert!(has(|value| value
            .as_i64()
            .is_some_and(|number| number > 1 << 31)));
        assert!(has(|value| value
            .as_i64()
            .is_some_and(|number| number < -(1 << 31))));
        assert!(has(|value| value.is_f64()));
        assert!(has(|value| value
            .as_str()
            .is_some_and(|text| !text.is_ascii())));
        assert!(has(|value| value
            .as_str()
            .is_some_and(|text| text.contains('"') || text.contains('\n'))));
        assert!(has(|value| value["$oid"].is_string()));
        assert!(has(|value| value["labels"]
            .as_object()
            .is_some_and(|labels| labels.values().any(Value::is_null))));
    }

    #[test]
    fn kinds_and_sizes_are_like_the_real_ones() {
        let states: Vec<State> = Generator::new(11, 4_000, 20_000).collect();
        let kinds: BTreeSet<_> = states.iter().map(|state| state.kind).collect();
        assert!(kinds.len() >= 13, "{kinds:?}");
        let mut sizes: Vec<_> = states.iter().map(|state| state.json.len()).collect();
        sizes.sort_unstable();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((1_500..2_500).contains(&mean), "mean {mean}");
        assert!(
            (1_000..2_200).contains(&sizes[sizes.len() / 2]),
            "median {}",
            sizes[sizes.len() / 2]
        );
        assert!(
            (20_000..200_000).contains(sizes.last().unwrap()),
            "largest {:?}",
            sizes.last()
        );
    }
}
