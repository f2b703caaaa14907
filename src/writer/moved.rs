//! Entities whose kind has changed, or where their kind goes: the document of an entity in another
//! collection goes in the transaction that creates the new one (`KindChanges::Delete`).

use std::collections::HashMap;

use bson::Bson;

use super::Failure;
use super::reply::Reply;
use super::session::Session;
use crate::record::fold::KindChanges;
use crate::record::mapping::{CollectionId, Mapping};

/// The documents that a transaction has created so far.
pub(super) struct Created {
    kind_changes: KindChanges,
    documents: Vec<(CollectionId, Vec<Bson>)>,
}

impl Created {
    /// Keeps nothing in mind where documents in other collections stay.
    pub(super) fn new(kind_changes: KindChanges) -> Self {
        Created {
            kind_changes,
            documents: Vec::new(),
        }
    }

    /// Takes in what an update of a collection was answered with.
    pub(super) fn note(&mut self, collection: CollectionId, reply: Reply) {
        if self.kind_changes == KindChanges::Delete && !reply.upserted.is_empty() {
            self.documents.push((collection, reply.upserted));
        }
    }

    /// Whether an entity was created in two collections: lanes of different partitions have it.
    fn has_one_twice(&self) -> bool {
        let mut seen: HashMap<&str, CollectionId> = HashMap::new();
        let documents = self.documents.iter();
        let mut ids = documents.flat_map(|(collection, created)| {
            let ids = created.iter().filter_map(id);
            ids.map(|id| (id, *collection))
        });
        ids.any(|(id, collection)| *seen.entry(id).or_insert(collection) != collection)
    }

    /// The ids of what was created anywhere but in this collection.
    fn outside(&self, collection: CollectionId) -> Vec<&str> {
        let documents = self.documents.iter();
        let elsewhere = documents.filter(|(created_in, _)| *created_in != collection);
        let ids = elsewhere.flat_map(|(_, created)| created.iter().filter_map(id));
        ids.collect()
    }
}

/// The entity's id in an entry of `upserted`.
fn id(created: &Bson) -> Option<&str> {
    created.as_document()?.get_str("_id").ok()
}

impl Session {
    /// Removes the documents that the entities of the `created` ones have in other collections of
    /// the mapping, former ones included. Gives how many these were; `removing_from` is told which
    /// collection it is at.
    ///
    /// Fails with [`Failure::Together`] where lanes have put an entity into two collections: each
    /// would delete the other's document.
    pub(super) async fn remove_moved(
        &mut self,
        mapping: &Mapping,
        created: &Created,
        removing_from: &mut Option<CollectionId>,
    ) -> Result<u64, Failure> {
        if created.has_one_twice() {
            self.abort().await;
            return Err(Failure::Together);
        }
        let mut removed = 0;
        for (collection, name) in mapping.collections() {
            *removing_from = Some(collection);
            removed += self.delete(name, &created.outside(collection)).await?;
        }
        *removing_from = None;
        Ok(removed)
    }
}
