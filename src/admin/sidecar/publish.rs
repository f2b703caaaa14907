//! A user's Secret in a directory that the service watches: the memory volume of the pod.

use std::{collections::BTreeMap, io, path::Path};

use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};

use crate::admin::Failure;
use crate::admin::config::Admin;
use crate::admin::secrets::Held;
use crate::admin::secrets::contents;
use crate::admin::secrets::volume::{self, Readers};
use crate::admin::table::User;
use crate::config::volume::Files;

/// Makes `directory` show the passwords that the Secret holds, the next one too, and the other keys
/// of the table as they are configured: while another configuration is rolled out, the Secret's
/// are those of whichever sidecar wrote last. `true`: it did not before.
///
/// # Errors
/// [`Failure::Transient`] where it cannot be written: a full volume may have room again.
pub fn publish(
    directory: &Path,
    config: &Admin,
    user: &User,
    held: &Held,
) -> Result<bool, Failure> {
    let mut values: BTreeMap<String, SecretString> = (user.keys.all().into_iter())
        .filter_map(|key| Some((key.clone(), held.text(&key)?)))
        .collect();
    let configured = contents::configured(config, user).into_iter();
    values.extend(configured.map(|(key, value)| (key, SecretString::from(value))));
    let files: BTreeMap<String, &[u8]> = (values.iter())
        .map(|(key, value)| (key.clone(), value.expose_secret().as_bytes()))
        .collect();
    // for the service, half a Secret is worse than the last whole one
    if !files.contains_key(&user.keys.password) {
        return Ok(false);
    }
    let published = shows(directory, &files).and_then(|shown| match shown {
        true => Ok(false),
        false => volume::publish(directory, &files, Readers::Group).map(|()| true),
    });
    published.map_err(|error| {
        Failure::Transient(format!(
            "{} cannot be written: {error}",
            directory.display()
        ))
    })
}

fn shows(directory: &Path, files: &BTreeMap<String, &[u8]>) -> io::Result<bool> {
    let Files::Linked(folder) = Files::of(directory)? else {
        return Ok(false);
    };
    let shown = match volume::read(&folder) {
        Ok(shown) => shown,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let shown: BTreeMap<String, Zeroizing<Vec<u8>>> = (shown.into_iter())
        .map(|(name, value)| (name, Zeroizing::new(value)))
        .collect();
    let through_link = |name: &String| directory.join(name).exists();
    Ok(shown.len() == files.len()
        && (files.iter()).all(|(name, value)| {
            shown
                .get(name)
                .is_some_and(|shown| shown.as_slice() == *value)
                && through_link(name)
        }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::admin::secrets::{Data, bytes};
    use crate::admin::table::Table;

    fn user(name: &str) -> User {
        Table::builtin()
            .select(&[name.to_owned()])
            .unwrap()
            .remove(0)
    }

    fn config() -> Admin {
        Admin::from_vars(std::iter::empty()).unwrap()
    }

    fn held(pairs: &[(&str, &str)]) -> Held {
        let data = pairs.iter();
        data.map(|(key, value)| ((*key).to_owned(), bytes(value)))
            .collect::<Data>()
            .into()
    }

    #[test]
    fn the_keys_of_the_table_are_shown_and_written_only_when_they_change() {
        let user = user("query-backend");
        let (key, root) = (user.keys.password.clone(), tempfile::tempdir().unwrap());
        let (directory, next) = (root.path(), user.keys.next());
        let config = config();
        let put =
            |pairs: &[(&str, &str)]| publish(directory, &config, &user, &held(pairs)).unwrap();
        assert!(!put(&[("OTHER", "1")]) && !put(&[(&key, "")]));
        assert!(put(&[(&key, "1"), ("OTHER", "1")]));
        assert!(!put(&[(&key, "1")]));
        assert!(!directory.join("OTHER").exists());
        assert!(put(&[(&key, "1"), (&next, "2")]));
        assert_eq!(fs::read(directory.join(&next)).unwrap(), b"2");
        assert!(put(&[(&key, "2")]));
        assert!(!directory.join(&next).exists());
        fs::remove_file(directory.join(&key)).unwrap();
        assert!(
            put(&[(&key, "2")]),
            "a link that somebody removed comes back"
        );
        assert!(!put(&[]) && fs::read(directory.join(&key)).unwrap() == b"2");
    }

    #[test]
    fn a_uri_is_shown_as_it_is_configured_and_a_password_as_the_secret_has_it() {
        let user = user("workflows-sink");
        let (config, root) = (config(), tempfile::tempdir().unwrap());
        let uri = user.keys.connection_string.clone().unwrap();
        let of_another = [(&*user.keys.password, "1"), (&*uri, "mongodb://another/")];
        publish(root.path(), &config, &user, &held(&of_another)).unwrap();
        let shown = |key: &str| fs::read_to_string(root.path().join(key)).unwrap();
        assert_eq!(shown(&user.keys.password), "1");
        assert_eq!(shown(&uri), config.connection_string(&user));
    }
}
