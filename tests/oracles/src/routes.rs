//! Whatever a mapping file says, it is refused with a reason, or routes every kind it names, and
//! only those, to a collection that is not the service's own.

use std::sync::Arc;

use workflows_sink::record::entity::{Decoder, Tombstones};
use workflows_sink::record::mapping::{Mapping, RESERVED_COLLECTIONS};

/// The text of a mapping file.
pub fn holds(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let mapping = match Mapping::parse(text) {
        Ok(mapping) => mapping,
        Err(error) => {
            assert!(!error.to_string().trim().is_empty());
            return;
        }
    };
    assert_eq!(mapping, Mapping::parse(text).expect("read before"));
    let names: Vec<_> = mapping.collections().collect();
    assert!(!names.is_empty());
    for (id, name) in &names {
        assert_eq!(mapping.collection(*id), *name);
        assert!(!name.is_empty() && !name.contains(['\0', '$']) && !name.starts_with("system."));
        assert!(!RESERVED_COLLECTIONS.contains(name));
        assert_eq!(names.iter().filter(|(_, other)| other == name).count(), 1);
    }
    assert_ne!(mapping.id(), mapping.kind());
    // What the file calls a kind is one, and nothing else is.
    let table: toml_kinds::Kinds = toml_kinds::read(text);
    for (kind, collection) in &table {
        let routed = mapping.route(kind).expect("a kind of the file");
        assert_eq!(mapping.collection(routed), collection);
    }
    for stranger in ["", "\0", "no such kind"] {
        assert_eq!(
            mapping.route(stranger).is_some(),
            table.contains_key(stranger)
        );
    }
    let value = serde_json::json!({ mapping.id(): "x", mapping.kind(): table.keys().next() });
    let mut decoder = Decoder::new(Arc::new(mapping), Tombstones::Ignore);
    decoder.decode(
        Some(b"x"),
        Some(value.to_string().as_bytes()),
        &mut Vec::new(),
    );
}

mod toml_kinds {
    use std::collections::BTreeMap;

    pub type Kinds = BTreeMap<String, String>;

    #[derive(serde::Deserialize)]
    struct File {
        collections: Kinds,
    }

    pub fn read(text: &str) -> Kinds {
        toml::from_str::<File>(text)
            .expect("the mapping was read")
            .collections
    }
}
