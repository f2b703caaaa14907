//! The mapping file: what becomes of each kind, said and not guessed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use datastore_export::Key;
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::files::hex;

/// The text of the mapping that is compiled in.
pub const BUILTIN: &str = include_str!("../mapping.toml");

/// The default that stands for JSON's null, which TOML lacks.
pub const NULL: &str = "@null";

/// What becomes of the old datastore's entities.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The kind of the ancestor that owns an entity.
    pub account_kind: String,
    /// Accounts that a bare number may belong to as well, by name or number.
    #[serde(default)]
    pub shared_accounts: Vec<String>,
    /// By the old kind.
    pub kinds: BTreeMap<String, Kind>,
    /// How accounts are read.
    pub accounts: Accounts,
    /// The text.
    #[serde(skip)]
    pub text: String,
    /// The SHA-256 of the text.
    #[serde(skip)]
    pub sha256: String,
    /// What people call it: its file, or that it is compiled in.
    #[serde(skip)]
    pub name: String,
}

/// What becomes of the entities of one kind.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kind {
    /// Why they are not moved; everything else is ignored then.
    pub left_out: Option<String>,
    /// The new kind, if it has another name.
    pub kind: Option<String>,
    /// The property that holds the new id; without one, the id follows from the key.
    pub id_from: Option<String>,
    /// The field that gets the new id of the account above.
    pub account: Option<String>,
    /// Whether objects in a bucket belong to them.
    pub objects: bool,
    /// Old name → new name, of top-level properties. An old name may hold dots.
    pub rename: BTreeMap<String, String>,
    /// Values of fields that an entity lacks, by their new names.
    pub defaults: BTreeMap<String, toml::Value>,
    /// Top-level properties that are left out.
    pub drop: Vec<String>,
    /// Properties that name other entities, as a path of names with dots; arrays on it are gone
    /// through. By their old names.
    pub references: BTreeMap<String, Reference>,
    /// What becomes of numbers that JSON lacks (NaN and the infinities).
    pub not_a_number: NotANumber,
}

/// A property that names another entity.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Of which kind.
    pub kind: String,
    /// How it is named.
    pub form: Form,
    /// What becomes of one that names nothing.
    #[serde(default)]
    pub dangling: Dangling,
}

/// What becomes of a reference to what has no new id, or of one that is an empty text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dangling {
    /// Its entity is rejected.
    #[default]
    Reject,
    /// It stays as it is.
    Keep,
    /// It becomes null.
    Null,
}

/// How an entity is named in a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Form {
    /// A value of Datastore's type for keys.
    #[serde(rename = "key")]
    Key,
    /// The number of its key.
    #[serde(rename = "integer")]
    Integer,
    /// A text `account/id`.
    #[serde(rename = "account/id")]
    AccountAndId,
}

/// What becomes of a number that JSON lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotANumber {
    /// Its entity is rejected.
    #[default]
    Reject,
    /// It becomes null.
    Null,
}

/// How accounts and their keys are read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// Their kind.
    pub kind: String,
    /// The property with the name; an account without one is named by its key.
    pub name: Option<String>,
    /// The property with the time of creation.
    pub creation_time: String,
    /// The property with the keys, as embedded entities, if there are such.
    pub keys: Option<String>,
    /// The kind of keys that are entities below an account, if there are such.
    pub key_kind: Option<String>,
    /// When a key ends that never does in the old place: the auth backend reads none without an end.
    pub key_expires_default: Option<Timestamp>,
    /// What the members of a key are called.
    pub key: KeyMembers,
    /// Members of a key that name entities, such as those in its grants; as [`Kind::references`].
    #[serde(default)]
    pub references: BTreeMap<String, Reference>,
}

/// What the members of a key are called in the old datastore.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of the auth backend's APIKey")]
pub struct KeyMembers {
    pub id: String,
    pub subject: String,
    pub created: String,
    pub expires: String,
    pub secret: String,
}

