//! The table of users: data, from `config/users.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Deserialize;

use super::list;
use crate::config::mongodb::is_database_name;
use crate::record::mapping::without_excerpt;

/// The end of the key of the next password, while a rotation is under way.
pub const NEXT_SUFFIX: &str = "_NEXT";

/// More users than this are a mistake in the file.
const USERS_MAX: usize = 100;
/// Kubernetes' bound on the name of a Secret, and on each of its keys.
const NAME_BYTES_MAX: usize = 253;

/// The rule of [`is_dns`], for messages.
pub const DNS_RULE: &str =
    "Kubernetes takes a-z, 0-9, '-' and '.', with a letter or digit at the ends";
/// The rule of [`is_key`], for messages.
pub const KEY_RULE: &str =
    "Kubernetes takes a-z, A-Z, 0-9, '.', '_' and '-', and no `..` at the start";

/// The users, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The database that they are defined in: `authSource` in a URI.
    pub auth_database: String,
    /// In the order of their names.
    pub users: Vec<User>,
}

/// One user: what it may do, and the Secret that holds its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What it may do: exactly this, and at least one.
    pub roles: Vec<Role>,
    /// Where its password is kept.
    pub secret: SecretName,
    /// What the Secret holds.
    pub keys: Keys,
}

/// A role on a database.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The role's name, such as `readWrite`.
    pub role: String,
    /// The database that it is on.
    pub db: String,
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} on {}", self.role, self.db)
    }
}

/// A Secret's name, and its namespace where one is given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName {
    /// The namespace; none: the one that the command runs in.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl fmt::Display for SecretName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(out, "{namespace}/")?;
        }
        out.write_str(&self.name)
    }
}

/// The keys of a user's Secret.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Of the password.
    pub password: String,
    /// Of a URI that names the user and carries no password.
    pub connection_string: Option<String>,
    /// Of the database's name.
    pub database: Option<String>,
}

impl Keys {
    /// Of the next password, while a rotation is under way.
    pub fn next(&self) -> String {
        format!("{}{NEXT_SUFFIX}", self.password)
    }

    /// Each key, the next password's too.
    pub fn all(&self) -> Vec<String> {
        let optional = [&self.connection_string, &self.database];
        [self.password.clone(), self.next()]
            .into_iter()
            .chain(optional.into_iter().flatten().cloned())
            .collect()
    }
}

