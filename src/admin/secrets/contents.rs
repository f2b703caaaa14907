//! What a user's Secret should hold, what it lacks of that, and what each step writes into it.

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Change, Held, PASSWORD_BYTES, random};
use crate::admin::Failure;
use crate::admin::config::Admin;
use crate::admin::plan::{KeyFault, SecretFacts, Step};
use crate::admin::table::User;
use crate::config::mongodb as mongodb_uri;

/// Where the Secret differs from the table and the configuration.
pub fn facts(config: &Admin, user: &User, held: &Held) -> SecretFacts {
    let mut faults = Vec::new();
    if held.text(&user.keys.password).is_none() {
        faults.push(KeyFault::Missing(user.keys.password.clone()));
    }
    for (key, value) in configured(config, user) {
        match held.text(&key) {
            None => faults.push(KeyFault::Missing(key)),
            Some(found) if found.expose_secret() != value => faults.push(KeyFault::Differs(key)),
            Some(_) => {}
        }
    }
    let next = user.keys.next();
    let has_next = held.text(&next).is_some();
    if !has_next && held.data.contains_key(&next) {
        faults.push(KeyFault::Leftover(next));
    }
    SecretFacts { faults, has_next }
}

/// What a step of the Secret writes into it.
///
/// # Errors
/// [`Failure::Transient`] where the system has no randomness to give.
pub fn change(
    config: &Admin,
    user: &User,
    held: Option<&Held>,
    step: &Step,
) -> Result<Change, Failure> {
    let keys = &user.keys;
    let mut change = Change::default();
    match step {
        Step::CreateSecret => {
            let password = random(PASSWORD_BYTES)?;
            change.set(&keys.password, password.expose_secret());
            change.changed_at = Some(Timestamp::now());
            for (key, value) in configured(config, user) {
                change.set(&key, &value);
            }
        }
        Step::MendSecret(faults) => {
            for fault in faults {
                mend(config, user, held, fault, &mut change)?;
            }
        }
        Step::StagePassword => {
            let password = random(PASSWORD_BYTES)?;
            change.set(&keys.next(), password.expose_secret());
        }
        Step::PromotePassword => {
            let next = value(held, &keys.next());
            change.set(&keys.password, next.expose_secret());
            change.remove.push(keys.next());
            change.changed_at = Some(Timestamp::now());
        }
        Step::CreateUser
        | Step::GrantRoles(_)
        | Step::RevokeRoles(_)
        | Step::SetMechanism
        | Step::RestorePassword
        | Step::ChangePassword => unreachable!("{} writes to MongoDB", step.name()),
    }
    Ok(change)
}

/// Writes what one key should hold. A password that is known from elsewhere is kept.
fn mend(
    config: &Admin,
    user: &User,
    held: Option<&Held>,
    fault: &KeyFault,
    change: &mut Change,
) -> Result<(), Failure> {
    match fault {
        KeyFault::Missing(key) if *key == user.keys.password => {
            let known = held.and_then(|held| known_password(user, held));
            if known.is_none() {
                change.changed_at = Some(Timestamp::now());
            }
            let password = known.map_or_else(|| random(PASSWORD_BYTES), Ok)?;
            change.set(key, password.expose_secret());
        }
        KeyFault::Missing(key) | KeyFault::Differs(key) => {
            let mut configured = configured(config, user).into_iter();
            let value = configured.find(|(name, _)| name == key);
            let (_, value) = value.expect("only the password and configured keys have faults");
            change.set(key, &value);
        }
        KeyFault::Leftover(key) => change.remove.push(key.clone()),
    }
    Ok(())
}

/// The password that a step is about. The step follows from a Secret that holds it.
pub fn value(held: Option<&Held>, key: &str) -> SecretString {
    held.and_then(|held| held.text(key))
        .expect("a step about a password follows from a Secret that holds it")
}

/// The keys besides the password, with their values.
pub fn configured(config: &Admin, user: &User) -> Vec<(String, String)> {
    let uri = || config.connection_string(user);
    let keys = &user.keys;
    let uri = keys
        .connection_string
        .iter()
        .map(|key| (key.clone(), uri()));
    let database = keys
        .database
        .iter()
        .map(|key| (key.clone(), user.roles[0].db.clone()));
    uri.chain(database).collect()
}

