//! The collections whose states are not folded, because the server judges each one. They change
//! while the service runs: somebody adds a validator.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::record::mapping::CollectionId;

/// Collections whose states are written one by one.
#[derive(Debug, Default)]
pub struct Unfoldable(RwLock<Arc<HashSet<CollectionId>>>);

impl From<HashSet<CollectionId>> for Unfoldable {
    fn from(collections: HashSet<CollectionId>) -> Self {
        Unfoldable(RwLock::new(Arc::new(collections)))
    }
}

impl Unfoldable {
    /// Those of now.
    pub fn now(&self) -> Arc<HashSet<CollectionId>> {
        Arc::clone(&self.0.read())
    }

    /// From now on it is these; `false` where they are the same.
    pub fn set(&self, collections: HashSet<CollectionId>) -> bool {
        let is_change = *self.now() != collections;
        if is_change {
            *self.0.write() = Arc::new(collections);
        }
        is_change
    }
}
