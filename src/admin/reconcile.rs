//! Look, take one step, look again, until what is found is what the table says and a login has proven it. Where the process
//! ends between two steps, the next run begins where this one was.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Failure,
    plan::{self, Facts, Goal, KeyFault, Login, STEPS_MAX, SecretFacts, Step},
    proof,
    secret::{self, Change, Held, PASSWORD_BYTES, Store},
    table::{Role, User},
    users::{Cluster, Credentials, Session, UserAdmin},
};
use crate::{
    backoff::Backoff,
    config::{Admin, mongodb as mongodb_uri},
};

/// The keys of the operator's Secret that hold the user admin.
pub const USER_ADMIN_KEYS: [&str; 2] = ["MONGODB_USER_ADMIN_USER", "MONGODB_USER_ADMIN_PASSWORD"];

/// Steps in one run, and with them those that somebody else undid, before that is an error.
const TAKEN_MAX: usize = 2 * STEPS_MAX;

/// What to reconcile with what.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What `admin` was told.
    pub config: &'a Admin,
    /// Where Secrets are kept.
    pub store: &'a Store,
}

/// When a password is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotate {
    /// Not; a rotation that is under way is finished all the same.
    Never,
    /// Once, unless somebody else just did.
    Now,
    /// When it is older than this.
    OlderThan(Duration),
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// When the password is replaced.
    pub rotate: Rotate,
    /// Whether roles beyond the table's are to go.
    pub prune_roles: bool,
    /// How long what may pass is tried again.
    pub patience: Duration,
}

/// What a run did, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The steps that were taken, in order, also those before a failure.
    pub steps: Vec<Step>,
    /// How it ended.
    pub ended: Result<Proven, Failure>,
}

/// A user that is as the table says.
#[derive(Debug)]
pub struct Proven {
    /// Its Secret.
    pub held: Held,
    /// Roles that it has beyond the table's.
    pub extra_roles: Vec<Role>,
    /// What its login showed, for people.
    pub shown: Vec<String>,
}

/// What was found of a user.
#[derive(Debug)]
pub struct Found {
    /// Its Secret.
    pub held: Option<Held>,
    /// The same, and what MongoDB knows, without values.
    pub facts: Facts,
    /// Logged in with the current password, where that is let in.
    session: Option<Session>,
}

/// The user admin at work on one cluster.
struct Desk {
    cluster: Cluster,
    admin: UserAdmin,
}

/// One run, over tries that failed.
#[derive(Default)]
struct Run {
    desk: Option<Desk>,
    steps: Vec<Step>,
    /// A step whose outcome is not known.
    attempted: Option<Step>,
    /// The password that was there at first.
    first: Option<Option<SecretString>>,
}

