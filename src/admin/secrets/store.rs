//! The store that keeps Secrets: Kubernetes, or a directory.

use super::directory::Directory;
use super::kubernetes::Kubernetes;
use super::{Change, Held, Version};
use crate::admin::Failure;
use crate::admin::table::SecretName;

/// Where Secrets are kept.
#[derive(Clone, Debug)]
pub enum Store {
    /// In a cluster.
    Kubernetes(Kubernetes),
    /// In files.
    Directory(Directory),
}

impl Store {
    /// The Secret, if there is one.
    pub async fn get(&self, name: &SecretName) -> Result<Option<Held>, Failure> {
        match self {
            Store::Kubernetes(store) => store.get(name).await,
            Store::Directory(store) => store.get(name).await,
        }
    }

    /// Creates the Secret, or changes it, provided that it still is what `held` says.
    ///
    /// # Errors
    /// [`Failure::Conflict`] where it is not; then nothing was written.
    pub async fn apply(
        &self,
        name: &SecretName,
        held: Option<&Held>,
        change: Change,
    ) -> Result<(), Failure> {
        if held.is_some_and(|held| held.immutable) {
            return Err(Failure::Permanent(format!(
                "the Secret {} is immutable, so nobody can change it: \
                 delete it, and it is recreated with another password",
                self.shown(name)
            )));
        }
        match self {
            Store::Kubernetes(store) => store.apply(name, held, change).await,
            Store::Directory(store) => store.apply(name, held, change).await,
        }
    }

    /// Returns when the Secret may no longer be what `held` says; perhaps too early, perhaps never.
    pub async fn changed(&self, name: &SecretName, held: Option<&Version>) {
        match self {
            Store::Kubernetes(store) => store.changed(name, held).await,
            Store::Directory(store) => store.changed(name, held).await,
        }
    }

    /// Whether it is one of files: it may hold the Secrets of some users of the table only.
    pub fn is_directory(&self) -> bool {
        matches!(self, Store::Directory(_))
    }

    /// What messages call the Secret: its namespace and name, or the path of its directory.
    pub fn shown(&self, name: &SecretName) -> String {
        match self {
            Store::Kubernetes(store) => format!("{}/{}", store.namespace(name), name.name),
            Store::Directory(store) => store.path(name).display().to_string(),
        }
    }
}
