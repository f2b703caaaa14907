use crate::{Fault, Key, Value, decode_line};

fn value(json: &str) -> Result<Value, String> {
    let line =
        format!(r#"{{"key":{{"path":[{{"kind":"K","id":"1"}}]}},"properties":{{"p":{json}}}}}"#);
    let entity = decode_line(line.as_bytes()).map_err(|fault| fault.to_string())?;
    Ok(entity.properties[0].1.clone())
}

#[test]
fn each_type_of_the_api_is_read() {
    let model: Key = "Account:public/Model:7".parse().unwrap();
    let model = Key {
        project: "project".into(),
        namespace: "team".into(),
        ..model
    };
    let table = [
        (r#"{}"#, Value::Null),
        (r#"{"nullValue":null}"#, Value::Null),
        (r#"{"nullValue":"NULL_VALUE"}"#, Value::Null),
        (
            r#"{"booleanValue":true,"excludeFromIndexes":true}"#,
            Value::Bool(true),
        ),
        (
            r#"{"integerValue":"-9223372036854775808"}"#,
            Value::Integer(i64::MIN),
        ),
        (r#"{"integerValue":5}"#, Value::Integer(5)),
        (r#"{"doubleValue":0.1}"#, Value::Double(0.1)),
        (r#"{"doubleValue":3}"#, Value::Double(3.0)),
        (
            r#"{"doubleValue":"-Infinity"}"#,
            Value::Double(f64::NEG_INFINITY),
        ),
        (
            r#"{"timestampValue":"2020-09-13T12:26:40.123456789Z"}"#,
            Value::Timestamp(1_600_000_000_123_456),
        ),
        (
            r#"{"timestampValue":"9999-12-31T23:59:59.999999Z"}"#,
            Value::Timestamp(253_402_300_799_999_999),
        ),
        (
            r#"{"timestampValue":"1969-12-31T23:59:59.9999999Z"}"#,
            Value::Timestamp(-1),
        ),
        (
            r#"{"timestampValue":"2020-09-13T14:26:40+02:00"}"#,
            Value::Timestamp(1_600_000_000_000_000),
        ),
        (
            r#"{"keyValue":{
                "partitionId":{"projectId":"project","namespaceId":"team"},
                "path":[{"kind":"Account","name":"public"},{"kind":"Model","id":"7"}]
            }}"#,
            Value::Key(model),
        ),
        (r#"{"stringValue":"a\u00e9\n"}"#, Value::Text("aé\n".into())),
        (r#"{"blobValue":"AP8="}"#, Value::Blob(vec![0, 255])),
        (r#"{"blobValue":"-_8"}"#, Value::Blob(vec![0xfb, 0xff])),
        (
            r#"{"blobValue":"eJzLSM3JyQcABiwCFQ==","meaning":22}"#,
            Value::Blob(b"hello".into()),
        ),
        (
            r#"{"geoPointValue":{"latitude":48.5}}"#,
            Value::Point {
                latitude: 48.5,
                longitude: 0.0,
            },
        ),
        (
            r#"{"entityValue":{"key":{"path":[]},"properties":{"n":{"integerValue":"1"}}}}"#,
            Value::Entity(vec![("n".into(), Value::Integer(1))]),
        ),
        (r#"{"entityValue":{}}"#, Value::Entity(vec![])),
        (
            r#"{"arrayValue":{"values":[{"integerValue":"1"},{"stringValue":"a"}]}}"#,
            Value::Array(vec![Value::Integer(1), Value::Text("a".into())]),
        ),
        (r#"{"arrayValue":{}}"#, Value::Array(vec![])),
    ];
    for (json, expected) in table {
        assert_eq!(value(json), Ok(expected), "{json}");
    }
    let nan = value(r#"{"doubleValue":"NaN"}"#).unwrap();
    assert!(matches!(nan, Value::Double(double) if double.is_nan()));
}

#[test]
fn what_is_no_value_of_the_api_is_a_fault_of_its_property() {
    let table = [
        (r#"1"#, "no object of a type"),
        (r#"{"integerValue":"1","stringValue":"a"}"#, "two types"),
        (r#"{"integerValue":"9223372036854775808"}"#, "64 bits"),
        (r#"{"integerValue":1.5}"#, "no value of v1.Value"),
        (r#"{"doubleValue":"secret"}"#, "no number"),
        (r#"{"timestampValue":"secret"}"#, "RFC 3339"),
        (r#"{"blobValue":"secret!"}"#, "base64"),
        (r#"{"blobValue":"AP8=","meaning":22}"#, "not by zlib"),
        (r#"{"vectorValue":[1]}"#, "no value of v1.Value"),
        (r#"{"booleanValue":"true"}"#, "no value of v1.Value"),
        (
            r#"{"keyValue":{"path":[{"kind":"K"}]}}"#,
            "the key in property p is incomplete",
        ),
        (
            r#"{"keyValue":{"path":[{"kind":"K","id":"1","name":"a"}]}}"#,
            "both an id and a name",
        ),
        (
            r#"{"entityValue":{"properties":{},"more":1}}"#,
            "beside key and properties",
        ),
        (
            r#"{"entityValue":{"properties":{"q":1}}}"#,
            "property p.q: its value",
        ),
        (r#"{"stringValue":"\ud800"}"#, "surrogate"),
    ];
    for (json, why) in table {
        let fault = value(json).unwrap_err();
        assert!(fault.contains(why), "{json}: {fault}");
        assert!(!fault.contains("secret"), "{fault}");
    }
}

#[test]
fn values_within_values_are_read_to_a_depth_and_no_deeper() {
    let nested = |depth: usize| {
        let begin = r#"{"entityValue":{"properties":{"p":"#.repeat(depth);
        value(&format!("{begin}{{}}{}", "}}}".repeat(depth)))
    };
    assert!(nested(crate::EMBEDDED_DEPTH_MAX).is_ok());
    assert!(
        nested(crate::EMBEDDED_DEPTH_MAX + 1)
            .unwrap_err()
            .contains("within each other")
    );
    assert!(nested(100_000).is_err());
}

#[test]
fn an_entity_of_another_shape_is_a_fault() {
    let table = [
        (r#"{"key":{"path":[]}}"#, "its key is incomplete"),
        (r#"{"key":{}}"#, "its key is incomplete"),
        (
            r#"{"key":{"path":[{"kind":"K","id":"x"}]}}"#,
            "an id that is no number",
        ),
        (
            r#"{"key":{"path":[{"kind":"K","id":"1"}]},"properties":[]}"#,
            "no object",
        ),
        (
            r#"{"key":{"path":[{"kind":"K","id":"1"}]},"version":"1"}"#,
            "beside key",
        ),
    ];
    for (line, why) in table {
        let fault: Fault = decode_line(line.as_bytes()).unwrap_err();
        assert!(fault.to_string().contains(why), "{line}: {fault}");
    }
}

/// Its path would be that of the default database's entity.
#[test]
fn a_key_of_another_database_is_refused() {
    let key = |database: &str| {
        format!(
            r#"{{"partitionId":{{"databaseId":"{database}"}},"path":[{{"kind":"K","id":"1"}}]}}"#
        )
    };
    let own = |database| decode_line(format!(r#"{{"key":{}}}"#, key(database)).as_bytes());
    assert!(own("").is_ok() && own("(default)").is_ok());
    let fault = own("other").unwrap_err();
    let told = fault.to_string();
    assert!(
        fault.is_of_other_database() && told.starts_with("its key is of the database other"),
        "{told}"
    );
    let holds = |value: &str| {
        let (own, value) = (key(""), format!(r#"{{"keyValue":{value}}}"#));
        let line = format!(r#"{{"key":{own},"properties":{{"p":{value}}}}}"#);
        decode_line(line.as_bytes())
    };
    assert!(holds(&key("")).is_ok());
    assert!(!holds(&key("other")).unwrap_err().is_of_other_database());
    let told = value(&format!(r#"{{"keyValue":{}}}"#, key("other"))).unwrap_err();
    assert!(
        told.starts_with("the key in property p is of the database other"),
        "{told}"
    );
}
