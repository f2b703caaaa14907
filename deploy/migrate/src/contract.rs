//! What the service makes of an entity: by its own decoder, so that nothing is moved that it would
//! reject, and so that what is stored can be held against it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bson::RawDocument;
use workflows_sink::config::reference::MAPPING_FILE;
use workflows_sink::config::startup::StartupError;
use workflows_sink::record::detail::rejection;
use workflows_sink::record::entity::{Decoded, Decoder, Tombstones};
use workflows_sink::record::mapping::Mapping;

use crate::convert::Converted;
use crate::id::{Fingerprint, NewId};
use crate::rejection::Rejection;

/// Names of fields that a difference lists.
const FIELDS_MAX: usize = 8;

/// The service's decoder.
pub struct Contract {
    mapping: Arc<Mapping>,
    decoder: Decoder,
}

/// An entity as the service takes it.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its id.
    pub id: NewId,
    /// The record's value: JSON.
    pub value: Vec<u8>,
    /// Where the document goes.
    pub collection: String,
    /// The document as BSON, without `_id`.
    pub document: Vec<u8>,
}

impl Contract {
    /// By the service's mapping: its `MAPPING_FILE`, or the one that is compiled in.
    ///
    /// # Errors
    /// [`StartupError`]: why the file cannot be read or used.
    pub fn from_env() -> Result<Contract> {
        let mapping = match std::env::var_os(MAPPING_FILE.name) {
            None => Mapping::builtin(),
            Some(file) => named(Path::new(&file)).map_err(|why| {
                StartupError::configuration(format!("{}: {file:?}: {why:#}", MAPPING_FILE.name))
            })?,
        };
        Ok(Contract::new(mapping))
    }

    /// By this mapping.
    pub fn new(mapping: Mapping) -> Contract {
        let mapping = Arc::new(mapping);
        Contract {
            decoder: Decoder::new(Arc::clone(&mapping), Tombstones::Ignore),
            mapping,
        }
    }

    /// The collections of the contract.
    pub fn collections(&self) -> Vec<String> {
        let collections = self.mapping.collections();
        collections.map(|(_, name)| name.to_owned()).collect()
    }

    /// The collection of a kind, by its new name.
    pub fn collection(&self, kind: &str) -> Option<&str> {
        let collection = self.mapping.route(kind)?;
        Some(self.mapping.collection(collection))
    }

    /// What the service would store.
    ///
    /// # Errors
    /// [`Rejection::ByContract`] with the service's own reason.
    pub fn accept(&mut self, converted: &Converted) -> Result<Accepted, Rejection> {
        let value = serde_json::to_vec(&converted.json).expect("JSON of our own");
        let key = converted.id.to_string();
        let mut document = Vec::new();
        let (key, text) = (Some(key.as_bytes()), Some(value.as_slice()));
        match self.decoder.decode(key, text, &mut document) {
            Decoded::Accepted { collection, .. } => Ok(Accepted {
                id: converted.id,
                collection: self.mapping.collection(collection).to_owned(),
                document,
                value,
            }),
            Decoded::Rejected(reason) => {
                let why = rejection(&self.mapping, key, text, reason);
                Err(Rejection::ByContract(why))
            }
            Decoded::Skipped(_) | Decoded::Delete => {
                let why = "it skips an entity with this id".to_owned();
                Err(Rejection::ByContract(why))
            }
        }
    }
}

/// The service's mapping in a file.
fn named(file: &Path) -> Result<Mapping> {
    Ok(Mapping::parse(&std::fs::read_to_string(file)?)?)
}

/// Fields by name, each with the hash of its value.
pub type Fields = Vec<(String, Fingerprint)>;

/// A document's fields by their hashes, sorted by name: the order at the top level is the server's
/// and no part of the contract. `_id` is left out.
///
/// # Errors
/// Where it is no BSON.
pub fn fields(document: &RawDocument) -> Result<Fields> {
    let mut fields = Vec::new();
    for element in document {
        let (name, value) = element?;
        if name != "_id" {
            let mut one = bson::RawDocumentBuf::new();
            one.append(name, value);
            fields.push((name.to_string(), Fingerprint::of(one.as_bytes())));
        }
    }
    fields.sort();
    Ok(fields)
}

/// The names of the fields that differ, if any.
pub(crate) fn difference(
    expected: &[(String, Fingerprint)],
    found: &[(String, Fingerprint)],
) -> Option<String> {
    if expected == found {
        return None;
    }
    let differs = |one: &(String, Fingerprint), others: &[(String, Fingerprint)]| {
        (!others.contains(one)).then(|| one.0.clone())
    };
    let mut names: Vec<String> = (expected.iter().filter_map(|one| differs(one, found)))
        .chain(found.iter().filter_map(|one| differs(one, expected)))
        .collect();
    names.sort();
    names.dedup();
    let more = names.len().saturating_sub(FIELDS_MAX);
    names.truncate(FIELDS_MAX);
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("{}{more}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_difference_is_told_by_its_fields_whatever_their_order() {
        let of = |document: bson::RawDocumentBuf| fields(&document).unwrap();
        let expected = of(rawdoc! { "a": 1, "b": { "c": [1, 2] } });
        let same = of(rawdoc! { "_id": "x", "b": { "c": [1, 2] }, "a": 1 });
        assert_eq!(difference(&expected, &same), None);
        let other = of(rawdoc! { "a": 1_i64, "b": { "c": [1, 2] }, "z": 1 });
        assert_eq!(difference(&expected, &other).as_deref(), Some("a, z"));
        let inner = of(rawdoc! { "a": 1, "b": { "c": [2, 1] } });
        assert_eq!(difference(&expected, &inner).as_deref(), Some("b"));
    }
}