/// A password that the Secret holds under another key: the next one, or one in a URI that somebody
/// wrote.
fn known_password(user: &User, held: &Held) -> Option<SecretString> {
    let in_uri = || {
        let uri = held.text(user.keys.connection_string.as_ref()?)?;
        let parsed = mongodb_uri::parse(uri.expose_secret()).ok()?;
        let credential = parsed
            .credential
            .filter(|found| found.username.as_ref() == Some(&user.name))?;
        credential.password.map(SecretString::from)
    };
    held.text(&user.keys.next()).or_else(in_uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::secrets::{Data, bytes};
    use crate::admin::table::Table;

    fn sink() -> User {
        let sink = ["workflows-sink".to_owned()];
        Table::builtin().select(&sink).unwrap().remove(0)
    }

    fn config() -> Admin {
        Admin::from_vars(std::iter::empty()).unwrap()
    }

    #[test]
    fn a_made_secret_lacks_nothing_and_its_passwords_are_never_the_same() {
        let (config, user) = (config(), sink());
        let make = || change(&config, &user, None, &Step::CreateSecret).unwrap();
        let (one, other) = (Held::from(make().set), Held::from(make().set));
        assert_eq!(facts(&config, &user, &one), SecretFacts::default());
        let password = |held: &Held| held.text(&user.keys.password).unwrap();
        assert_ne!(
            password(&one).expose_secret(),
            password(&other).expose_secret()
        );
        assert!(make().changed_at.is_some() && make().remove.is_empty());
    }

    #[test]
    fn what_is_mended_lacks_nothing_and_a_known_password_is_kept() {
        let (config, user) = (config(), sink());
        let keys = &user.keys;
        let uri = keys.connection_string.clone().unwrap();
        let with_password = "mongodb://workflows-sink:kept@h/";
        for (pairs, kept) in [
            (vec![], None),
            (vec![(keys.password.clone(), "kept")], Some("kept")),
            (vec![(uri.clone(), with_password)], Some("kept")),
            (vec![(uri.clone(), "mongodb://another:not-ours@h/")], None),
            (vec![(uri, "mongodb://no uri at all é")], None),
            (vec![(keys.next(), "kept")], Some("kept")),
            (vec![(keys.password.clone(), ""), (keys.next(), "")], None),
        ] {
            let found = Held::from(
                pairs
                    .iter()
                    .map(|(key, value)| (key.clone(), bytes(value)))
                    .collect::<Data>(),
            );
            let step = Step::MendSecret(facts(&config, &user, &found).faults);
            let written = change(&config, &user, Some(&found), &step).unwrap();
            assert_eq!(written.changed_at.is_none(), kept.is_some(), "{pairs:?}");
            let mut data = found.data.clone();
            data.retain(|key, _| !written.remove.contains(key));
            data.extend(written.set);
            let mended = Held::from(data);
            assert_eq!(facts(&config, &user, &mended).faults, []);
            let password = mended.text(&keys.password).unwrap();
            assert!(
                kept.is_none_or(|kept| password.expose_secret() == kept),
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn a_promoted_password_is_the_staged_one_and_stands_nowhere_else() {
        let (config, user) = (config(), sink());
        let mut data = change(&config, &user, None, &Step::CreateSecret)
            .unwrap()
            .set;
        let staged = change(&config, &user, None, &Step::StagePassword).unwrap();
        assert!(staged.changed_at.is_none() && staged.set.len() == 1);
        data.extend(staged.set);
        let before = Held::from(data);
        assert!(facts(&config, &user, &before).has_next);
        let promoted = change(&config, &user, Some(&before), &Step::PromotePassword).unwrap();
        let next = before.text(&user.keys.next()).unwrap();
        let current = promoted.set[&user.keys.password].expose_secret();
        assert_eq!(current, next.expose_secret().as_bytes());
        assert_eq!(promoted.remove, [user.keys.next()]);
    }
}
