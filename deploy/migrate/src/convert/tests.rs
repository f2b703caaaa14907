use std::collections::HashMap;

use super::*;
use crate::mapping::BUILTIN;

struct Known(HashMap<Fingerprint, NewId>, Vec<Fingerprint>);

impl Ids for Known {
    fn id(&self, path: Fingerprint) -> Option<NewId> {
        self.0.get(&path).copied()
    }

    fn looks_like_one(&self, value: Fingerprint) -> bool {
        self.1.contains(&value)
    }
}

const OWN: &str = "Account:7/Evaluation:1";

fn known(mapping: &Mapping) -> Known {
    let paths = [
        "Account:public",
        "Account:7",
        OWN,
        "Account:7/Dataset:5",
        "Account:public/Dataset:6",
        "Account:7/Dataset:8",
        "Account:public/Dataset:8",
        "Account:public/InferenceService:5634161670881280",
    ];
    let keys = paths.map(|path| path.parse::<Key>().unwrap());
    let ids = paths.map(|path| (Fingerprint::of(path), NewId::of("seed", path)));
    Known(
        ids.into_iter().collect(),
        keys.iter().flat_map(|key| shapes(key, mapping)).collect(),
    )
}

fn mapping(of_evaluations: &str) -> Mapping {
    let accounts = &BUILTIN[BUILTIN.find("[accounts]").unwrap()..];
    let accounts = accounts.replace("# key_kind = ", "key_kind = ");
    Mapping::parse(&format!(
        "account_kind = 'Account'\nshared_accounts = ['public']\n[kinds.Dataset]\n\
         [kinds.InferenceService]\n[kinds.Evaluation]\n{of_evaluations}\n{accounts}"
    ))
    .unwrap()
}

fn outcome(of_evaluations: &str, properties: &[(&str, Value)]) -> Result<Converted, Rejection> {
    let mapping = mapping(of_evaluations);
    let entity = Entity {
        key: OWN.parse().unwrap(),
        properties: (properties.iter())
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    };
    match convert(&entity, &mapping, &known(&mapping))? {
        Outcome::Moved(converted) => Ok(*converted),
        Outcome::LeftOut(why) => panic!("{why}"),
    }
}

