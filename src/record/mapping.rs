//! Which field is the id, which one routes, which maps become arrays, and kind → collection: data,
//! from `config/`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Deserialize;

#[cfg(test)]
mod tests;

/// The mapping that is compiled in, as a file.
pub const BUILTIN: &str = include_str!("../../config/mapping.toml");

/// Collections of the service itself; no kind may be stored there.
pub const RESERVED_COLLECTIONS: [&str; 2] =
    ["workflows_sink_checkpoints", "workflows_sink_dead_letters"];

/// A namespace (`database.collection`) has at most 255 bytes, of which a database name may take 63
/// and the dot one.
const COLLECTION_NAME_BYTES_MAX: usize = 255 - 63 - 1;
/// More than this many collections is a mistake in the file.
const COLLECTIONS_MAX: usize = 1_000;
/// Longer names would be a mistake in the file.
const FIELD_NAME_BYTES_MAX: usize = 255;
/// One bit each while a record is decoded.
const MAPS_MAX: usize = 32;

/// A collection of a [`Mapping`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct CollectionId(u16);

/// The mapping from entities to documents, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    id: String,
    skipped_ids: BTreeSet<String>,
    kind: String,
    maps: Vec<String>,
    routes: HashMap<String, CollectionId>,
    collections: Vec<String>,
}

/// Why a mapping cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum MappingError {
    /// Not TOML, or not of this shape.
    #[error("{}", without_excerpt(.0))]
    Shape(#[from] toml::de::Error),
    /// Every fault found in what it says.
    #[error("{}", .0.join("; "))]
    Faults(Vec<String>),
}

