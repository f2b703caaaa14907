//! New ids, and old paths as short numbers.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// An id of the new system: 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NewId(pub u128);

impl NewId {
    /// The id that a seed gives to a key path: the UUIDv5 (RFC 9562) of the path in the namespace
    /// that is the UUIDv5 of the seed among URLs. In Python:
    /// `uuid5(uuid5(NAMESPACE_URL, seed), path).hex`.
    pub fn of(seed: &str, path: &str) -> NewId {
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, seed.as_bytes());
        NewId(Uuid::new_v5(&namespace, path.as_bytes()).as_u128())
    }
}

impl fmt::Display for NewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for NewId {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<NewId> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        ensure!(
            text.len() == 32 && text.bytes().all(is_digit),
            "{text:?} is no id: 32 lower-case hex digits are one"
        );
        Ok(NewId(u128::from_str_radix(text, 16)?))
    }
}

/// A text by the first half of its SHA-256: 16 bytes stand for it in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fingerprint(pub u128);

impl Fingerprint {
    /// Of these bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Fingerprint {
        let digest = Sha256::digest(bytes);
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Fingerprint(u128::from_be_bytes(half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python's `uuid` module gives it.
    #[test]
    fn anyone_can_make_an_id_again() {
        let id = NewId::of("project", "Account:public/Evaluation:5634161670881280");
        assert_eq!(id.to_string(), "b5ea7399341f56b1bea21f6b7361eefd");
        assert_eq!(id.to_string().parse::<NewId>().unwrap(), id);
        for text in [
            "",
            "0",
            "G0000000000000000000000000000000",
            "ABCDEFABCDEFABCDEFABCDEFABCDEFAB",
        ] {
            assert!(text.parse::<NewId>().is_err(), "{text}");
        }
    }
}
