use proptest::prelude::*;

use super::*;
use crate::admin::table::Table;

fn user() -> User {
    let sink = ["workflows-sink".to_owned()];
    Table::builtin().select(&sink).unwrap().remove(0)
}

fn role(role: &str, db: &str) -> Role {
    Role {
        role: role.to_owned(),
        db: db.to_owned(),
    }
}

fn account(roles: &[(&str, &str)], mechanisms: &[&str]) -> Account {
    Account {
        roles: roles.iter().map(|(name, db)| role(name, db)).collect(),
        mechanisms: mechanisms.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn good() -> Facts {
    Facts {
        secret: Some(SecretFacts::default()),
        account: Some(account(&[("readWrite", "workflows")], &[MECHANISM])),
        current: Login::Accepted,
        next: Login::Untried,
    }
}

fn nothing() -> Facts {
    Facts {
        secret: None,
        account: None,
        current: Login::Untried,
        next: Login::Untried,
    }
}

fn names(facts: &Facts, goal: Goal) -> Vec<&'static str> {
    plan(&user(), facts, goal).iter().map(Step::name).collect()
}

const ROTATE: Goal = Goal {
    rotate: true,
    prune_roles: false,
};

#[test]
fn what_is_right_is_left_alone() {
    assert_eq!(plan(&user(), &good(), Goal::default()), []);
}

#[test]
fn from_nothing_the_secret_comes_first_so_that_no_password_is_known_to_mongodb_alone() {
    assert_eq!(
        names(&nothing(), Goal::default()),
        ["SecretCreated", "UserCreated"]
    );
    assert_eq!(names(&nothing(), ROTATE), ["SecretCreated", "UserCreated"]);
}

#[test]
fn a_rotation_stages_changes_and_promotes() {
    let steps = ["PasswordStaged", "PasswordChanged", "PasswordPromoted"];
    assert_eq!(names(&good(), ROTATE), steps);
}

#[test]
fn a_rotation_that_was_left_is_finished_from_what_is_true() {
    for (current, next, steps) in [
        // staged
        (
            Login::Accepted,
            Login::Refused,
            &["PasswordChanged", "PasswordPromoted"][..],
        ),
        // changed
        (Login::Refused, Login::Accepted, &["PasswordPromoted"]),
        // both the same
        (Login::Accepted, Login::Accepted, &["PasswordPromoted"]),
        // changed by somebody else meanwhile
        (
            Login::Refused,
            Login::Refused,
            &["PasswordChanged", "PasswordPromoted"],
        ),
    ] {
        let mut facts = good();
        facts.secret.as_mut().unwrap().has_next = true;
        (facts.current, facts.next) = (current, next);
        assert_eq!(names(&facts, Goal::default()), steps);
        assert_eq!(
            names(&facts, ROTATE),
            steps,
            "a rotation under way is the one asked for"
        );
    }
}

#[test]
fn each_drift_is_mended_by_itself() {
    let with = |change: fn(&mut Facts)| {
        let mut facts = good();
        change(&mut facts);
        names(&facts, Goal::default())
    };
    assert_eq!(
        with(|facts| (facts.secret, facts.current) = (None, Login::Untried)),
        ["SecretCreated", "PasswordRestored"]
    );
    assert_eq!(
        with(|facts| {
            let faults = vec![KeyFault::Differs("K".to_owned())];
            facts.secret.as_mut().unwrap().faults = faults;
        }),
        ["SecretMended"]
    );
    assert_eq!(
        with(|facts| (facts.account, facts.current) = (None, Login::Untried)),
        ["UserCreated"]
    );
    assert_eq!(
        with(|facts| facts.account = Some(account(&[], &[MECHANISM]))),
        ["RolesGranted"]
    );
    assert_eq!(
        with(|facts| facts.current = Login::Refused),
        ["PasswordRestored"]
    );
    assert_eq!(
        with(|facts| facts.account.as_mut().unwrap().mechanisms.clear()),
        ["MechanismSet"]
    );
    // `updateUser` with a password and no mechanism allows every mechanism
    let by_hand = |facts: &mut Facts| {
        let mechanisms = &mut facts.account.as_mut().unwrap().mechanisms;
        mechanisms.insert("SCRAM-SHA-1".to_owned());
        facts.current = Login::Refused;
    };
    assert_eq!(with(by_hand), ["PasswordRestored"]);
    let said = Step::RestorePassword.to_string();
    assert!(said.contains("the Secret's, which it was not"), "{said}");
}

#[test]
fn roles_beyond_the_table_stay_unless_they_are_to_go() {
    let mut facts = good();
    let roles = [("readWrite", "workflows"), ("dbAdmin", "workflows")];
    facts.account = Some(account(&roles, &[MECHANISM]));
    assert_eq!(plan(&user(), &facts, Goal::default()), []);
    let prune = Goal {
        prune_roles: true,
        ..Goal::default()
    };
    assert_eq!(
        plan(&user(), &facts, prune),
        [Step::RevokeRoles(vec![role("dbAdmin", "workflows")])]
    );
    let extra = facts.account.unwrap().extra(&user());
    assert_eq!(extra, [role("dbAdmin", "workflows")]);
}

fn facts() -> impl Strategy<Value = Facts> {
    let login = || prop_oneof![Just(Login::Accepted), Just(Login::Refused)];
    let secret = prop::option::of((any::<bool>(), any::<bool>()));
    let known = prop::option::of((any::<[bool; 3]>(), any::<[bool; 2]>()));
    (secret, known, login(), login()).prop_map(|(secret, known, current, next)| {
        let secret = secret.map(|(faulty, has_next)| SecretFacts {
            faults: if faulty {
                vec![KeyFault::Differs("K".to_owned())]
            } else {
                vec![]
            },
            has_next,
        });
        let known = known.map(|(roles, mechanisms)| {
            let chosen = [
                ("readWrite", "workflows"),
                ("read", "workflows"),
                ("root", "admin"),
            ];
            let roles: Vec<_> = (chosen.into_iter().zip(roles))
                .filter_map(|(role, has)| has.then_some(role))
                .collect();
            let mechanisms: Vec<_> = ([MECHANISM, "SCRAM-SHA-1"].into_iter().zip(mechanisms))
                .filter_map(|(name, has)| has.then_some(name))
                .collect();
            account(&roles, &mechanisms)
        });
        let tried = secret.is_some() && known.is_some();
        Facts {
            current: if tried { current } else { Login::Untried },
            next: match &secret {
                Some(secret) if secret.has_next && tried => next,
                _ => Login::Untried,
            },
            secret,
            account: known,
        }
    })
}

proptest! {
    /// From whatever is found the goal is reached; also after a kill between any two steps, since
    /// nothing counts but what is found.
    #[test]
    fn every_state_leads_to_the_goal(facts in facts(), rotate: bool, prune_roles: bool) {
        let user = user();
        let goal = Goal { rotate, prune_roles };
        let steps = plan(&user, &facts, goal);
        prop_assert!(steps.len() < STEPS_MAX, "{steps:?}");
        let (mut now, mut left) = (facts, goal);
        for step in &steps {
            // no password is ever made MongoDB's that the Secret does not hold
            if matches!(step, Step::CreateUser | Step::RestorePassword | Step::ChangePassword) {
                prop_assert!(now.secret.as_ref().is_some_and(|secret| secret.faults.is_empty()));
            }
            (now, left) = after(&user, now, left, step);
        }
        prop_assert_eq!(next_step(&user, &now, left), None);
        prop_assert!(!left.rotate && now.current == Login::Accepted);
        let known = now.account.unwrap();
        prop_assert!(known.missing(&user).is_empty());
        prop_assert!(!prune_roles || known.extra(&user).is_empty());
    }
}