impl Mapping {
    /// The mapping in a file, or the one that is compiled in.
    ///
    /// # Errors
    /// Why it cannot be read, or what in it cannot be meant.
    pub fn load(file: Option<&Path>) -> Result<Mapping> {
        const COMPILED_IN: &str = "the mapping that is compiled in";
        let Some(file) = file else {
            let mapping = Mapping::parse(BUILTIN).context(COMPILED_IN)?;
            return Ok(mapping.called(COMPILED_IN.to_owned()));
        };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the mapping {}", file.display()))?;
        let mapping = Mapping::parse(&text);
        let mapping = mapping.with_context(|| format!("in the mapping {}", file.display()))?;
        Ok(mapping.called(file.display().to_string()))
    }

    fn called(self, name: String) -> Mapping {
        Mapping { name, ..self }
    }

    /// A mapping's text.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Mapping> {
        let mut mapping: Mapping = toml::from_str(text)?;
        mapping.sha256 = hex(Sha256::new().chain_update(text));
        mapping.text = text.to_owned();
        for (name, kind) in &mapping.kinds {
            kind.check(&mapping)
                .with_context(|| format!("kinds.{name}"))?;
        }
        mapping.accounts.check(&mapping).context("accounts")?;
        Ok(mapping)
    }

    /// Whether entities of an old kind are moved.
    pub fn is_moved(&self, kind: &str) -> bool {
        let kind = self.kinds.get(kind);
        kind.is_some_and(|kind| kind.left_out.is_none())
    }

    /// Whether entities of an old kind get ids: those that are moved, and accounts. The name of another
    /// one may be what is secret, such as that of an API key whose kind is misspelt in the mapping.
    pub fn gives_ids(&self, kind: &str) -> bool {
        self.is_moved(kind) || kind == self.account_kind || kind == self.accounts.kind
    }

    /// Whether each entity on the path of a key gets an id, as [`Mapping::gives_ids`], and is no API key:
    /// then the path may be told.
    pub fn gives_ids_on(&self, key: &Key) -> bool {
        let mut kinds = key.path.iter().map(|step| &step.kind);
        kinds.all(|kind| self.gives_ids(kind) && !self.accounts.is_key(kind))
    }

    /// Whether an API key is on the path of a key, or is it: its name may be what is secret.
    pub fn has_api_key(&self, key: &Key) -> bool {
        (key.path.iter()).any(|step| self.accounts.is_key(&step.kind))
    }

    /// Whether a line of the mapping is about an old kind.
    pub fn knows(&self, kind: &str) -> bool {
        let accounts = [&self.account_kind, &self.accounts.kind];
        self.kinds.contains_key(kind)
            || accounts.iter().any(|known| *known == kind)
            || self.accounts.is_key(kind)
    }

    /// Fails for references to what gets no id, or is not moved.
    fn check_references(&self, references: &BTreeMap<String, Reference>) -> Result<()> {
        for (field, reference) in references {
            let Reference { kind, form, .. } = reference;
            ensure!(
                *form != Form::Key || reference.dangling != Dangling::Keep,
                "references.{field} cannot be kept: JSON has no keys; its `dangling` is \"null\" or \
                 \"reject\""
            );
            if *kind == self.accounts.kind {
                // It has an id, though another command moves it.
                ensure!(
                    *form != Form::AccountAndId,
                    "references.{field} names an account, and none is an `account/id`: its form is \
                     \"key\" or \"integer\""
                );
                continue;
            }
            ensure!(
                self.kinds.contains_key(kind),
                "references.{field} names the kind {kind}, which is not in this mapping"
            );
            ensure!(
                self.is_moved(kind) && !self.accounts.is_key(kind),
                "references.{field} names the kind {kind}, which is left out: it would refer to nothing"
            );
        }
        Ok(())
    }
}

impl Accounts {
    /// Whether entities of a kind are API keys.
    pub fn is_key(&self, kind: &str) -> bool {
        self.key_kind.as_deref() == Some(kind)
    }

