//! What is found of a user and its Secret, with the rights of the user admin.

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::Failure;
use super::config::{Admin, Credentials, UserAdminFrom};
use super::plan::{Facts, Goal, Login, Rotate, Wish};
use super::secrets::store::Store;
use super::secrets::{Held, contents};
use super::settings::{OPERATOR_SECRET, USER_ADMIN_PASSWORD, USER_ADMIN_USER};
use super::table::User;
use super::users::{Cluster, Session, UserAdmin};

/// The operator's user who may change users.
const USER_ADMIN: &str = "USER_ADMIN";

/// The keys of the operator's Secret for the name and the password of one of its users, which it
/// spells like `USER_ADMIN`.
pub fn operator_keys(user: &str) -> [String; 2] {
    ["USER", "PASSWORD"].map(|part| format!("MONGODB_{user}_{part}"))
}

/// What to reconcile with what.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The configuration.
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
    /// Logged in with the current password, where that is accepted.
    pub(super) session: Option<Session>,
}

/// The user admin at work on one cluster.
pub(super) struct Desk {
    cluster: Cluster,
    pub(super) admin: UserAdmin,
}

/// What is there now. Changes nothing.
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

/// Logs in as the user admin.
pub(super) async fn desk(scene: Scene<'_>) -> Result<Desk, Failure> {
    let credentials = user_admin(scene).await?;
    let cluster = Cluster::new(&scene.config.uri).await?;
    let database = &scene.config.table.auth_database;
    let admin = UserAdmin::login(&cluster, &credentials, database).await?;
    Ok(Desk { cluster, admin })
}

async fn user_admin(scene: Scene<'_>) -> Result<Credentials, Failure> {
    let named = match &scene.config.user_admin {
        UserAdminFrom::Environment(credentials) => return Ok(credentials.clone()),
        UserAdminFrom::Secret(named) => named.as_ref(),
    };
    let name = &scene.config.operator_secret;
    let shown = scene.store.shown(name);
    let missing = |what: String| {
        Failure::Permanent(format!(
            "no user admin: {what}; name another Secret with {}, or set {} and {}",
            OPERATOR_SECRET.name, USER_ADMIN_USER.name, USER_ADMIN_PASSWORD.name
        ))
    };
    let held = scene.store.get(name).await?;
    let held = held.ok_or_else(|| missing(format!("there is no operator's Secret {shown}")))?;
    let text = |key: &str| {
        let text = held.text(key);
        text.ok_or_else(|| missing(format!("the operator's Secret {shown} has no {key}")))
    };
    let [user, password] = operator_keys(USER_ADMIN);
    Ok(Credentials {
        user: match named {
            Some(name) => name.clone(),
            None => text(&user)?.expose_secret().to_owned(),
        },
        password: text(&password)?,
    })
}

/// Whether MongoDB has this user; none where the user admin cannot be asked.
pub async fn is_user(scene: Scene<'_>, user: &User) -> Option<bool> {
    let desk = desk(scene).await.ok()?;
    let account = desk.admin.account(&user.name).await;
    desk.admin.close().await;
    Some(account.ok()?.is_some())
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
