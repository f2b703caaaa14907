//! What is found of a user and its Secret, on behalf of the user admin.

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::Failure;
use super::config::Admin;
use super::config::Credentials;
use super::plan::{Facts, Goal, Login, Rotate, Wish};
use super::secrets::store::Store;
use super::secrets::{Held, contents};
use super::table::User;
use super::users::{Cluster, Session, UserAdmin};

/// The keys of the operator's Secret that hold the user admin.
pub const USER_ADMIN_KEYS: [&str; 2] = ["MONGODB_USER_ADMIN_USER", "MONGODB_USER_ADMIN_PASSWORD"];

/// What to reconcile with what.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What `admin` was told.
    pub config: &'a Admin,
    /// Where Secrets are kept.
    pub store: &'a Store,
}

/// What was found of a user.
#[derive(Debug)]
pub struct Found {
    /// Its Secret.
    pub held: Option<Held>,
    /// The same, and what MongoDB knows, without values.
    pub facts: Facts,
    /// Logged in with the current password, where that is let in.
    pub(super) session: Option<Session>,
}

/// The user admin at work on one cluster.
pub(super) struct Desk {
    cluster: Cluster,
    pub(super) admin: UserAdmin,
}

/// What is there now, without changing anything.
pub async fn look(scene: Scene<'_>, user: &User) -> Result<Found, Failure> {
    let held = scene.store.get(&user.secret).await?;
    let desk = desk(scene).await?;
    let found = find(scene, user, &desk, held).await;
    desk.admin.close().await;
    found
}

impl Found {
    /// What is wanted beyond the table; `first` is the password that was there at first.
    pub fn goal(&self, user: &User, wish: Wish, first: Option<&SecretString>) -> Goal {
        let since = self.held.as_ref().and_then(Held::password_since);
        let current = self
            .held
            .as_ref()
            .and_then(|held| held.text(&user.keys.password));
        Goal {
            rotate: match wish.rotate {
                Rotate::Never => false,
                Rotate::Now => current.is_some_and(|now| is_same(&now, first)),
                Rotate::OlderThan(age) => since.is_some_and(|since| {
                    Timestamp::now().duration_since(since).unsigned_abs() >= age
                        && since <= Timestamp::now()
                }),
            },
            prune_roles: wish.prune_roles,
        }
    }

    /// Ends its connections.
    pub async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }
}

/// Who may change users, logged in.
pub(super) async fn desk(scene: Scene<'_>) -> Result<Desk, Failure> {
    let credentials = user_admin(scene).await?;
    let cluster = Cluster::new(&scene.config.uri).await?;
    let database = &scene.config.table.auth_database;
    let admin = UserAdmin::login(&cluster, &credentials, database).await?;
    Ok(Desk { cluster, admin })
}

async fn user_admin(scene: Scene<'_>) -> Result<Credentials, Failure> {
    if let Some(credentials) = &scene.config.user_admin {
        return Ok(credentials.clone());
    }
    let name = &scene.config.operator_secret;
    let missing = |what: &str| {
        Failure::Wrong(format!(
            "no user admin: {what} in the operator's Secret {name}; name another Secret with \
             DYFF_WORKFLOWS_SINK_ADMIN__OPERATOR_SECRET, or give user and password by \
             DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_USER and …_PASSWORD"
        ))
    };
    let held = (scene.store.get(name).await?).ok_or_else(|| missing("there is nothing"))?;
    let text = |key: &str| {
        held.text(key)
            .ok_or_else(|| missing(&format!("there is no {key}")))
    };
    let [user, password] = USER_ADMIN_KEYS;
    Ok(Credentials {
        user: text(user)?.expose_secret().to_owned(),
        password: text(password)?,
    })
}

pub(super) async fn find(
    scene: Scene<'_>,
    user: &User,
    desk: &Desk,
    held: Option<Held>,
) -> Result<Found, Failure> {
    let account = desk.admin.account(&user.name).await?;
    let source = &scene.config.table.auth_database;
    let login = async |key: &str| {
        let password = (held.as_ref()).and_then(|held| held.text(key));
        let Some(password) = password.filter(|_| account.is_some()) else {
            return Ok((Login::Untried, None));
        };
        let credentials = Credentials {
            user: user.name.clone(),
            password,
        };
        match desk.cluster.login(&credentials, source).await? {
            Some(session) => Ok((Login::Accepted, Some(session))),
            None => Ok((Login::Refused, None)),
        }
    };
    let (next, session) = login(&user.keys.next()).await?;
    if let Some(session) = session {
        session.close().await;
    }
    let (current, session) = login(&user.keys.password).await?;
    let secret = (held.as_ref()).map(|held| contents::facts(scene.config, user, held));
    Ok(Found {
        held,
        facts: Facts {
            secret,
            account,
            current,
            next,
        },
        session,
    })
}

fn is_same(now: &SecretString, first: Option<&SecretString>) -> bool {
    first.is_some_and(|first| first.expose_secret() == now.expose_secret())
}