    fn check(&self, mapping: &Mapping) -> Result<()> {
        mapping.check_references(&self.references)?;
        let KeyMembers {
            id,
            subject,
            created,
            expires,
            secret,
        } = &self.key;
        for member in [id, subject, created, expires, secret] {
            ensure!(
                !self.references.contains_key(member),
                "references.{member} is no reference: [accounts.key] says what it is"
            );
        }
        Ok(())
    }
}

impl Kind {
    fn check(&self, mapping: &Mapping) -> Result<()> {
        mapping.check_references(&self.references)?;
        for (name, value) in &self.defaults {
            ensure!(
                !matches!(name.as_str(), "id" | "kind"),
                "`{name}` has no default: the key and the kind become that"
            );
            ensure!(
                !has_odd_number(value),
                "the default of `{name}` holds a number that JSON lacks"
            );
        }
        let mut names: Vec<&String> = self.rename.values().collect();
        names.extend(&self.account);
        for name in names {
            ensure!(
                !matches!(name.as_str(), "id" | "kind"),
                "nothing may become `{name}`: the key and the kind become that"
            );
        }
        for name in &self.drop {
            if self.rename.contains_key(name) || self.references.contains_key(name) {
                bail!("`{name}` is dropped, and renamed or a reference");
            }
        }
        Ok(())
    }

    /// The new name of a property.
    pub fn renamed<'a>(&'a self, name: &'a str) -> &'a str {
        self.rename.get(name).map_or(name, String::as_str)
    }
}

fn has_odd_number(value: &toml::Value) -> bool {
    match value {
        toml::Value::Float(value) => !value.is_finite(),
        toml::Value::Array(values) => values.iter().any(has_odd_number),
        toml::Value::Table(table) => table.values().any(has_odd_number),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_that_is_compiled_in_has_the_kinds_of_the_page() {
        let mapping = Mapping::load(None).unwrap();
        for kind in [
            "Dataset",
            "Model",
            "InferenceService",
            "Evaluation",
            "Audit",
            "Report",
        ] {
            assert!(mapping.kinds[kind].left_out.is_none(), "{kind}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_said_with_its_place() {
        let mapping = |kind: &str| {
            let accounts = &BUILTIN[BUILTIN.find("[accounts]").unwrap()..];
            let accounts = accounts.replace("# key_kind = ", "key_kind = ");
            format!("account_kind = \"Account\"\n[kinds.A]\n{kind}\n{accounts}")
        };
        for (kind, why) in [
            ("dorp = ['x']", "unknown field `dorp`"),
            (
                "references = { b = { kind = 'B', form = 'key' } }",
                "references.b names the kind B",
            ),
            (
                "references = { b = { kind = 'A', form = 'guess' } }",
                "unknown variant `guess`",
            ),
            (
                "references = { b = { kind = 'A', form = 'key', dangling = 'keep' } }",
                "references.b cannot be kept",
            ),
            ("rename = { x = 'id' }", "nothing may become `id`"),
            (
                "references = { b = { kind = 'Account', form = 'account/id' } }",
                "none is an `account/id`",
            ),
            (
                "references = { b = { kind = 'APIKey', form = 'key' } }\n[kinds.APIKey]",
                "which is left out",
            ),
            ("defaults = { kind = 'B' }", "`kind` has no default"),
            ("defaults = { x = [nan] }", "a number that JSON lacks"),
            (
                "left_out = 'x'\n[kinds.C]\nreferences = { b = { kind = 'A', form = 'key' } }",
                "which is left out",
            ),
            ("drop = ['x']\nrename = { x = 'y' }", "`x` is dropped"),
        ] {
            let error = format!("{:#}", Mapping::parse(&mapping(kind)).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
        for kind in [
            "drop = ['x']",
            "drop = ['x.y']\nrename = { 'x.z' = 'z' }",
            "references = { b = { kind = 'Account', form = 'integer' } }",
        ] {
            assert!(Mapping::parse(&mapping(kind)).is_ok(), "{kind}");
        }
        let of_a_key = "\n[accounts.references]\nsecret = { kind = 'A', form = 'key' }\n";
        let error = Mapping::parse(&(mapping("") + of_a_key)).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("accounts: references.secret is no reference"),
            "{error}"
        );
    }
}
