//! Free ports on loopback.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

/// Below the ports that the kernel gives to outgoing connections, so that a server finds its own
/// again after a restart.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
const ATTEMPTS_MAX: usize = 1_000;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port that nobody listens on and that this process has not been given before.
pub fn free() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..ATTEMPTS_MAX {
        let port = PORTS.start + (random() % u64::from(PORTS.end - PORTS.start)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && given.insert(port) {
            return Ok(port);
        }
    }
    bail!("no free port in {PORTS:?} after {ATTEMPTS_MAX} attempts")
}

/// A number that differs from run to run.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