/// Why a table cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum TableError {
    /// It is not TOML, or not of this shape.
    #[error("{}", without_excerpt(.0))]
    Shape(#[from] toml::de::Error),
    /// Every fault found in what it says.
    #[error("{}", .0.join("; "))]
    Faults(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    auth_database: String,
    users: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    roles: Vec<Role>,
    namespace: Option<String>,
    secret: String,
    keys: Keys,
}

impl Table {
    /// The table that `config/users.toml` ships.
    pub fn builtin() -> Table {
        Table::parse(include_str!("../../config/users.toml")).expect("the shipped table is tested")
    }

    /// Reads a table in the form of `config/users.toml`.
    ///
    /// # Errors
    /// Not TOML, or not of that shape; else every fault of its contents at once.
    pub fn parse(toml: &str) -> Result<Table, TableError> {
        let file: File = toml::from_str(toml)?;
        let faults = faults(&file);
        if !faults.is_empty() {
            return Err(TableError::Faults(faults));
        }
        let user = |(name, entry): (String, Entry)| User {
            name,
            roles: entry.roles,
            secret: SecretName {
                namespace: entry.namespace,
                name: entry.secret,
            },
            keys: entry.keys,
        };
        Ok(Table {
            auth_database: file.auth_database,
            users: file.users.into_iter().map(user).collect(),
        })
    }

    /// The users of these names, or all where there are none.
    ///
    /// # Errors
    /// A name that is not in the table; the message has those that are.
    pub fn select(&self, names: &[String]) -> Result<Vec<User>, String> {
        if names.is_empty() {
            return Ok(self.users.clone());
        }
        let known = || list(self.users.iter().map(|user| &user.name));
        let wanted: BTreeSet<&String> = names.iter().collect();
        wanted
            .into_iter()
            .map(|name| {
                let found = self.users.iter().find(|user| user.name == *name);
                found
                    .cloned()
                    .ok_or_else(|| format!("no user {name:?} in the table; it has {}", known()))
            })
            .collect()
    }
}

fn faults(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    if !is_database_name(&file.auth_database) {
        faults.push(format!(
            "auth_database: {:?} is not a database name",
            file.auth_database
        ));
    }
    if file.users.is_empty() || file.users.len() > USERS_MAX {
        faults.push(format!(
            "users: {} users, but 1 to {USERS_MAX} are possible",
            file.users.len()
        ));
    }
    let mut secrets = BTreeSet::new();
    for (name, entry) in &file.users {
        let mut add = |fault: String| faults.push(format!("users.{name}: {fault}"));
        if !is_word(name) {
            add("a name is made of a-z, A-Z, 0-9, '.', '_', '-'".to_owned());
        }
        if entry.roles.is_empty() {
            add("it has no role, so it could do nothing".to_owned());
        }
        for role in &entry.roles {
            if !is_word(&role.role) || !is_database_name(&role.db) {
                add(format!("{role}: not the names of a role and a database"));
            }
        }
        if entry.roles.iter().collect::<BTreeSet<_>>().len() < entry.roles.len() {
            add("a role is given twice".to_owned());
        }
        if !is_dns(&entry.secret) || entry.namespace.as_deref().is_some_and(|name| !is_dns(name)) {
            add(format!("secret {:?}: {DNS_RULE}", entry.secret));
        }
        if !secrets.insert((&entry.namespace, &entry.secret)) {
            add(format!(
                "the Secret {:?} belongs to another user too",
                entry.secret
            ));
        }
        let keys = entry.keys.all();
        for key in &keys {
            if !is_key(key) || key.starts_with('.') {
                add(format!("key {key:?}: {KEY_RULE}"));
            }
        }
        if keys.iter().collect::<BTreeSet<_>>().len() < keys.len() {
            add("two keys have the same name".to_owned());
        }
    }
    faults
}

/// Whether Kubernetes takes it as a key of a Secret.
pub fn is_key(name: &str) -> bool {
    is_word(name) && name != "." && !name.starts_with("..") && name.len() <= NAME_BYTES_MAX
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && (name.chars()).all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Whether Kubernetes takes it as the name of a Secret or a namespace.
pub fn is_dns(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(inner)
        && name.ends_with(inner)
        && name.chars().all(|c| inner(c) || "-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_table_is_the_one_that_was_made_by_hand_before() {
        let table = Table::builtin();
        let seen: Vec<String> = (table.users.iter())
            .map(|user| format!("{}: {} in {}", user.name, user.roles[0], user.keys.password))
            .collect();
        assert_eq!(
            seen,
            [
                "auth-backend: readWrite on accounts in \
                 DYFF_MONGODB__AUTH_BACKEND_CREDENTIALS__PASSWORD",
                "query-backend: read on workflows in \
                 DYFF_MONGODB__QUERY_BACKEND_CREDENTIALS__PASSWORD",
                "workflows-sink: readWrite on workflows in \
                 DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD",
            ]
        );
        assert_eq!(table.auth_database, "users");
        assert!(table.users.iter().all(|user| user.roles.len() == 1));
        assert_eq!(table.users[2].secret.to_string(), "workflows-sink-mongodb");
    }

    #[test]
    fn every_fault_of_a_table_is_told_at_once() {
        let text = "auth_database='a b'\n\
            [users.'a b']\nroles=[]\nsecret='Upper'\nkeys.password='a/b'\n\
            [users.b]\nroles=[{role='read',db='x'},{role='read',db='x'}]\nsecret='Upper'\n\
            keys.password='k'\nkeys.database='k_NEXT'\n";
        let Err(TableError::Faults(faults)) = Table::parse(text) else {
            panic!("must be refused")
        };
        assert_eq!(faults.len(), 10, "{faults:#?}");
        assert!(Table::parse("auth_database='users'\nusers={}").is_err());
        assert!(Table::parse("auth_database='users'\nuser={}").is_err());
    }

    #[test]
    fn users_are_chosen_by_name() {
        let table = Table::builtin();
        assert_eq!(table.select(&[]).unwrap().len(), 3);
        let chosen = table.select(&["query-backend".to_owned()]).unwrap();
        assert_eq!(chosen[0].name, "query-backend");
        let fault = table.select(&["nobody".to_owned()]).unwrap_err();
        assert!(fault.contains("auth-backend, query-backend, workflows-sink"));
    }
}