/// Where and what a fault of TOML is, without the line that it quotes: a file with a secret may
/// have been named by mistake.
pub fn without_excerpt(error: &toml::de::Error) -> String {
    match error.to_string().split_once('\n') {
        Some((place, _)) => format!("{place}: {}", error.message()),
        None => error.message().to_owned(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    #[serde(default)]
    skipped_ids: BTreeSet<String>,
    kind: String,
    #[serde(default)]
    maps: Vec<String>,
    #[serde(default)]
    former_collections: BTreeSet<String>,
    collections: BTreeMap<String, String>,
}

impl Mapping {
    /// The mapping that `config/mapping.toml` ships.
    pub fn builtin() -> Self {
        Self::parse(BUILTIN).expect("the shipped mapping is tested")
    }

    /// Reads a mapping in the form of `config/mapping.toml`.
    ///
    /// # Errors
    /// What is not TOML or not of that shape; otherwise every fault of its names at once.
    pub fn parse(toml: &str) -> Result<Self, MappingError> {
        let file: File = toml::from_str(toml)?;
        let faults = faults(&file);
        if !faults.is_empty() {
            return Err(MappingError::Faults(faults));
        }
        let routed = file.collections.values();
        let distinct: BTreeSet<&String> = routed.chain(&file.former_collections).collect();
        let collections: Vec<String> = distinct.into_iter().cloned().collect();
        let ids: HashMap<&str, CollectionId> = collections
            .iter()
            .map(String::as_str)
            .zip((0..).map(CollectionId))
            .collect();
        let routes = file
            .collections
            .iter()
            .map(|(kind, name)| (kind.clone(), ids[name.as_str()]))
            .collect();
        Ok(Self {
            id: file.id,
            skipped_ids: file.skipped_ids,
            kind: file.kind,
            maps: file.maps,
            routes,
            collections,
        })
    }

    /// The collection of a kind.
    pub fn route(&self, kind: &str) -> Option<CollectionId> {
        self.routes.get(kind).copied()
    }

    /// Every kind, with its collection.
    pub fn routes(&self) -> impl Iterator<Item = (&str, CollectionId)> {
        self.routes.iter().map(|(kind, id)| (kind.as_str(), *id))
    }

    /// The name of a collection of this mapping.
    pub fn collection(&self, id: CollectionId) -> &str {
        &self.collections[usize::from(id.0)]
    }

    /// Every collection once, by name: those that kinds go into, and the former ones, of which
    /// documents are only removed.
    pub fn collections(&self) -> impl Iterator<Item = (CollectionId, &str)> {
        (0..)
            .map(CollectionId)
            .zip(self.collections.iter().map(String::as_str))
    }

    /// Those of its collections that are among `names`.
    pub fn named(&self, names: &HashSet<String>) -> HashSet<CollectionId> {
        let named = self.collections().filter(|(_, name)| names.contains(*name));
        named.map(|(id, _)| id).collect()
    }

    /// The field that holds the id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The field that routes.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The fields that are maps and become arrays.
    pub fn maps(&self) -> &[String] {
        &self.maps
    }

    /// The ids of entities that are skipped.
    pub fn skipped_ids(&self) -> impl Iterator<Item = &str> {
        self.skipped_ids.iter().map(String::as_str)
    }

    /// The collections that no kind goes into, of which documents are only removed.
    pub fn former_collections(&self) -> impl Iterator<Item = &str> {
        let routed: HashSet<CollectionId> = self.routes.values().copied().collect();
        let former = self
            .collections()
            .filter(move |(id, _)| !routed.contains(id));
        former.map(|(_, name)| name)
    }

    /// Whether entities with this id are skipped.
    pub fn skips(&self, id: &str) -> bool {
        self.skipped_ids.contains(id)
    }
}

fn faults(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    let fields = [("id", &file.id), ("kind", &file.kind)]
        .into_iter()
        .chain(file.maps.iter().map(|map| ("maps", map)));
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for (setting, name) in fields {
        faults.extend(
            field_fault(name).map(|fault| format!("{setting}: field name {name:?} {fault}")),
        );
        if let Some(other) = seen.insert(name, setting) {
            faults.push(format!(
                "{setting}: field {name:?} is already given by `{other}`"
            ));
        }
    }
    if file.maps.len() > MAPS_MAX {
        faults.push(format!(
            "maps: {} fields, at most {MAPS_MAX} are possible",
            file.maps.len()
        ));
    }
    if file.collections.is_empty() {
        faults.push("collections: the table is empty, so no entity could be stored".into());
    }
    if file.collections.len() > COLLECTIONS_MAX {
        faults.push(format!(
            "collections: {} kinds, at most {COLLECTIONS_MAX} are possible",
            file.collections.len()
        ));
    }
    for name in &file.former_collections {
        faults.extend(
            collection_fault(name)
                .map(|fault| format!("former_collections: collection name {name:?} {fault}")),
        );
        if let Some((kind, _)) = file.collections.iter().find(|(_, to)| *to == name) {
            faults.push(format!(
                "former_collections: {name:?} is in use, for the kind {kind}"
            ));
        }
    }
    for (kind, name) in &file.collections {
        if kind.is_empty() {
            faults.push("collections: a kind is empty".into());
        }
        faults.extend(
            collection_fault(name)
                .map(|fault| format!("collections.{kind}: collection name {name:?} {fault}")),
        );
    }
    faults
}

/// What is wrong with the name of a top-level field, which is the name of a field of a document
/// too.
fn field_fault(name: &str) -> Option<String> {
    Some(match name {
        "" => "is empty".into(),
        "_id" => "is taken by the document's own id".into(),
        _ if name.starts_with('$') => "starts with `$`".into(),
        _ if name.contains('.') => "contains `.`".into(),
        _ if name.contains('\0') => "contains NUL".into(),
        _ if name.len() > FIELD_NAME_BYTES_MAX => {
            format!("is longer than {FIELD_NAME_BYTES_MAX} bytes")
        }
        _ => return None,
    })
}

fn collection_fault(name: &str) -> Option<String> {
    Some(match name {
        "" => "is empty".into(),
        _ if RESERVED_COLLECTIONS.contains(&name) => "is reserved for this service".into(),
        _ if name.starts_with("system.") => "starts with `system.`".into(),
        _ if name.starts_with('.') => "starts with `.`".into(),
        _ if name.contains('$') => "contains `$`".into(),
        _ if name.contains('\0') => "contains NUL".into(),
        _ if name.len() > COLLECTION_NAME_BYTES_MAX => {
            format!("is longer than {COLLECTION_NAME_BYTES_MAX} bytes")
        }
        _ => return None,
    })
}
