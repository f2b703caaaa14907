//! What is true → what to do next. Pure: each step may be repeated, and the process may end between
//! any two, since the next run asks the same question of what it then finds.
//!
//! A rotation has four steps: the next password is staged in the Secret, from where the sidecars
//! publish it; the user gets it; a login proves it; it is promoted to the current one. Whoever
//! finds a next password tries it, and continues from there.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::list;
use super::table::{Role, User};

/// The only mechanism that users get.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// When a password is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotate {
    /// Never; a rotation that is under way is finished all the same.
    Never,
    /// Once, unless somebody else has just replaced it.
    Now,
    /// When it is older than this.
    OlderThan(Duration),
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// When the password is replaced.
    pub rotate: Rotate,
    /// Whether roles beyond the table's are revoked.
    pub prune_roles: bool,
    /// How long transient failures are retried.
    pub patience: Duration,
}

/// What was found of a user and its Secret, without the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// None: there is no Secret.
    pub secret: Option<SecretFacts>,
    /// None: there is no user.
    pub account: Option<Account>,
    /// Whether the Secret's password is accepted.
    pub current: Login,
    /// Whether its next password is.
    pub next: Login,
}

/// What a Secret holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFacts {
    /// Where it differs from the table; the next password is no fault.
    pub faults: Vec<KeyFault>,
    /// Whether a next password stands beside the current one.
    pub has_next: bool,
}

/// Why a key is not as the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// Absent, empty, or not text.
    Missing(String),
    /// Its value is not the configured one.
    Differs(String),
    /// A next password that is empty, and so should not be there.
    Leftover(String),
}

impl fmt::Display for KeyFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFault::Missing(key) => write!(out, "{key} filled in"),
            KeyFault::Differs(key) => write!(out, "{key} set as configured"),
            KeyFault::Leftover(key) => write!(out, "{key} removed"),
        }
    }
}

/// A user as MongoDB knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What it may do.
    pub roles: BTreeSet<Role>,
    /// How it may log in.
    pub mechanisms: BTreeSet<String>,
}

impl Account {
    /// The roles of the table that it lacks.
    pub fn missing(&self, user: &User) -> Vec<Role> {
        let lacks = |role: &&Role| !self.roles.contains(role);
        user.roles.iter().filter(lacks).cloned().collect()
    }

    /// The roles that it has beyond the table.
    pub fn extra(&self, user: &User) -> Vec<Role> {
        let beyond = |role: &&Role| !user.roles.contains(role);
        self.roles.iter().filter(beyond).cloned().collect()
    }
}

/// The result of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// There is nothing to try.
    Untried,
    /// MongoDB takes the password.
    Accepted,
    /// It does not.
    Refused,
}

/// What is wanted beyond the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goal {
    /// The current password is to be replaced.
    pub rotate: bool,
    /// Roles beyond the table's are revoked.
    pub prune_roles: bool,
}

/// One effect, in MongoDB or in the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Creates the Secret, with a new password.
    CreateSecret,
    /// Repairs keys of the Secret; a password that it has is kept.
    MendSecret(Vec<KeyFault>),
    /// Creates the user, with the Secret's password and the table's roles.
    CreateUser,
    /// Grants the user roles.
    GrantRoles(Vec<Role>),
    /// Revokes roles of the user.
    RevokeRoles(Vec<Role>),
    /// Makes [`MECHANISM`] the user's only mechanism.
    SetMechanism,
    /// Sets the user's password back to the Secret's, under [`MECHANISM`] alone.
    RestorePassword,
    /// Writes a next password into the Secret, beside the current one.
    StagePassword,
    /// Sets the user's password to the next one.
    ChangePassword,
    /// Makes the next password the Secret's current one.
    PromotePassword,
}

impl Step {
    /// One of each kind.
    pub const EACH: [Step; 10] = [
        Step::CreateSecret,
        Step::MendSecret(Vec::new()),
        Step::CreateUser,
        Step::GrantRoles(Vec::new()),
        Step::RevokeRoles(Vec::new()),
        Step::SetMechanism,
        Step::RestorePassword,
        Step::StagePassword,
        Step::ChangePassword,
        Step::PromotePassword,
    ];

    /// Its name in metrics, Events and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Step::CreateSecret => "SecretCreated",
            Step::MendSecret(_) => "SecretMended",
            Step::CreateUser => "UserCreated",
            Step::GrantRoles(_) => "RolesGranted",
            Step::RevokeRoles(_) => "RolesRevoked",
            Step::SetMechanism => "MechanismSet",
            Step::RestorePassword => "PasswordRestored",
            Step::StagePassword => "PasswordStaged",
            Step::ChangePassword => "PasswordChanged",
            Step::PromotePassword => "PasswordPromoted",
        }
    }

    /// Whether it writes to the Secret; else it writes to MongoDB.
    pub fn is_of_secret(&self) -> bool {
        matches!(
            self,
            Step::CreateSecret | Step::MendSecret(_) | Step::StagePassword | Step::PromotePassword
        )
    }

    /// Whether it is part of a rotation; else it repairs what differs from the table.
    pub fn is_of_rotation(&self) -> bool {
        matches!(
            self,
            Step::StagePassword | Step::ChangePassword | Step::PromotePassword
        )
    }
}

