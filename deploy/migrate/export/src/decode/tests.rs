use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::*;
use crate::proto::{Element, Path, Reference};

/// An entity with one property.
fn entity_of(property: Property) -> EntityProto {
    let element = Element {
        kind: b"K".into(),
        id: Some(1),
        name: None,
    };
    EntityProto {
        key: Some(Reference {
            app: b"s~p".into(),
            path: Some(Path {
                element: vec![element],
            }),
            name_space: None,
            database: None,
        }),
        property: vec![Bytes::from(property.encode_to_vec())],
        ..EntityProto::default()
    }
}

fn text(meaning: Option<i32>, bytes: &[u8]) -> Property {
    Property {
        meaning,
        name: b"p".into(),
        value: Some(PropertyValue {
            string: Some(bytes.into()),
            ..PropertyValue::default()
        }),
        ..Property::default()
    }
}

fn read(proto: &EntityProto) -> Result<Value, String> {
    let entity = record(proto.encode_to_vec()).map_err(|fault| fault.to_string())?;
    Ok(entity.properties[0].1.clone())
}

fn fault(proto: &EntityProto) -> String {
    read(proto).unwrap_err()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_meaning_of_a_text_says_what_it_is() {
    let table = [
        (None, Value::Text("a".into())),
        (Some(proto::TEXT), Value::Text("a".into())),
        (Some(17), Value::Text("a".into())),
        (Some(99), Value::Text("a".into())),
        (Some(proto::GD_WHEN), Value::Text("a".into())),
        (Some(proto::BLOB), Value::Blob(b"a".into())),
        (Some(proto::BYTESTRING), Value::Blob(b"a".into())),
        (Some(proto::EMPTY_LIST), Value::Array(vec![])),
    ];
    for (meaning, value) in table {
        assert_eq!(
            read(&entity_of(text(meaning, b"a"))),
            Ok(value),
            "{meaning:?}"
        );
    }
}

#[test]
fn compressed_values_are_inflated() {
    let packed = zlib(b"hello");
    let of = |meaning, uri: Option<&[u8]>| {
        let mut property = text(meaning, &packed);
        property.meaning_uri = uri.map(Into::into);
        read(&entity_of(property))
    };
    let blob = Ok(Value::Blob(b"hello".into()));
    assert_eq!(of(Some(proto::ZLIB), None), blob);
    assert_eq!(of(Some(proto::BLOB), Some(b"ZLIB")), blob);
    assert_eq!(of(None, Some(b"ZLIB")), blob);
    let whole = Ok(Value::Text("hello".into()));
    assert_eq!(of(Some(proto::TEXT), Some(b"ZLIB")), whole);
    assert_eq!(of(Some(proto::BLOB), None), Ok(Value::Blob(packed.clone())));

    let broken = fault(&entity_of(text(Some(proto::ZLIB), b"hello")));
    assert!(broken.contains("not by zlib"), "{broken}");
    let cut = fault(&entity_of(text(
        Some(proto::ZLIB),
        &packed[..packed.len() - 2],
    )));
    assert!(cut.contains("not by zlib"), "{cut}");
}

/// Together: many values that are each short enough take as much memory.
#[test]
fn values_that_inflate_to_too_much_are_a_fault() {
    let half = text(Some(proto::ZLIB), &zlib(&vec![0; ENTITY_BYTES_MAX / 2]));
    let mut proto = entity_of(half.clone());
    assert!(read(&proto).is_ok());
    for name in [b"q", b"r"] {
        let mut property = half.clone();
        property.name = name.into();
        proto.property.push(Bytes::from(property.encode_to_vec()));
    }
    assert!(matches!(
        record(proto.encode_to_vec()),
        Err(Fault::Oversize)
    ));
}

#[test]
fn text_that_is_not_utf_8_is_a_fault_of_its_property() {
    let why = fault(&entity_of(text(None, b"\xff")));
    assert!(why.starts_with("p holds text that is not UTF-8"), "{why}");
    let mut unnamed = text(None, b"a");
    unnamed.name = b"\xff".into();
    let why = fault(&entity_of(unnamed));
    assert!(why.starts_with("the name of a property holds"), "{why}");
}

#[test]
fn a_value_of_two_types_is_a_fault() {
    let mut property = text(None, b"a");
    property.value.as_mut().unwrap().integer = Some(1);
    let why = fault(&entity_of(property));
    assert!(why.contains("two types"), "{why}");
}

#[test]
fn a_property_given_twice_is_a_list_or_a_fault() {
    let twice = |first: bool, second: bool| {
        let mut proto = entity_of(text(None, b"a"));
        proto.property.clear();
        for multiple in [first, second] {
            let mut property = text(None, b"a");
            property.multiple = multiple;
            proto.property.push(Bytes::from(property.encode_to_vec()));
        }
        read(&proto)
    };
    let a = || Value::Text("a".into());
    assert_eq!(twice(true, true), Ok(Value::Array(vec![a(), a()])));
    for (first, second) in [(false, false), (true, false), (false, true)] {
        assert!(twice(first, second).unwrap_err().contains("twice"));
    }
}

#[test]
fn embedded_entities_are_read_to_a_depth_and_no_deeper() {
    let nested = |depth: usize| {
        let mut inner = entity_of(text(None, b"a"));
        for _ in 0..depth {
            inner = entity_of(text(Some(proto::ENTITY_PROTO), &inner.encode_to_vec()));
        }
        inner
    };
    assert!(read(&nested(EMBEDDED_DEPTH_MAX)).is_ok());
    let why = fault(&nested(EMBEDDED_DEPTH_MAX + 1));
    assert!(why.contains("within each other"), "{why}");
    // The inner name comes after the outer one.
    let inner = entity_of(text(None, b"\xff")).encode_to_vec();
    let why = fault(&entity_of(text(Some(proto::ENTITY_PROTO), &inner)));
    assert!(why.starts_with("p.p holds text"), "{why}");
    let why = fault(&entity_of(text(Some(proto::ENTITY_PROTO), b"\x01")));
    assert!(why.contains("no EntityProto"), "{why}");
}

#[test]
fn a_key_that_is_incomplete_is_a_fault() {
    let with = |change: fn(&mut Vec<Element>)| {
        let mut proto = entity_of(text(None, b"a"));
        let path = proto.key.as_mut().unwrap().path.as_mut().unwrap();
        change(&mut path.element);
        read(&proto)
    };
    assert!(with(|_| {}).is_ok());
    let changes: [fn(&mut Vec<Element>); 5] = [
        |path| path.clear(),
        |path| path[0].id = None,
        |path| path[0].id = Some(0),
        |path| path[0].kind.clear(),
        |path| (path[0].id, path[0].name) = (None, Some(vec![])),
    ];
    for change in changes {
        assert!(
            with(change)
                .unwrap_err()
                .starts_with("its key is incomplete")
        );
    }
    let mut property = text(None, b"a");
    property.value = Some(PropertyValue {
        reference: Some(ReferenceValue::default()),
        ..PropertyValue::default()
    });
    let why = fault(&entity_of(property));
    assert!(
        why.starts_with("the key in property p is incomplete"),
        "{why}"
    );

    let keyless = EntityProto::default();
    assert!(fault(&keyless).starts_with("not an entity: no key"));
}

#[test]
fn a_fault_holds_no_more_than_the_beginning_of_a_name() {
    let mut property = text(None, b"\xff");
    property.name = "long\n".repeat(1_000).into();
    let why = fault(&entity_of(property));
    assert!(why.len() < 300 && !why.contains('\n'), "{why}");
}

#[test]
fn a_project_is_named_without_its_region() {
    let entity = record(entity_of(text(None, b"a")).encode_to_vec()).unwrap();
    assert_eq!(entity.key.project, "p");
}

/// Its path would be that of the default database's entity.
#[test]
fn a_key_of_another_database_is_refused() {
    let of = |app: &[u8], database: Option<&[u8]>| {
        let mut proto = entity_of(text(None, b"a"));
        let key = proto.key.as_mut().unwrap();
        (key.app, key.database) = (app.into(), database.map(Into::into));
        proto
    };
    for (app, database) in [(&b"s~p!other"[..], None), (b"s~p", Some(&b"other"[..]))] {
        let told = fault(&of(app, database));
        assert!(told.contains("its key is of the database other"), "{told}");
    }
    for (app, database) in [
        (&b"p!(default)"[..], Some(&b""[..])),
        (b"p", Some(b"(default)")),
    ] {
        let entity = record(of(app, database).encode_to_vec()).unwrap();
        assert_eq!(entity.key.project, "p");
    }
}