/// The one property `x`, as JSON.
fn one(value: Value) -> Result<String, Rejection> {
    let converted = outcome("", &[("x", value)])?;
    let text = serde_json::to_string(&converted.json).unwrap();
    let id = converted.id;
    let head = format!(r#"{{"id":"{id}","kind":"Evaluation","x":"#);
    Ok(text
        .strip_prefix(&head)
        .unwrap()
        .strip_suffix('}')
        .unwrap()
        .to_owned())
}

#[test]
fn each_type_of_value_has_one_form_in_json() {
    let text = |text: &str| Value::Text(text.to_owned());
    for (value, json) in [
        (Value::Null, "null"),
        (Value::Bool(true), "true"),
        (Value::Integer(i64::MIN), "-9223372036854775808"),
        (Value::Integer(i64::MAX), "9223372036854775807"),
        (Value::Double(0.1), "0.1"),
        (Value::Double(-0.0), "-0.0"),
        (Value::Timestamp(0), r#""1970-01-01T00:00:00+00:00""#),
        (
            Value::Timestamp(1_672_628_645_678_900),
            r#""2023-01-02T03:04:05.678900+00:00""#,
        ),
        (
            Value::Timestamp(253_402_300_799_999_999),
            r#""9999-12-31T23:59:59.999999+00:00""#,
        ),
        (
            Value::Timestamp(-1),
            r#""1969-12-31T23:59:59.999999+00:00""#,
        ),
        (text("a\"\u{1f600}\0"), "\"a\\\"\u{1f600}\\u0000\""),
        (Value::Blob(vec![0xff, 0]), r#""/wA=""#),
        (
            Value::Point {
                latitude: 52.5,
                longitude: -0.25,
            },
            r#"{"latitude":52.5,"longitude":-0.25}"#,
        ),
        (Value::Array(vec![]), "[]"),
        (
            Value::Array(vec![Value::Null, Value::Integer(1), text("")]),
            r#"[null,1,""]"#,
        ),
        (
            Value::Entity(vec![
                ("z".to_owned(), Value::Integer(1)),
                ("a".to_owned(), Value::Entity(vec![])),
            ]),
            r#"{"z":1,"a":{}}"#,
        ),
        (
            text(&"x".repeat(2_000)),
            &format!("\"{}\"", "x".repeat(2_000)),
        ),
    ] {
        assert_eq!(one(value.clone()).unwrap(), json, "{value:?}");
    }
}

#[test]
fn what_json_lacks_is_rejected_or_null_as_the_mapping_says() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let value = Value::Double(value);
        let rejection = Rejection::NotANumber("Evaluation.x".to_owned());
        assert_eq!(one(value.clone()).unwrap_err(), rejection);
        let nulled = outcome("not_a_number = 'null'", &[("x", value)]).unwrap();
        let Json::Object(members) = nulled.json else {
            panic!("an object")
        };
        assert_eq!(members[2].1, Json::Null);
    }
    let point = Value::Point {
        latitude: f64::NAN,
        longitude: 0.0,
    };
    assert!(matches!(one(point), Err(Rejection::NotANumber(_))));
    for microseconds in [
        i64::MAX,
        i64::MIN,
        253_402_300_800_000_000,
        -62_135_596_800_000_001,
    ] {
        let rejection = one(Value::Timestamp(microseconds)).unwrap_err();
        assert!(matches!(rejection, Rejection::TimeOutOfRange(_)));
    }
}

#[test]
fn a_declared_reference_gets_the_new_id_in_each_form() {
    let by = |form: &str| format!("references = {{ d = {{ kind = 'Dataset', form = '{form}' }} }}");
    let id = |path: &str| Json::Text(NewId::of("seed", path).to_string());
    let key = |path: &str| Value::Key(path.parse().unwrap());
    let text = |text: &str| Value::Text(text.to_owned());
    let found = |form: &str, value: Value| {
        let Json::Object(members) = outcome(&by(form), &[("d", value)])?.json else {
            panic!("an object")
        };
        Ok(members[2].1.clone())
    };
    assert_eq!(
        found("key", key("Account:7/Dataset:5")),
        Ok(id("Account:7/Dataset:5"))
    );
    assert_eq!(
        found("integer", Value::Integer(5)),
        Ok(id("Account:7/Dataset:5"))
    );
    assert_eq!(
        found("integer", Value::Integer(6)),
        Ok(id("Account:public/Dataset:6"))
    );
    assert_eq!(
        found("account/id", text("public/6")),
        Ok(id("Account:public/Dataset:6"))
    );
    assert_eq!(found("key", Value::Null), Ok(Json::Null));
    assert_eq!(
        found(
            "integer",
            Value::Array(vec![Value::Integer(5), Value::Null])
        ),
        Ok(Json::Array(vec![id("Account:7/Dataset:5"), Json::Null]))
    );
    let named = "Evaluation.d".to_owned();
    assert_eq!(
        found("integer", Value::Integer(8)),
        Err(Rejection::Ambiguous(named.clone()))
    );
    assert_eq!(
        found("integer", Value::Integer(9)),
        Err(Rejection::Dangling(
            named.clone(),
            "Account:7/Dataset:9".to_owned()
        ))
    );
    for (form, value) in [
        ("integer", text("5")),
        ("account/id", text("5")),
        ("account/id", text("gs://public/6")),
        ("account/id", Value::Integer(5)),
        ("key", key("Account:7/Evaluation:1")),
    ] {
        let other = found(form, value);
        assert!(matches!(other, Err(Rejection::OtherForm(..))), "{other:?}");
    }
}

#[test]
fn what_an_entity_refers_to_is_noted_with_its_new_id() {
    for (form, value, path) in [
        ("integer", Value::Integer(6), "Account:public/Dataset:6"),
        (
            "account/id",
            Value::Array(vec![Value::Text("7/5".to_owned()), Value::Null]),
            "Account:7/Dataset:5",
        ),
        (
            "key",
            Value::Key("Account:7/Dataset:8".parse().unwrap()),
            "Account:7/Dataset:8",
        ),
    ] {
        let kind = format!(
            "account = 'account'\nreferences = {{ d = {{ kind = 'Dataset', form = '{form}' }} }}"
        );
        let converted = outcome(&kind, &[("d", value)]).unwrap();
        let refers = Refers {
            at: "Evaluation.d".to_owned(),
            path: path.to_owned(),
            kind: "Dataset".to_owned(),
            id: NewId::of("seed", path),
        };
        // The account is no reference of the mapping: it is moved by another command.
        assert_eq!(converted.references, [refers]);
    }
}

#[test]
fn a_key_of_another_namespace_refers_to_none_of_these() {
    let references = "references = { d = { kind = 'Dataset', form = 'key' } }";
    let mut key: Key = "Account:7/Dataset:5".parse().unwrap();
    key.namespace = "eu".to_owned();
    let refused = outcome(references, &[("d", Value::Key(key))]);
    assert_eq!(
        refused,
        Err(Rejection::Elsewhere("Evaluation.d".to_owned()))
    );
}

/// The name of an API key may be its secret.
#[test]
fn what_lies_below_an_api_key_is_refused_without_its_path() {
    let references = "references = { d = { kind = 'Dataset', form = 'key' } }";
    let key = "Account:7/APIKey:SECRET/Dataset:5".parse().unwrap();
    let refused = outcome(references, &[("d", Value::Key(key))]).unwrap_err();
    assert_eq!(refused, Rejection::BelowApiKey("Evaluation.d".to_owned()));
    assert!(!refused.to_string().contains("SECRET"));
}

/// The kind of API keys may be misspelt in the mapping.
#[test]
fn what_lies_below_a_kind_without_ids_is_refused_without_its_path() {
    let references = "references = { d = { kind = 'Dataset', form = 'key' } }";
    let key: Key = "Account:7/Token:SECRET/Dataset:5".parse().unwrap();
    let refused = outcome(references, &[("d", Value::Key(key.clone()))]).unwrap_err();
    assert!(matches!(refused, Rejection::Dangling(..)), "{refused}");
    assert!(!refused.to_string().contains("SECRET"), "{refused}");
    let kept = format!(
        "{}, dangling = 'null' }} }}",
        &references[..references.len() - 4]
    );
    assert!(outcome(&kept, &[("d", Value::Key(key.clone()))]).is_ok());

    let mapping = mapping("");
    let properties = Vec::new();
    let refused = convert(&Entity { key, properties }, &mapping, &known(&mapping));
    assert_eq!(refused, Err(Rejection::BelowNoId));
}

/// It has an id, and is moved by another command: no document of an entity is looked for.
#[test]
fn a_reference_to_an_account_gets_its_id_and_is_not_followed() {
    for (form, value) in [
        ("key", Value::Key("Account:7".parse().unwrap())),
        ("integer", Value::Integer(7)),
    ] {
        let references = format!(
            "references = {{ owner = {{ kind = 'Account', form = '{form}' }} }}\n\
             [kinds.Account]\nleft_out = 'moved by accounts'"
        );
        let converted = outcome(&references, &[("owner", value)]).unwrap();
        let Json::Object(members) = converted.json else {
            panic!("an object")
        };
        let id = NewId::of("seed", "Account:7").to_string();
        assert_eq!(members[2].1, Json::Text(id), "{form}");
        assert_eq!(converted.references, [], "{form}");
        let unknown = outcome(&references, &[("owner", Value::Integer(8))]);
        let path = "Account:8".to_owned();
        let expected = match form {
            "integer" => Rejection::Dangling("Evaluation.owner".to_owned(), path),
            _ => Rejection::OtherForm("Evaluation.owner".to_owned(), "\"key\"".to_owned()),
        };
        assert_eq!(unknown, Err(expected));
    }
}

#[test]
fn a_reference_inside_is_found_by_its_path() {
    let references = "references = { 'a.b' = { kind = 'Dataset', form = 'integer' } }";
    let inner = Value::Entity(vec![("b".to_owned(), Value::Integer(5))]);
    let outer = Value::Array(vec![inner]);
    let converted = outcome(references, &[("a", outer)]).unwrap();
    let text = serde_json::to_string(&converted.json).unwrap();
    let id = NewId::of("seed", "Account:7/Dataset:5");
    assert!(
        text.ends_with(&format!(r#""a":[{{"b":"{id}"}}]}}"#)),
        "{text}"
    );
}

#[test]
fn what_only_looks_like_an_id_stays_and_is_told() {
    let properties = [
        ("count", Value::Integer(5)),
        ("other", Value::Integer(4)),
        (
            "named",
            Value::Array(vec![Value::Text("public/5634161670881280".to_owned())]),
        ),
        (
            "at",
            Value::Text("gs://old/public/5634161670881280/file".to_owned()),
        ),
        (
            "elsewhere",
            Value::Text("gs://old/public/9/file".to_owned()),
        ),
    ];
    let converted = outcome("", &properties).unwrap();
    let text = serde_json::to_string(&converted.json).unwrap();
    assert!(text.contains(r#""count":5,"#) && text.contains("public/5634161670881280"));
    assert_eq!(
        converted.looks_like_ids,
        ["Evaluation.count", "Evaluation.named", "Evaluation.at"]
    );
    let key = Value::Key("Account:7/Dataset:5".parse().unwrap());
    assert_eq!(
        outcome("", &[("k", key)]),
        Err(Rejection::UndeclaredKey("Evaluation.k".to_owned()))
    );
}

#[test]
fn names_change_and_are_added_and_dropped_as_the_mapping_says() {
    let kind = "kind = 'Assessment'\naccount = 'account'\nrename = { created = 'creationTime' }\n\
                drop = ['secret']\ndefaults = { labels = {}, status = 'Created', reason = '@null' }";
    let properties = [
        ("created", Value::Timestamp(0)),
        ("secret", Value::Double(f64::NAN)),
        ("status", Value::Text("Complete".to_owned())),
    ];
    let converted = outcome(kind, &properties).unwrap();
    let account = NewId::of("seed", "Account:7");
    assert_eq!(
        serde_json::to_string(&converted.json).unwrap(),
        format!(
            r#"{{"id":"{}","kind":"Assessment","account":"{account}","creationTime":"1970-01-01T00:00:00+00:00","status":"Complete","labels":{{}},"reason":null}}"#,
            converted.id
        )
    );
    let twice = [("created", Value::Null), ("creationTime", Value::Null)];
    assert_eq!(
        outcome(kind, &twice),
        Err(Rejection::TwiceNamed("creationTime".to_owned()))
    );
    let id = [("id", Value::Null)];
    assert_eq!(
        outcome("", &id),
        Err(Rejection::TwiceNamed("id".to_owned()))
    );
}

/// App Engine's NDB writes structured properties so, and the service takes no such names.
#[test]
fn a_property_whose_name_holds_a_dot_is_renamed_and_dropped() {
    let kind = "rename = { 'address.city' = 'city' }\ndrop = ['address.street']";
    let text = |text: &str| Value::Text(text.to_owned());
    let properties = [
        ("address.city", text("Bonn")),
        ("address.street", text("a street")),
    ];
    let converted = outcome(kind, &properties).unwrap();
    let json = serde_json::to_string(&converted.json).unwrap();
    assert!(
        json.ends_with(r#""kind":"Evaluation","city":"Bonn"}"#),
        "{json}"
    );
}

#[test]
fn an_id_can_come_from_a_property() {
    let id = NewId::of("seed", OWN).to_string();
    let converted = outcome("id_from = 'uid'", &[("uid", Value::Text(id.clone()))]);
    assert_eq!(converted.unwrap().id.to_string(), id);
    let other = Value::Text(format!("{:032}", 1));
    let rejection = outcome("id_from = 'uid'", &[("uid", other)]).unwrap_err();
    assert_eq!(rejection, Rejection::OtherId(OWN.to_owned(), id));
    for value in [Value::Text("5".to_owned()), Value::Integer(5)] {
        let rejection = outcome("id_from = 'uid'", &[("uid", value)]).unwrap_err();
        assert_eq!(rejection, Rejection::IdFrom("Evaluation.uid".to_owned()));
    }
}
