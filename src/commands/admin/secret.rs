//! `admin secret get` and `set`: one value of one Secret.

use std::{
    io::{self, IsTerminal as _, Read as _, Write},
    path::Path,
};

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretSlice};

use super::store;
use crate::admin::Failure;
use crate::admin::config;
use crate::admin::secrets::{self, Change, bytes};
use crate::admin::table::SecretName;
use crate::cli::{Secret, SecretKey};
use crate::config::value;

/// Kubernetes takes no larger Secret.
const VALUE_BYTES_MAX: u64 = 1024 * 1024;

/// How often to try, while somebody else changes the Secret between look and write.
const TRIES_MAX: usize = 10;

pub(super) async fn execute(
    config: &config::Admin,
    command: Secret,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match command {
        Secret::Get { key } => get(config, key, out).await,
        Secret::Set {
            key,
            value,
            value_file,
            random_bytes,
        } => {
            let value = match (value, value_file, random_bytes) {
                (Some(value), _, _) => bytes(value.expose_secret()),
                (_, Some(path), _) => without_line_end(read(&path)?),
                (_, _, Some(count)) => {
                    bytes(secrets::random(usize::try_from(count)?)?.expose_secret())
                }
                _ => bail!("no value is given"),
            };
            set(config, key, value, out).await
        }
    }
}

async fn get(config: &config::Admin, key: SecretKey, out: &mut impl Write) -> anyhow::Result<()> {
    let name = name(&key);
    let store = store(config, key.secrets).await?;
    let shown = store.shown(&name);
    let held = store.get(&name).await?;
    let held = held.with_context(|| format!("there is no Secret {shown}"))?;
    let value = held.data.get(&key.key);
    let value = value.with_context(|| format!("the Secret {shown} has no key {:?}", key.key))?;
    let value = value.expose_secret();
    out.write_all(value)?;
    // A file gets the value alone, so that `set --value-file` takes it back as it was.
    match value.ends_with(b"\n") || !io::stdout().is_terminal() {
        true => Ok(()),
        false => Ok(writeln!(out)?),
    }
}

async fn set(
    config: &config::Admin,
    key: SecretKey,
    value: SecretSlice<u8>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let name = name(&key);
    let store = store(config, key.secrets).await?;
    for _ in 0..TRIES_MAX {
        let held = store.get(&name).await?;
        let found = held.as_ref().and_then(|held| held.data.get(&key.key));
        let (is_new, result) = match found {
            Some(found) if found.expose_secret() == value.expose_secret() => (false, "unchanged"),
            Some(_) => (true, "changed"),
            None => (true, "added"),
        };
        if is_new {
            let mut change = Change::default();
            change.set.insert(key.key.clone(), value.clone());
            match store.apply(&name, held.as_ref(), change).await {
                Err(Failure::Conflict) => continue,
                other => other?,
            }
        }
        writeln!(out, "Secret {}: {} {result}", store.shown(&name), key.key)?;
        return Ok(());
    }
    bail!(
        "somebody else changes the Secret {} all the time",
        store.shown(&name)
    )
}

fn name(key: &SecretKey) -> SecretName {
    SecretName {
        namespace: key.namespace.clone(),
        name: key.secret.clone(),
    }
}

/// The value, without the line end behind it where it is one line of text: that is no part of a
/// password. Certificates and bytes stay as they are.
fn without_line_end(value: SecretSlice<u8>) -> SecretSlice<u8> {
    match std::str::from_utf8(value.expose_secret()).map(value::without_line_end) {
        Ok(line) if !line.contains('\n') => bytes(line),
        _ => value,
    }
}

fn read(path: &Path) -> anyhow::Result<SecretSlice<u8>> {
    let mut value = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => io::stdin()
            .take(VALUE_BYTES_MAX + 1)
            .read_to_end(&mut value),
        false => std::fs::File::open(path)
            .and_then(|file| file.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value)),
    };
    let value = SecretSlice::from(value);
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    if value.expose_secret().len() as u64 > VALUE_BYTES_MAX {
        bail!(
            "{} is larger than 1 MiB, which no Secret may be",
            path.display()
        );
    }
    Ok(value)
}
