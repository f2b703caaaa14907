//! `accounts`: users and API keys, in the form that the auth backend reads.
//!
//! That form is `{_id, name, creationTime, apiKeys: [{id, subject, created, expires, secret, …}]}`:
//! times are dates, and names unique. What a key's secret is, is never looked at, and nothing of it
//! is in any output.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use anyhow::{Result, bail};
use bson::{Bson, DateTime, Document, RawDocumentBuf};
use datastore_export::{Entity, Id, Key, Place, Step, Value};
use jiff::Timestamp;

use crate::contract::fields;
use crate::convert::{Ids as _, id_in_text, path_of, raw};
use crate::database::Connection;
use crate::export::each_of;
use crate::id::{Fingerprint, NewId};
use crate::mapping::{Accounts, Mapping};
use crate::remap::Remap;
use crate::report::Report;
use crate::verify::difference;

/// The auth backend's collection.
pub const COLLECTION: &str = "accounts";
/// Accounts that are kept in memory, with their keys: all of them, since a key may come before its
/// account.
const ACCOUNTS_MAX: usize = 100_000;

struct Account {
    place: Place,
    path: String,
    id: NewId,
    name: String,
    created: i64,
    keys: Vec<Document>,
}

/// Moves the accounts that the database lacks; without `connection` it only reports.
///
/// # Errors
/// Where the exports cannot be read, or MongoDB does not answer.
pub fn import(
    exports: &[PathBuf],
    mapping: &Mapping,
    remap: &Remap,
    connection: Option<&Connection>,
) -> Result<Report> {
    let mut report = Report::default();
    let accounts = gather(exports, mapping, remap, &mut report)?;
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
    report: &mut Report,
) -> Result<Vec<Account>> {
    let names = &mapping.accounts;
    let mut accounts: Vec<Account> = Vec::new();
    let mut keys = 0;
    let mut below: HashMap<String, Vec<(Place, Document)>> = HashMap::new();
    each_of(exports, mapping, remap, report, |place, entity, report| {
        if entity.key.kind() == names.kind {
            let path = path_of(&entity.key);
            match account(&entity, place, mapping, remap) {
                Ok(account) => {
                    for (name, _) in &entity.properties {
                        if ![&names.name, &names.creation_time, &names.keys].contains(&name) {
                            report.drop(format!("{}.{name}", names.kind));
                        }
                    }
                    accounts.push(account);
                }
                Err(why) => report.reject(place, Some(path), why),
            }
        } else if entity.key.kind() == names.key_kind {
            // Its own path is left out of the report: a key may be named by what is secret.
            let owner = entity.key.parent().map(|key| path_of(&key));
            let key = api_key(&entity.properties, Some(&entity.key), mapping, remap);
            keys += 1;
            match (owner, key) {
                (Some(owner), Ok(key)) => {
                    below.entry(owner).or_default().push((place.clone(), key))
                }
                (None, _) => report.reject(place, None, "a key without an account above it"),
                (owner, Err(why)) => report.reject(place, owner, why),
            }
        }
        if accounts.len() + keys > ACCOUNTS_MAX {
            bail!("more than {ACCOUNTS_MAX} accounts and keys: split the export by account");
        }
        Ok(())
    })?;
    for account in &mut accounts {
        let keys = below.remove(&account.path).unwrap_or_default();
        account.keys.extend(keys.into_iter().map(|(_, key)| key));
        let mut ids = HashSet::new();
        let known = account.keys.len();
        (account.keys).retain(|key| ids.insert(key.get_str("id").unwrap_or_default().to_owned()));
        if account.keys.len() < known {
            let why = "two of its keys have the same id: one was left out";
            report.reject(&account.place, Some(account.path.clone()), why);
        }
    }
    for (owner, keys) in below {
        for (place, _) in keys {
            report.reject(
                &place,
                Some(owner.clone()),
                "a key of an account that is in no export",
            );
        }
    }
    Ok(accounts)
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
    let name = match (entity.get(&names.name), entity.key.id()) {
        (Some(Value::Text(name)), _) => name.clone(),
        (None, Some(Id::Name(name))) => name.clone(),
        _ => {
            return Err(format!(
                "its name is not a text `{}`: name the property that is one as `name`",
                names.name
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
    let keys = match entity.get(&names.keys) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(keys)) => (keys.iter())
            .map(|key| match key {
                Value::Entity(members) => api_key(members, None, mapping, remap),
                _ => Err(format!(
                    "`{}` holds something else than entities",
                    names.keys
                )),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => {
            return Err(format!(
                "`{}` is not a list: name the property that is one as `keys`",
                names.keys
            ));
        }
    };
    Ok(Account {
        place: place.clone(),
        path,
        id,
        name,
        created,
        keys,
    })
}

/// A key's document. `own` is its key where it is an entity: its id, where no member is one.
fn api_key(
    members: &[(String, Value)],
    own: Option<&Key>,
    mapping: &Mapping,
    remap: &Remap,
) -> Result<Document, String> {
    let names = &mapping.accounts.key;
    let wanted = [
        (&names.id, "id"),
        (&names.subject, "subject"),
        (&names.created, "created"),
        (&names.expires, "expires"),
        (&names.secret, "secret"),
    ];
    let mut key = Document::new();
    for (name, value) in members {
        let new = wanted.iter().find(|(old, _)| *old == name);
        let new = new.map_or(name.as_str(), |(_, new)| new);
        let value = match (new, value) {
            ("subject", Value::Text(subject)) => {
                Bson::String(new_subject(subject, &mapping.accounts, remap)?)
            }
            ("created" | "expires", value) => {
                let time = time_of(value);
                date(time.ok_or_else(|| format!("a key's `{name}` is not a time"))?)
            }
            (_, value) => bson_of(value),
        };
        if key.insert(new, value).is_some() {
            return Err(format!("two members of a key become `{new}`"));
        }
    }
    if !key.contains_key("id")
        && let Some(id) = own.and_then(Key::id)
    {
        key.insert("id", raw(id));
    }
    let is_text = |name: &str| key.get_str(name).is_ok();
    let is_time = |name: &str| key.get_datetime(name).is_ok();
    let has_secret = !matches!(key.get("secret"), None | Some(Bson::Null));
    let has_texts = is_text("id") && is_text("subject");
    match has_texts && is_time("created") && is_time("expires") && has_secret {
        true => Ok(key),
        false => Err(
            "a key lacks its id, subject, created, expires or secret: see [accounts.key]"
                .to_owned(),
        ),
    }
}

/// `Account/OLD` with the new id; a subject of another kind as it is.
fn new_subject(subject: &str, names: &Accounts, remap: &Remap) -> Result<String, String> {
    let Some((kind, old)) = subject
        .split_once('/')
        .filter(|(kind, _)| *kind == names.kind)
    else {
        return Ok(subject.to_owned());
    };
    let step = Step {
        kind: kind.to_owned(),
        id: id_in_text(old),
    };
    let id = remap.id(Fingerprint::of(step.to_string()));
    let id =
        id.ok_or("a key's subject is an account that has no new id: look for it in the export")?;
    Ok(format!("{kind}/{id}"))
}

/// A value as the auth backend's driver writes it: times are dates.
fn bson_of(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(value) => Bson::Boolean(*value),
        Value::Integer(value) => match i32::try_from(*value) {
            Ok(value) => Bson::Int32(value),
            Err(_) => Bson::Int64(*value),
        },
        Value::Double(value) => Bson::Double(*value),
        Value::Timestamp(microseconds) => date(*microseconds),
        Value::Text(text) => Bson::String(text.clone()),
        Value::Blob(bytes) => Bson::Binary(bson::Binary {
            subtype: bson::spec::BinarySubtype::Generic,
            bytes: bytes.clone(),
        }),
        Value::Key(key) => Bson::String(path_of(key)),
        Value::Point {
            latitude,
            longitude,
        } => bson::doc! { "latitude": latitude, "longitude": longitude }.into(),
        Value::Entity(members) => Bson::Document(
            (members.iter())
                .map(|(name, value)| (name.clone(), bson_of(value)))
                .collect(),
        ),
        Value::Array(values) => Bson::Array(values.iter().map(bson_of).collect()),
    }
}

/// Microseconds since 1970. Plain JSON has no times, but texts (RFC 3339).
fn time_of(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp(microseconds) => Some(*microseconds),
        Value::Text(text) => Some(text.parse::<Timestamp>().ok()?.as_microsecond()),
        _ => None,
    }
}

/// A date has milliseconds: what is below is cut, as the auth backend's driver cuts it.
fn date(microseconds: i64) -> Bson {
    Bson::DateTime(DateTime::from_millis(microseconds.div_euclid(1000)))
}
