//! `accounts`: users and API keys, in the form that the auth backend reads.
//!
//! That form is `{_id, name, creationTime, apiKeys: [{id, subject, created, expires, secret, …}]}`:
//! times are dates, and names unique.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Result, bail};
use bson::{Document, RawDocumentBuf};
use datastore_export::{Entity, Id, Place, Value};

use crate::api_keys::{ApiKey, AsMapped, Keys, date, time_of};
use crate::contract::{difference, fields};
use crate::convert::{Ids as _, path_of};
use crate::database::Connection;
use crate::export::each_of;
use crate::id::{Fingerprint, NewId};
use crate::keyring::Keyring;
use crate::mapping::Mapping;
use crate::remap::Remap;
use crate::report::Report;
use crate::resolve::Resolver;
use crate::watch::WatchOfAccounts;

/// The auth backend's database, where nothing else is said: the first account makes it.
pub const ACCOUNTS_DATABASE: &str = "accounts";
/// The auth backend's collection.
pub const COLLECTION: &str = "accounts";
/// Accounts that are kept in memory, with their keys: all of them, since a key may come before its
/// account.
const ACCOUNTS_MAX: usize = 100_000;

/// Why an account is rejected that comes more than once: keys that are entities could be of either.
const TWICE: &str = "it is twice in these exports: give the last one alone";

/// An account, and its keys as far as they are known.
pub(crate) struct Account {
    pub(crate) place: Place,
    pub(crate) path: String,
    id: NewId,
    name: String,
    created: i64,
    pub(crate) keys: Vec<Document>,
    /// As [`Report::looks_like_ids`].
    looks_like_ids: Vec<String>,
    as_mapped: AsMapped,
}

/// The accounts of some exports, as they are to be moved.
pub struct Read {
    accounts: Vec<Account>,
    report: Report,
}

impl Read {
    /// Whether none may be moved.
    pub fn is_refused(&self) -> bool {
        self.report.refused.is_some()
    }
}

/// Reads the accounts. What is there already is never changed, so a second run could not add what the
/// first one had left out. So nothing is moved where there is no account, where a line of the mapping
/// matches none, but for that about keys in the one form where there are keys in the other, or where
/// something of the exports cannot be read; and no account of which a key is rejected.
///
/// # Errors
/// Where the exports cannot be read.
pub fn read(exports: &[PathBuf], mapping: &Mapping, remap: &Remap) -> Result<Read> {
    let mut report = Report::default();
    report.needs_each_line = true;
    let mut watch = WatchOfAccounts::new(mapping)?;
    let accounts = gather(exports, mapping, remap, &mut watch, &mut report)?;
    report.unmatched = watch.unmatched();
    report.refused = why_not(&watch, mapping, &report);
    Ok(Read { accounts, report })
}

/// Moves those that the database lacks; without `connection` it only reports.
///
/// # Errors
/// Where MongoDB does not answer.
pub fn import(read: Read, mapping: &Mapping, connection: Option<&Connection>) -> Result<Report> {
    let is_refused = read.is_refused();
    let Read {
        accounts,
        mut report,
    } = read;
    if is_refused {
        return Ok(report);
    }
    let mut names = HashSet::new();
    for account in accounts {
        if !names.insert(account.name.clone()) {
            let why = "another account of the export has its name: rename one of them";
            report.reject(&account.place, Some(account.path), why);
            continue;
        }
        let (place, path) = (account.place.clone(), account.path.clone());
        match insert(account, connection)? {
            Ok(what) => report.count(&mapping.accounts.kind, what),
            Err(why) => report.reject(&place, Some(path), why),
        }
    }
    Ok(report)
}

/// Why no account may be moved, where that is so.
fn why_not(watch: &WatchOfAccounts<'_>, mapping: &Mapping, report: &Report) -> Option<String> {
    if report.unreadable > 0 || !report.short.is_empty() {
        return Some(
            "a part of these exports cannot be read, or is short by their metadata, and keys of accounts \
             may be in it: correct what its line says, or copy it from the bucket again, or name only the \
             folders of accounts and keys"
                .to_owned(),
        );
    }
    if !watch.is_met {
        return Some(format!(
            "no entity of these exports is of the kind {}, which `kind` under [accounts] names: correct \
             it, or name the export that has the accounts",
            mapping.accounts.kind
        ));
    }
    watch.is_lacking().then(|| {
        "lines under [accounts] match nothing, as the warnings say: correct them, or take out what the \
         old accounts do not have"
            .to_owned()
    })
}

fn insert(
    account: Account,
    connection: Option<&Connection>,
) -> Result<Result<&'static str, String>> {
    let Some(connection) = connection else {
        return Ok(Ok("would be inserted"));
    };
    let (id, name) = (account.id, account.name.clone());
    let Ok(document) = RawDocumentBuf::try_from(&document(account)) else {
        return Ok(Err(
            "a name in it holds NUL, which no document can".to_owned()
        ));
    };
    if connection.is_taken(COLLECTION, "name", &name, id)? {
        let why = "another document of accounts has its name: rename one of them";
        return Ok(Err(why.to_owned()));
    }
    let expected = fields(&document)?;
    let mut results = connection.insert_absent(COLLECTION, &[document])?;
    Ok(match results.pop() {
        Some(Ok(true)) => Ok("inserted"),
        Some(Err(why)) => Err(why),
        _ => {
            let found = connection.find(COLLECTION, &[id])?;
            let found = found.get(&id.to_string()).map_or(&[][..], |found| found);
            match difference(&expected, found) {
                None => Ok("there already"),
                Some(fields) => Err(format!(
                    "it is there and differs in {fields}: it is left, decide by hand"
                )),
            }
        }
    })
}

