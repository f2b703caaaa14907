//! What is true → what to do next. Pure: every step may be repeated and the process may end between any two, since the next
//! run asks the same question of what it then finds.
//!
//! A rotation is four steps of it: the next password is staged in the Secret, from where the sidecars publish it; it is
//! made the user's; a login proves it; it is promoted to the current one. Whoever finds a next password, tries it and goes
//! on from there.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::table::{Role, User};

/// The only mechanism that users get.
pub const MECHANISM: &str = "SCRAM-SHA-256";

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

/// What was found of a user and its Secret, without the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// None: there is no Secret.
    pub secret: Option<SecretFacts>,
    /// None: there is no user.
    pub account: Option<Account>,
    /// Whether the Secret's password is let in.
    pub current: Login,
    /// Whether its next password is.
    pub next: Login,
}

/// What a Secret holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFacts {
    /// What is not as the table says; without the next password.
    pub faults: Vec<KeyFault>,
    /// Whether a next password stands beside the current one.
    pub has_next: bool,
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// Absent, empty, or no text.
    Missing(String),
    /// Another value than the configuration gives.
    Differs(String),
    /// It should not be there: a next password that is empty.
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
    /// The table's roles that it lacks.
    pub fn missing(&self, user: &User) -> Vec<Role> {
        let lacks = |role: &&Role| !self.roles.contains(role);
        user.roles.iter().filter(lacks).cloned().collect()
    }

    /// The roles that it has beyond the table's.
    pub fn extra(&self, user: &User) -> Vec<Role> {
        let beyond = |role: &&Role| !user.roles.contains(role);
        self.roles.iter().filter(beyond).cloned().collect()
    }
}

/// What a login comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// There is nothing to try.
    Untried,
    /// Let in.
    Accepted,
    /// Not let in.
    Refused,
}

/// What is wanted beyond the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goal {
    /// The current password is to be replaced.
    pub rotate: bool,
    /// Roles beyond the table's are to go.
    pub prune_roles: bool,
}

/// One effect, in MongoDB or in the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes the Secret, with a new password.
    CreateSecret,
    /// Brings keys of the Secret in order; a password that it has is kept.
    MendSecret(Vec<KeyFault>),
    /// Makes the user, with the Secret's password and the table's roles.
    CreateUser,
    /// Gives the user roles.
    GrantRoles(Vec<Role>),
    /// Takes roles from it.
    RevokeRoles(Vec<Role>),
    /// Leaves it [`MECHANISM`] alone.
    SetMechanism,
    /// Makes the Secret's password the user's again.
    RestorePassword,
    /// Writes a next password beside the current one.
    StagePassword,
    /// Makes the next password the user's.
    ChangePassword,
    /// Makes the next password the current one, and removes it as next.
    PromotePassword,
}

impl Step {
    /// For metrics and Events.
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

    /// Whether it writes the Secret; else it writes to MongoDB.
    pub fn is_of_secret(&self) -> bool {
        matches!(
            self,
            Step::CreateSecret | Step::MendSecret(_) | Step::StagePassword | Step::PromotePassword
        )
    }
}

/// In the past tense, as a report tells it.
impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: Vec<String>| items.join(", ");
        match self {
            Step::CreateSecret | Step::CreateUser => out.write_str("created"),
            Step::MendSecret(faults) => {
                out.write_str(&list(faults.iter().map(ToString::to_string).collect()))
            }
            Step::GrantRoles(roles) => {
                let roles = list(roles.iter().map(ToString::to_string).collect());
                write!(out, "granted {roles}")
            }
            Step::RevokeRoles(roles) => {
                let roles = list(roles.iter().map(ToString::to_string).collect());
                write!(out, "revoked {roles}")
            }
            Step::SetMechanism => write!(out, "mechanism set to {MECHANISM}"),
            Step::RestorePassword => out.write_str("password set to the Secret's"),
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

/// What `facts` and `goal` are once `step` was taken: for showing a plan.
pub fn after(user: &User, mut facts: Facts, mut goal: Goal, step: &Step) -> (Facts, Goal) {
    let known = |account: bool| {
        if account {
            Login::Refused
        } else {
            Login::Untried
        }
    };
    match step {
        Step::CreateSecret => {
            facts.secret = Some(SecretFacts::default());
            facts.current = known(facts.account.is_some());
            goal.rotate = false;
        }
        Step::MendSecret(_) => {
            if let Some(secret) = &mut facts.secret {
                secret.faults.clear();
            }
            if facts.current == Login::Untried {
                facts.current = known(facts.account.is_some());
            }
        }
        Step::CreateUser => {
            facts.account = Some(Account {
                roles: user.roles.iter().cloned().collect(),
                mechanisms: BTreeSet::from([MECHANISM.to_owned()]),
            });
            facts.current = Login::Accepted;
            if facts.secret.as_ref().is_some_and(|secret| secret.has_next) {
                facts.next = Login::Refused;
            }
        }
        Step::GrantRoles(roles) => {
            if let Some(account) = &mut facts.account {
                account.roles.extend(roles.iter().cloned());
            }
        }
        Step::RevokeRoles(roles) => {
            if let Some(account) = &mut facts.account {
                account.roles.retain(|role| !roles.contains(role));
            }
        }
        Step::SetMechanism => {
            if let Some(account) = &mut facts.account {
                account.mechanisms = BTreeSet::from([MECHANISM.to_owned()]);
            }
        }
        Step::RestorePassword => facts.current = Login::Accepted,
        Step::StagePassword => {
            if let Some(secret) = &mut facts.secret {
                secret.has_next = true;
            }
            facts.next = Login::Refused;
        }
        Step::ChangePassword => {
            facts.next = Login::Accepted;
            facts.current = Login::Refused;
        }
        Step::PromotePassword => {
            if let Some(secret) = &mut facts.secret {
                secret.has_next = false;
            }
            facts.current = Login::Accepted;
            facts.next = Login::Untried;
            goal.rotate = false;
        }
    }
    (facts, goal)
}

/// More steps than any way from anything to the goal.
pub const STEPS_MAX: usize = 16;

/// Every step from `facts` to the table and `goal`, if nobody else does anything meanwhile.
pub fn plan(user: &User, facts: &Facts, goal: Goal) -> Vec<Step> {
    let (mut facts, mut goal) = (facts.clone(), goal);
    let mut steps = Vec::new();
    while let Some(step) = next_step(user, &facts, goal) {
        (facts, goal) = after(user, facts, goal, &step);
        steps.push(step);
        if steps.len() == STEPS_MAX {
            break;
        }
    }
    steps
}

#[cfg(test)]
mod tests;
