//! API keys, in the form that the auth backend reads: `{id, subject, created, expires, secret, …}`,
//! times as dates.
//!
//! What a key's secret is, is never looked at, and nothing of it is in any output.

use bson::{Bson, DateTime, Document};
use datastore_export::{Key, Step, Value};
use jiff::Timestamp;

use crate::convert::{Ids as _, raw};
use crate::id::Fingerprint;
use crate::mapping::{Accounts, Mapping};
use crate::remap::Remap;
use crate::resolve::{KEPT, NULL, Named, Resolver, id_in_text};

/// What becomes of the end of a key that has none.
const ENDS: &str = "is null: `key_expires_default`";

/// As [`Report::as_mapped`](crate::report::Report::as_mapped).
pub(crate) type AsMapped = Vec<(String, &'static str)>;

/// A key as the auth backend reads it.
pub(crate) struct ApiKey {
    pub(crate) document: Document,
    /// Members whose values look like ids of old entities and that the mapping does not call
    /// references.
    pub(crate) looks_like_ids: Vec<String>,
    /// Members that name nothing or have no end, and what becomes of them.
    pub(crate) as_mapped: AsMapped,
}

/// The keys of one entity: those in an account, or the one that it is.
pub(crate) struct Keys<'a> {
    /// What they are called in a report.
    at: &'a str,
    names: &'a Accounts,
    resolver: Resolver<'a, Remap>,
}

impl<'a> Keys<'a> {
    /// Those of the entity with the key `own`, which a report calls `at`.
    pub(crate) fn of(at: &'a str, own: &'a Key, mapping: &'a Mapping, ids: &'a Remap) -> Keys<'a> {
        Keys {
            at,
            names: &mapping.accounts,
            resolver: Resolver { own, mapping, ids },
        }
    }

    /// A key of these members.
    ///
    /// # Errors
    /// Why it cannot be moved, without a value of it.
    pub(crate) fn read(&self, members: &[(String, Value)]) -> Result<ApiKey, String> {
        let names = &self.names.key;
        let wanted = [
            (&names.id, "id"),
            (&names.subject, "subject"),
            (&names.created, "created"),
            (&names.expires, "expires"),
            (&names.secret, "secret"),
        ];
        let (mut key, mut looks_like_ids) = (Document::new(), Vec::new());
        let mut as_mapped = Vec::new();
        for (name, value) in members {
            let new = wanted.iter().find(|(old, _)| *old == name);
            let new = new.map_or(name.as_str(), |(_, new)| new);
            if new != "secret" {
                self.watch(name, value, &mut looks_like_ids);
            }
            let value = match (new, value) {
                ("subject", Value::Text(subject)) => Bson::String(self.subject(subject)?),
                ("expires", Value::Null) => match self.names.key_expires_default {
                    Some(end) => {
                        as_mapped.push((self.named(name), ENDS));
                        date(end.as_microsecond())
                    }
                    None => {
                        return Err(format!(
                            "a key's `{name}` is null, and the auth backend reads no key without an \
                             end: say with `key_expires_default` under [accounts] when it ends"
                        ));
                    }
                },
                ("created" | "expires", value) => {
                    let time = time_of(value);
                    date(time.ok_or_else(|| format!("a key's `{name}` is not a time"))?)
                }
                (_, value) => self.value(name, value, &mut as_mapped)?,
            };
            if key.insert(new, value).is_some() {
                return Err(format!("two members of a key become `{new}`"));
            }
        }
        let own = self.resolver.own;
        if !key.contains_key("id")
            && self.names.is_key(own.kind())
            && let Some(id) = own.id()
        {
            key.insert("id", raw(id));
        }
        let is_text = |name: &str| key.get_str(name).is_ok();
        let is_time = |name: &str| key.get_datetime(name).is_ok();
        let has_secret = !matches!(key.get("secret"), None | Some(Bson::Null));
        let has_texts = is_text("id") && is_text("subject");
        match has_texts && is_time("created") && is_time("expires") && has_secret {
            true => Ok(ApiKey {
                document: key,
                looks_like_ids,
                as_mapped,
            }),
            false => Err(
                "a key lacks its id, subject, created, expires or secret: see [accounts.key]"
                    .to_owned(),
            ),
        }
    }

    /// `Account/OLD` with the new id; a subject of another kind as it is.
    fn subject(&self, subject: &str) -> Result<String, String> {
        let account = subject.split_once('/');
        let Some((kind, old)) = account.filter(|(kind, _)| *kind == self.names.kind) else {
            return Ok(subject.to_owned());
        };
        let step = Step {
            kind: kind.to_owned(),
            id: id_in_text(old),
        };
        let id = self.resolver.ids.id(Fingerprint::of(step.to_string()));
        let id = id
            .ok_or("a key's subject is an account that has no new id: look for it in the export")?;
        Ok(format!("{kind}/{id}"))
    }

    /// A value as the auth backend's driver writes it: times are dates, and what the mapping calls a
    /// reference is the new id. `at` is the path of old names with dots, within the key.
    fn value(&self, at: &str, value: &Value, as_mapped: &mut AsMapped) -> Result<Bson, String> {
        if let Value::Array(values) = value {
            let values = values.iter().map(|value| self.value(at, value, as_mapped));
            return Ok(Bson::Array(values.collect::<Result<_, _>>()?));
        }
        if let Some(reference) = self.names.references.get(at) {
            let found = self.resolver.resolve(self.named(at), value, reference);
            match found.map_err(|rejection| rejection.to_string())? {
                Named::Entity(refers) => return Ok(Bson::String(refers.id.to_string())),
                Named::Nothing => return Ok(Bson::Null),
                Named::Null => {
                    as_mapped.push((self.named(at), NULL));
                    return Ok(Bson::Null);
                }
                Named::AsItIs => as_mapped.push((self.named(at), KEPT)),
            }
        }
        Ok(match value {
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
            Value::Key(_) => {
                return Err(format!(
                    "{} holds a key and is no reference by the mapping: declare it under \
                     [accounts.references], or correct it at its source",
                    self.named(at)
                ));
            }
            Value::Point {
                latitude,
                longitude,
            } => bson::doc! { "latitude": latitude, "longitude": longitude }.into(),
            Value::Entity(members) => {
                let mut inner = Document::new();
                for (name, value) in members {
                    let value = self.value(&format!("{at}.{name}"), value, as_mapped)?;
                    inner.insert(name, value);
                }
                Bson::Document(inner)
            }
            Value::Array(_) => unreachable!("arrays are above"),
        })
    }

    /// Notes what looks like an old id and is no reference by the mapping: it is not touched.
    fn watch(&self, at: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.watch(at, value, found)),
            _ if self.names.references.contains_key(at) => {}
            Value::Entity(members) => members
                .iter()
                .for_each(|(name, value)| self.watch(&format!("{at}.{name}"), value, found)),
            value if self.resolver.looks_like_id(value) => found.push(self.named(at)),
            _ => {}
        }
    }

    fn named(&self, at: &str) -> String {
        format!("{}.{at}", self.at)
    }
}

/// Microseconds since 1970. Plain JSON has no times, but texts (RFC 3339).
pub(crate) fn time_of(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp(microseconds) => Some(*microseconds),
        Value::Text(text) => Some(text.parse::<Timestamp>().ok()?.as_microsecond()),
        _ => None,
    }
}

/// A date has milliseconds: what is below is cut, as the auth backend's driver cuts it.
pub(crate) fn date(microseconds: i64) -> Bson {
    Bson::DateTime(DateTime::from_millis(microseconds.div_euclid(1000)))
}