/// Brings one user and its Secret to what the table says, and proves it. `publish` is given the Secret each time it was
/// read, before anything else is done with it.
pub async fn reconcile(
    scene: Scene<'_>,
    user: &User,
    wish: Wish,
    mut publish: impl FnMut(&Held) -> Result<(), Failure>,
) -> Outcome {
    let (end, mut backoff) = (Instant::now() + wish.patience, Backoff::new());
    let (mut run, mut was_away) = (Run::default(), false);
    let ended = loop {
        match run.turn(scene, user, wish, &mut publish).await {
            Ok(Some(proven)) => break Ok(proven),
            Ok(None) if run.steps.len() < TAKEN_MAX => {}
            Ok(None) => {
                break Err(Failure::Wrong(format!(
                    "after {TAKEN_MAX} steps it still is not as the table says: does somebody else look after this user or Secret?"
                )));
            }
            Err(Failure::Wrong(why)) if !was_away => break Err(Failure::Wrong(why)),
            Err(failure) if Instant::now() > end => break Err(failure),
            Err(failure) => {
                // a server that has just come back may not know all its roles yet
                was_away |= matches!(failure, Failure::Away(_));
                tracing::debug!(user = user.name, %failure, "trying again");
                // a new connection, as the user admin the Secret names now
                if let Some(desk) = run.desk.take() {
                    desk.admin.close().await;
                }
                backoff.wait().await;
            }
        }
    };
    if let Some(desk) = run.desk {
        desk.admin.close().await;
    }
    Outcome {
        steps: run.steps,
        ended,
    }
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

impl Run {
    /// One look and one step; what was proven where there is none left.
    async fn turn(
        &mut self,
        scene: Scene<'_>,
        user: &User,
        wish: Wish,
        publish: &mut impl FnMut(&Held) -> Result<(), Failure>,
    ) -> Result<Option<Proven>, Failure> {
        let held = scene.store.get(&user.secret).await?;
        if let Some(held) = &held {
            publish(held)?;
        }
        let current = held
            .as_ref()
            .and_then(|held| held.text(&user.keys.password));
        let first = self.first.get_or_insert(current);
        let desk = match &self.desk {
            Some(desk) => desk,
            None => self.desk.insert(desk(scene).await?),
        };
        let found = find(scene, user, desk, held).await?;
        let goal = found.goal(user, wish, first.as_ref());
        let next = plan::next_step(user, &found.facts, goal);
        if let Some(step) = self.attempted.take_if(|step| next.as_ref() != Some(step)) {
            // its answer was lost
            self.steps.push(step);
        }
        let Some(step) = next else {
            let extra_roles = (found.facts.account.as_ref())
                .map(|account| account.extra(user))
                .unwrap_or_default();
            let (Some(held), Some(session)) = (found.held, found.session) else {
                return Err(Failure::Moved);
            };
            let source = &scene.config.table.auth_database;
            let shown = proof::prove(&session, user, source, !extra_roles.is_empty()).await;
            session.close().await;
            return Ok(Some(Proven {
                held,
                extra_roles,
                shown: shown?,
            }));
        };
        tracing::debug!(user = user.name, step = step.name(), "taking a step");
        self.attempted = Some(step.clone());
        let taken = take(scene, user, desk, &found, &step).await;
        found.close().await;
        taken.map_err(|failure| failure.while_doing(step.name()))?;
        self.attempted = None;
        self.steps.push(step);
        Ok(None)
    }
}

/// Who may change users, logged in.
async fn desk(scene: Scene<'_>) -> Result<Desk, Failure> {
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

async fn find(
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
    let secret = (held.as_ref()).map(|held| secret_facts(scene.config, user, held));
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

/// What the Secret lacks of what the table and the configuration say.
fn secret_facts(config: &Admin, user: &User, held: &Held) -> SecretFacts {
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

/// The keys besides the password, with their values.
fn configured(config: &Admin, user: &User) -> Vec<(String, String)> {
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

async fn take(
    scene: Scene<'_>,
    user: &User,
    desk: &Desk,
    found: &Found,
    step: &Step,
) -> Result<(), Failure> {
    let held = found.held.as_ref();
    let current = || value(held, &user.keys.password);
    match step {
        Step::GrantRoles(roles) => desk.admin.grant(user, roles).await,
        Step::RevokeRoles(roles) => desk.admin.revoke(user, roles).await,
        Step::CreateUser => {
            is_still(scene, user, held).await?;
            desk.admin.create(user, &current()?).await
        }
        Step::SetMechanism | Step::RestorePassword => {
            is_still(scene, user, held).await?;
            desk.admin.set_password(user, &current()?).await
        }
        Step::ChangePassword => {
            is_still(scene, user, held).await?;
            desk.admin
                .set_password(user, &value(held, &user.keys.next())?)
                .await
        }
        Step::CreateSecret | Step::MendSecret(_) | Step::StagePassword | Step::PromotePassword => {
            let change = change(scene.config, user, held, step)?;
            scene.store.apply(&user.secret, held, change).await
        }
    }
}

/// Between a look and a password that goes to MongoDB somebody else may have gone further: theirs must not be undone.
async fn is_still(scene: Scene<'_>, user: &User, held: Option<&Held>) -> Result<(), Failure> {
    let now = scene.store.get(&user.secret).await?;
    match now.map(|now| now.version).as_ref() == held.map(|held| &held.version) {
        true => Ok(()),
        false => Err(Failure::Moved),
    }
}

/// What a step writes into the Secret.
fn change(
    config: &Admin,
    user: &User,
    held: Option<&Held>,
    step: &Step,
) -> Result<Change, Failure> {
    let keys = &user.keys;
    let mut change = Change::default();
    match step {
        Step::CreateSecret => {
            let password = secret::random(PASSWORD_BYTES)?;
            change.set(&keys.password, password.expose_secret());
            change.changed_at = Some(Timestamp::now());
            for (key, value) in configured(config, user) {
                change.set(&key, &value);
            }
        }
        Step::MendSecret(faults) => {
            for fault in faults {
                match fault {
                    KeyFault::Missing(key) if *key == keys.password => {
                        let known = held.and_then(|held| known_password(user, held));
                        if known.is_none() {
                            change.changed_at = Some(Timestamp::now());
                        }
                        let password = known.map_or_else(|| secret::random(PASSWORD_BYTES), Ok)?;
                        change.set(key, password.expose_secret());
                    }
                    KeyFault::Missing(key) | KeyFault::Differs(key) => {
                        let configured = configured(config, user);
                        let value = configured.iter().find(|(name, _)| name == key);
                        change.set(key, value.map_or("", |(_, value)| value));
                    }
                    KeyFault::Leftover(key) => change.remove.push(key.clone()),
                }
            }
        }
        Step::StagePassword => {
            let password = secret::random(PASSWORD_BYTES)?;
            change.set(&keys.next(), password.expose_secret());
        }
        Step::PromotePassword => {
            let next = value(held, &keys.next())?;
            change.set(&keys.password, next.expose_secret());
            change.remove.push(keys.next());
            change.changed_at = Some(Timestamp::now());
        }
        _ => {}
    }
    Ok(change)
}

/// A password that the Secret holds elsewhere than under its key: the next one, or that of a URI that somebody wrote.
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

fn value(held: Option<&Held>, key: &str) -> Result<SecretString, Failure> {
    held.and_then(|held| held.text(key)).ok_or(Failure::Moved)
}

fn is_same(now: &SecretString, first: Option<&SecretString>) -> bool {
    first.is_some_and(|first| first.expose_secret() == now.expose_secret())
}
