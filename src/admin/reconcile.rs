//! Look, take one step, look again, until what is found matches the table and a login has proven
//! it. Where the process ends between two steps, the next run continues there.

use std::time::Instant;

use secrecy::SecretString;

use super::look::{Desk, Found, Scene, desk, find};
use super::plan::{self, STEPS_MAX, Step, Wish};
use super::secrets::{Held, contents};
use super::table::{Role, User};
use super::{Failure, proof};
use crate::backoff::Backoff;

/// The most steps in one run, with those that somebody else undid.
const TAKEN_MAX: usize = 2 * STEPS_MAX;

/// The steps of a run, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The steps that were taken, in order; also those before a failure.
    pub steps: Vec<Step>,
    /// How it ended.
    pub ended: Result<Proven, Failure>,
}

/// A user that matches the table.
#[derive(Debug)]
pub struct Proven {
    /// Its Secret.
    pub held: Held,
    /// Roles that it has beyond the table.
    pub extra_roles: Vec<Role>,
    /// What its login showed, for people.
    pub shown: Vec<String>,
}

/// One run, across its retries.
#[derive(Default)]
struct Run {
    desk: Option<Desk>,
    steps: Vec<Step>,
    /// A step whose outcome is unknown.
    attempted: Option<Step>,
    /// The password that the first look found, if it found one.
    first: Option<Option<SecretString>>,
    /// Whether a majority is known to have the next password.
    is_changed: bool,
}

/// Makes one user and its Secret match the table, and proves it. `publish` gets the Secret each
/// time it was read, before anything else happens with it.
pub async fn reconcile(
    scene: Scene<'_>,
    user: &User,
    wish: Wish,
    mut publish: impl FnMut(&Held) -> Result<(), Failure>,
) -> Outcome {
    let (end, mut backoff) = (Instant::now() + wish.patience, Backoff::new());
    let (mut run, mut was_unavailable) = (Run::default(), false);
    let ended = loop {
        match run.turn(scene, user, wish, &mut publish).await {
            Ok(Some(proven)) => break Ok(proven),
            Ok(None) if run.steps.len() < TAKEN_MAX => {}
            Ok(None) => {
                break Err(Failure::Permanent(format!(
                    "the user or its Secret still does not match the table after {TAKEN_MAX} steps: \
                     does another program manage this user or Secret?"
                )));
            }
            Err(Failure::Permanent(why)) if !was_unavailable => {
                break Err(Failure::Permanent(why));
            }
            Err(failure) if Instant::now() > end => break Err(failure),
            Err(failure) => {
                // a server that has just come back may not know all its roles yet
                was_unavailable |= matches!(failure, Failure::Transient(_));
                tracing::debug!(user = user.name, %failure, "retrying");
                // reconnects as the user admin that the Secret names then
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

impl Run {
    /// One look, and one step if one is left: else proves the user.
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
            // it was taken, and its answer was lost
            self.steps.push(step);
        }
        let Some(step) = next else {
            return prove(scene, user, found).await.map(Some);
        };
        tracing::debug!(user = user.name, step = step.name(), "taking a step");
        self.attempted = Some(step.clone());
        let taken = take(scene, user, desk, &found, &step, self.is_changed).await;
        found.close().await;
        taken.map_err(|failure| failure.while_doing(step.name()))?;
        self.is_changed = step == Step::ChangePassword;
        self.attempted = None;
        self.steps.push(step);
        Ok(None)
    }
}

/// What the login of a user shows that has no step left.
async fn prove(scene: Scene<'_>, user: &User, found: Found) -> Result<Proven, Failure> {
    let account = found.facts.account.expect("a user without a step exists");
    let held = found.held.expect("a user without a step has a Secret");
    let session = found.session.expect("a user without a step is logged in");
    let extra_roles = account.extra(user);
    let source = &scene.config.table.auth_database;
    let shown = proof::prove(&session, user, source, !extra_roles.is_empty()).await;
    session.close().await;
    Ok(Proven {
        held,
        extra_roles,
        shown: shown?,
    })
}

async fn take(
    scene: Scene<'_>,
    user: &User,
    desk: &Desk,
    found: &Found,
    step: &Step,
    is_changed: bool,
) -> Result<(), Failure> {
    let held = found.held.as_ref();
    let current = || contents::value(held, &user.keys.password);
    let change_password = async || {
        is_still(scene, user, held).await?;
        let next = contents::value(held, &user.keys.next());
        desk.admin.set_password(user, &next).await
    };
    // What logs in on a primary may be rolled back with it, and the Secret would hold it alone.
    if *step == Step::PromotePassword && !is_changed {
        change_password().await?;
    }
    match step {
        Step::GrantRoles(roles) => desk.admin.grant(user, roles).await,
        Step::RevokeRoles(roles) => desk.admin.revoke(user, roles).await,
        Step::CreateUser => {
            is_still(scene, user, held).await?;
            desk.admin.create(user, &current()).await
        }
        Step::SetMechanism | Step::RestorePassword => {
            is_still(scene, user, held).await?;
            desk.admin.set_password(user, &current()).await
        }
        Step::ChangePassword => change_password().await,
        Step::CreateSecret | Step::MendSecret(_) | Step::StagePassword | Step::PromotePassword => {
            let change = contents::change(scene.config, user, held, step)?;
            scene.store.apply(&user.secret, held, change).await
        }
    }
}

/// Fails where somebody else has changed the Secret since the look: a password of theirs must not
/// be replaced in MongoDB by an older one.
async fn is_still(scene: Scene<'_>, user: &User, held: Option<&Held>) -> Result<(), Failure> {
    let now = scene.store.get(&user.secret).await?;
    match now.map(|now| now.version).as_ref() == held.map(|held| &held.version) {
        true => Ok(()),
        false => Err(Failure::Conflict),
    }
}
