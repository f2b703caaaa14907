//! API keys that are entities, until the accounts above them are known.

use std::collections::{HashMap, HashSet};

use bson::Document;
use datastore_export::{Entity, Key, Place};

use crate::accounts::Account;
use crate::api_keys::Keys;
use crate::convert::path_of;
use crate::mapping::Mapping;
use crate::remap::Remap;
use crate::report::Report;

/// Keys on their way to their accounts.
#[derive(Default)]
pub(crate) struct Keyring {
    /// How many came.
    pub(crate) count: usize,
    /// By the path of the account.
    below: HashMap<String, Vec<(Place, Document)>>,
    /// Paths of accounts of which a key was rejected.
    incomplete: HashSet<String>,
}

impl Keyring {
    /// Takes a key. Its own path is left out of the report: a key may be named by what is secret.
    pub(crate) fn add(
        &mut self,
        entity: &Entity,
        place: &Place,
        mapping: &Mapping,
        remap: &Remap,
        report: &mut Report,
    ) {
        self.count += 1;
        let above = accounts_above(&entity.key, mapping);
        let parent = entity.key.parent().map(|key| path_of(&key));
        let owner = parent.filter(|parent| above.contains(parent));
        let Some(owner) = owner else {
            let why = match above.is_empty() {
                true => "a key without an account above it",
                false => "a key that does not lie right below its account",
            };
            report.reject(place, above.last().cloned(), why);
            self.incomplete.extend(above);
            return;
        };
        let key = Keys::of(entity.key.kind(), &entity.key, mapping, remap);
        match key.read(&entity.properties) {
            Ok(key) => {
                report.note_looks_like_ids(&key.looks_like_ids);
                report.note_as_mapped(&key.as_mapped);
                let keys = self.below.entry(owner).or_default();
                keys.push((place.clone(), key.document));
            }
            Err(why) => {
                report.reject(place, Some(owner), why);
                self.incomplete.extend(above);
            }
        }
    }

    /// Gives each account its keys. One that lacks some is rejected: once it is there it is never
    /// changed, so it could not get them later.
    pub(crate) fn give(mut self, accounts: &mut Vec<Account>, report: &mut Report) {
        accounts.retain_mut(|account| {
            let keys = self.below.remove(&account.path).unwrap_or_default();
            account.keys.extend(keys.into_iter().map(|(_, key)| key));
            let mut ids = HashSet::new();
            let is_twice =
                |key: &Document| !ids.insert(key.get_str("id").unwrap_or_default().to_owned());
            let why = if self.incomplete.contains(&account.path) {
                "one of its keys was rejected"
            } else if account.keys.iter().any(is_twice) {
                "two of its keys have the same id"
            } else {
                return true;
            };
            report.reject(&account.place, Some(account.path.clone()), why);
            false
        });
        for (owner, keys) in self.below {
            for (place, _) in keys {
                let why = "a key of an account that was rejected, or is in no export";
                report.reject(&place, Some(owner.clone()), why);
            }
        }
    }
}

/// The paths of the accounts that a key lies below, but for those below another key.
fn accounts_above(key: &Key, mapping: &Mapping) -> Vec<String> {
    let is_account = |key: &Key| key.kind() == mapping.accounts.kind && !mapping.has_api_key(key);
    let mut above = Vec::new();
    let mut next = key.parent();
    while let Some(key) = next {
        next = key.parent();
        above.extend(is_account(&key).then(|| path_of(&key)));
    }
    above
}