/// In the past tense, for reports.
impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::CreateSecret | Step::CreateUser => out.write_str("created"),
            Step::MendSecret(faults) => out.write_str(&list(faults)),
            Step::GrantRoles(roles) => write!(out, "granted {}", list(roles)),
            Step::RevokeRoles(roles) => write!(out, "revoked {}", list(roles)),
            Step::SetMechanism => write!(out, "mechanism set to {MECHANISM}"),
            Step::RestorePassword => write!(
                out,
                "password set to the Secret's, which it was not; {MECHANISM} alone"
            ),
            Step::StagePassword => out.write_str("next password staged"),
            Step::ChangePassword => out.write_str("password set to the next one"),
            Step::PromotePassword => out.write_str("next password promoted"),
        }
    }
}

/// The next step from `facts` to the table and `goal`; none where they are met.
pub fn next_step(user: &User, facts: &Facts, goal: Goal) -> Option<Step> {
    let Some(secret) = &facts.secret else {
        return Some(Step::CreateSecret);
    };
    if !secret.faults.is_empty() {
        return Some(Step::MendSecret(secret.faults.clone()));
    }
    let Some(account) = &facts.account else {
        return Some(Step::CreateUser);
    };
    let missing = account.missing(user);
    if !missing.is_empty() {
        return Some(Step::GrantRoles(missing));
    }
    let extra = account.extra(user);
    if goal.prune_roles && !extra.is_empty() {
        return Some(Step::RevokeRoles(extra));
    }
    // before the mechanism, which is set together with a password: another one would go unsaid
    if !secret.has_next && facts.current == Login::Refused {
        return Some(Step::RestorePassword);
    }
    if !account.mechanisms.iter().eq([MECHANISM]) {
        return Some(Step::SetMechanism);
    }
    match (secret.has_next, facts.next, facts.current) {
        (true, Login::Accepted, _) => Some(Step::PromotePassword),
        (true, _, _) => Some(Step::ChangePassword),
        (false, _, Login::Accepted) if goal.rotate => Some(Step::StagePassword),
        (false, _, Login::Accepted) => None,
        (false, _, _) => Some(Step::RestorePassword),
    }
}

/// What `facts` and `goal` are once `step`, which [`next_step`] gave, was taken: for showing a
/// plan.
pub fn after(user: &User, mut facts: Facts, mut goal: Goal, step: &Step) -> (Facts, Goal) {
    match step {
        Step::CreateSecret => {
            facts.secret = Some(SecretFacts::default());
            facts.current = facts.login_with_new_password();
            goal.rotate = false;
        }
        Step::MendSecret(_) => {
            facts.secret_mut().faults.clear();
            if facts.current == Login::Untried {
                facts.current = facts.login_with_new_password();
            }
        }
        Step::CreateUser => {
            facts.account = Some(Account {
                roles: user.roles.iter().cloned().collect(),
                mechanisms: BTreeSet::from([MECHANISM.to_owned()]),
            });
            facts.current = Login::Accepted;
            if facts.secret_mut().has_next {
                facts.next = Login::Refused;
            }
        }
        Step::GrantRoles(roles) => facts.account_mut().roles.extend(roles.iter().cloned()),
        Step::RevokeRoles(roles) => {
            let account = facts.account_mut();
            account.roles.retain(|role| !roles.contains(role));
        }
        Step::SetMechanism => facts.set_mechanism(),
        Step::RestorePassword => {
            facts.set_mechanism();
            facts.current = Login::Accepted;
        }
        Step::StagePassword => {
            facts.secret_mut().has_next = true;
            facts.next = Login::Refused;
        }
        Step::ChangePassword => (facts.current, facts.next) = (Login::Refused, Login::Accepted),
        Step::PromotePassword => {
            facts.secret_mut().has_next = false;
            (facts.current, facts.next) = (Login::Accepted, Login::Untried);
            goal.rotate = false;
        }
    }
    (facts, goal)
}

impl Facts {
    fn secret_mut(&mut self) -> &mut SecretFacts {
        (self.secret.as_mut()).expect("the Secret is created before every other step")
    }

    fn account_mut(&mut self) -> &mut Account {
        (self.account.as_mut()).expect("the user is created before it is changed")
    }

    fn set_mechanism(&mut self) {
        self.account_mut().mechanisms = BTreeSet::from([MECHANISM.to_owned()]);
    }

    /// A user that is there does not know a password that the Secret has just got.
    fn login_with_new_password(&self) -> Login {
        match self.account {
            Some(_) => Login::Refused,
            None => Login::Untried,
        }
    }
}

/// More steps than from any state to any goal.
pub const STEPS_MAX: usize = 16;

/// Every step from `facts` to the table and `goal`, provided that nobody else changes anything.
pub fn plan(user: &User, facts: &Facts, goal: Goal) -> Vec<Step> {
    let (mut facts, mut goal) = (facts.clone(), goal);
    let mut steps = Vec::new();
    while let Some(step) = next_step(user, &facts, goal) {
        (facts, goal) = after(user, facts, goal, &step);
        steps.push(step);
        assert!(steps.len() < STEPS_MAX, "a plan without an end: {steps:?}");
    }
    steps
}

#[cfg(test)]
mod tests;
