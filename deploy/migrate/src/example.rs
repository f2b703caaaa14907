//! An old datastore that never was: some accounts, and entities of the page's kinds that refer to
//! each other, with every type of value. For the worked example of docs/migration.md, and for tests.

use datastore_export::{Entity, Id, Key, Step, Value};

/// Accounts that own the entities: a named one, and numbers as Datastore chose them.
const ACCOUNTS: [Option<i64>; 3] = [
    None,
    Some(5_640_000_000_000_001),
    Some(5_640_000_000_000_002),
];
const KINDS: [&str; 6] = [
    "Dataset",
    "Model",
    "InferenceService",
    "Evaluation",
    "Audit",
    "Report",
];
const FIRST_ID: i64 = 5_634_161_670_000_000;
/// 2023-01-02T03:04:05Z, in microseconds.
const BEGAN: i64 = 1_672_628_645_000_000;

/// The accounts, each with an API key, and then `count` entities.
pub fn entities(count: u64) -> impl Iterator<Item = Entity> {
    accounts().chain((0..count).map(entity))
}

fn account_key(index: u64) -> Key {
    let id = match ACCOUNTS[index as usize % ACCOUNTS.len()] {
        None => Id::Name("public".to_owned()),
        Some(number) => Id::Number(number),
    };
    Key {
        project: "dyff".to_owned(),
        namespace: String::new(),
        path: vec![Step {
            kind: "Account".to_owned(),
            id,
        }],
    }
}

fn key(index: u64) -> Key {
    let mut key = account_key(index / KINDS.len() as u64);
    key.path.push(Step {
        kind: KINDS[index as usize % KINDS.len()].to_owned(),
        id: Id::Number(FIRST_ID + index as i64),
    });
    key
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn named(members: Vec<(&str, Value)>) -> Vec<(String, Value)> {
    let members = members.into_iter();
    members
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn accounts() -> impl Iterator<Item = Entity> {
    (0..ACCOUNTS.len() as u64).map(|index| {
        let key = account_key(index);
        let id = key.id().expect("a step").to_string();
        let api_key = named(vec![
            ("id", text(format!("key-{index}"))),
            ("subject", text(format!("Account/{id}"))),
            ("created", Value::Timestamp(BEGAN)),
            ("expires", Value::Timestamp(BEGAN + 31_536_000_000_000)),
            ("secret", text(format!("$2b$12$not.a.real.hash.{index}"))),
            ("grants", Value::Array(vec![])),
        ]);
        Entity {
            key,
            properties: named(vec![
                ("name", text(format!("account-{id}"))),
                ("creationTime", Value::Timestamp(BEGAN + 123_456)),
                ("apiKeys", Value::Array(vec![Value::Entity(api_key)])),
            ]),
        }
    })
}

/// `account/id` of the entity of this kind in the same group of six.
fn sibling(index: u64, kind: usize) -> Value {
    let sibling = key(index - index % KINDS.len() as u64 + kind as u64);
    let [account, own] = &*sibling.path else {
        unreachable!("an account and an entity")
    };
    text(format!("{}/{}", account.id, own.id))
}

fn entity(index: u64) -> Entity {
    let mut properties = vec![
        ("status", text("Complete")),
        (
            "creationTime",
            Value::Timestamp(BEGAN + index as i64 * 1_000_001),
        ),
        ("name", text(format!("entity {index} \u{1f9ea} \"quoted\""))),
    ];
    properties.extend(match KINDS[index as usize % KINDS.len()] {
        "Dataset" => vec![
            ("rows", Value::Integer(i64::MAX - index as i64)),
            ("digest", Value::Blob(index.to_be_bytes().to_vec())),
            ("views", Value::Array(vec![])),
            (
                "where",
                Value::Point {
                    latitude: 52.5,
                    longitude: -0.25,
                },
            ),
        ],
        "Model" => vec![
            ("size", Value::Double(index as f64 / 3.0)),
            ("isPublic", Value::Bool(index.is_multiple_of(2))),
            ("card", text("x".repeat(2_000))),
            (
                "source",
                Value::Entity(named(vec![
                    ("kind", text("HuggingFace")),
                    ("revision", Value::Null),
                    ("files", Value::Array(vec![text("a"), text("b")])),
                ])),
            ),
        ],
        "InferenceService" => vec![("model", sibling(index, 1))],
        "Evaluation" => vec![
            ("dataset", sibling(index, 0)),
            ("inferenceService", sibling(index, 2)),
            ("replications", Value::Integer(index as i64 % 7)),
        ],
        "Audit" => vec![
            ("inferenceService", sibling(index, 2)),
            ("reason", Value::Null),
        ],
        _ => vec![
            ("evaluation", sibling(index, 3)),
            ("dataset", sibling(index, 0)),
            ("inferenceService", sibling(index, 2)),
            ("model", sibling(index, 1)),
        ],
    });
    Entity {
        key: key(index),
        properties: named(properties),
    }
}
