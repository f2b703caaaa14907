//! Secrets, and the store that keeps them: Kubernetes, or a directory.

pub mod contents;
pub mod directory;
pub mod kubernetes;
pub mod store;
pub mod volume;

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString, zeroize::Zeroizing};

use super::Failure;
use crate::config::value::without_line_end;

/// A password is this many random bytes, in URL-safe base64 with padding.
pub const PASSWORD_BYTES: usize = 32;

/// More random bytes than this are a mistake on the command line.
pub const RANDOM_BYTES_MAX: usize = 65_536;

/// Values by key.
pub type Data = BTreeMap<String, SecretSlice<u8>>;

/// A Secret as it was found.
#[derive(Clone, Debug)]
pub struct Held {
    /// All of it.
    pub data: Data,
    /// Which state of it that is.
    pub version: Version,
    /// When this program last wrote a new password into it.
    pub changed_at: Option<Timestamp>,
    /// When it was created, as far as that is known.
    pub created_at: Option<Timestamp>,
    /// Whether Kubernetes refuses to change it.
    pub immutable: bool,
    /// The keys that only this program has written: an apply removes those that it leaves out.
    pub(super) owned: BTreeSet<String>,
}

impl Held {
    /// The value of a key as text, without line ends behind it; none where it is absent, empty or
    /// not text.
    pub fn text(&self, key: &str) -> Option<SecretString> {
        let bytes = self.data.get(key)?.expose_secret();
        let text = without_line_end(std::str::from_utf8(bytes).ok()?);
        (!text.is_empty()).then(|| SecretString::from(text))
    }

    /// When the password was last changed, as far as that is known.
    pub fn password_since(&self) -> Option<Timestamp> {
        self.changed_at.or(self.created_at)
    }
}

#[cfg(test)]
impl From<Data> for Held {
    fn from(data: Data) -> Self {
        Held {
            data,
            version: Version {
                uid: String::new(),
                resource: String::new(),
            },
            changed_at: None,
            created_at: None,
            immutable: false,
            owned: BTreeSet::new(),
        }
    }
}

/// A state of a Secret; another one in the same place has another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `metadata.uid`; empty in a directory.
    pub uid: String,
    /// `metadata.resourceVersion`, or the name of the directory that holds the values.
    pub resource: String,
}

/// A change of a Secret. Other keys stay as they are.
#[derive(Debug, Default)]
pub struct Change {
    /// Keys to write.
    pub set: Data,
    /// Keys to remove.
    pub remove: Vec<String>,
    /// When the password changed, where this changes it.
    pub changed_at: Option<Timestamp>,
}

impl Change {
    /// Adds a key to write.
    pub fn set(&mut self, key: &str, value: &str) {
        self.set.insert(key.to_owned(), bytes(value));
    }
}

/// A text as the value of a key.
pub fn bytes(text: &str) -> SecretSlice<u8> {
    SecretSlice::from(text.as_bytes().to_vec())
}

/// Random bytes in URL-safe base64 with padding.
///
/// # Errors
/// [`Failure::Transient`] where the system has no randomness to give.
pub fn random(bytes: usize) -> Result<SecretString, Failure> {
    let mut random = Zeroizing::new(vec![0; bytes]);
    getrandom::fill(&mut random).map_err(|error| {
        Failure::Transient(format!("the system gives no random bytes: {error}"))
    })?;
    Ok(SecretString::from(URL_SAFE.encode(&*random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_32_random_bytes_in_url_safe_base64_with_padding() {
        let (one, other) = (
            random(PASSWORD_BYTES).unwrap(),
            random(PASSWORD_BYTES).unwrap(),
        );
        let text = one.expose_secret();
        assert_eq!((text.len(), text.ends_with('=')), (44, true));
        assert_eq!(URL_SAFE.decode(text).unwrap().len(), PASSWORD_BYTES);
        assert_ne!(text, other.expose_secret());
    }
}