fn document(account: Account) -> Document {
    let mut document = Document::new();
    document.insert("_id", account.id.to_string());
    document.insert("name", account.name);
    document.insert("creationTime", date(account.created));
    document.insert("apiKeys", account.keys);
    document
}

fn gather(
    exports: &[PathBuf],
    mapping: &Mapping,
    remap: &Remap,
    watch: &mut WatchOfAccounts<'_>,
    report: &mut Report,
) -> Result<Vec<Account>> {
    let names = &mapping.accounts;
    let mut accounts: Vec<Account> = Vec::new();
    let mut keys = Keyring::default();
    let (mut come, mut twice) = (HashSet::new(), HashSet::new());
    each_of(exports, mapping, remap, report, |place, entity, report| {
        watch.meet(&entity);
        if entity.key.kind() == names.kind {
            let path = path_of(&entity.key);
            if !come.insert(path.clone()) {
                twice.insert(path);
            }
            match account(&entity, place, mapping, remap) {
                Ok(account) => {
                    note(&entity, &account, mapping, report);
                    accounts.push(account);
                }
                Err(why) => report.reject(place, Some(path_of(&entity.key)), why),
            }
        } else if names.is_key(entity.key.kind()) {
            keys.add(&entity, place, mapping, remap, report);
        }
        if accounts.len() + keys.count > ACCOUNTS_MAX {
            bail!("more than {ACCOUNTS_MAX} accounts and keys: split the export by account");
        }
        Ok(())
    })?;
    accounts.retain(|account| {
        let is_once = !twice.contains(&account.path);
        if !is_once {
            report.reject(&account.place, Some(account.path.clone()), TWICE);
        }
        is_once
    });
    keys.give(&mut accounts, report);
    Ok(accounts)
}

/// Notes what is not taken over of an account, and what looks like an old id in it.
fn note(entity: &Entity, account: &Account, mapping: &Mapping, report: &mut Report) {
    let names = &mapping.accounts;
    let taken = [
        names.name.as_ref(),
        Some(&names.creation_time),
        names.keys.as_ref(),
    ];
    for (name, _) in &entity.properties {
        if !taken.contains(&Some(name)) {
            report.drop(format!("{}.{name}", names.kind));
        }
    }
    report.note_looks_like_ids(&account.looks_like_ids);
    report.note_as_mapped(&account.as_mapped);
}

fn account(
    entity: &Entity,
    place: &Place,
    mapping: &Mapping,
    remap: &Remap,
) -> Result<Account, String> {
    let names = &mapping.accounts;
    let path = path_of(&entity.key);
    let id = remap.id(Fingerprint::of(&path));
    let id = id.ok_or("it has no new id: run `datastore-migrate ids` over this export first")?;
    let (property, own) = (names.name.as_deref(), entity.key.id());
    let found = property.and_then(|property| entity.get(property));
    let name = match (found, own) {
        (Some(Value::Text(name)), _) => name.clone(),
        (None, Some(Id::Name(name))) => name.clone(),
        _ => {
            return Err(format!(
                "its name is not a text `{}`: name the property that is one as `name`",
                property.unwrap_or("name")
            ));
        }
    };
    let created = entity.get(&names.creation_time).and_then(time_of);
    let created = created.ok_or_else(|| {
        format!(
            "`{}` is not a time: name the property that is one as `creation_time`",
            names.creation_time
        )
    })?;
    let keys = embedded_keys(entity, mapping, remap)?;
    let resolver = Resolver {
        own: &entity.key,
        mapping,
        ids: remap,
    };
    let named = property.filter(|_| found.is_some_and(|name| resolver.looks_like_id(name)));
    let named = named.map(|property| format!("{}.{property}", names.kind));
    let of_keys = keys
        .iter()
        .flat_map(|key| key.looks_like_ids.iter().cloned());
    Ok(Account {
        place: place.clone(),
        path,
        id,
        name,
        created,
        looks_like_ids: named.into_iter().chain(of_keys).collect(),
        as_mapped: (keys.iter().flat_map(|key| key.as_mapped.iter().cloned())).collect(),
        keys: keys.into_iter().map(|key| key.document).collect(),
    })
}

/// The keys in an account's own property.
fn embedded_keys(entity: &Entity, mapping: &Mapping, remap: &Remap) -> Result<Vec<ApiKey>, String> {
    let names = &mapping.accounts;
    let Some(property) = &names.keys else {
        return Ok(Vec::new());
    };
    let at = format!("{}.{property}", names.kind);
    let read = Keys::of(&at, &entity.key, mapping, remap);
    match entity.get(property) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(keys)) => (keys.iter())
            .map(|key| match key {
                Value::Entity(members) => read.read(members),
                _ => Err(format!("`{property}` holds something else than entities")),
            })
            .collect(),
        Some(_) => Err(format!(
            "`{property}` is not a list: name the property that is one as `keys`"
        )),
    }
}
