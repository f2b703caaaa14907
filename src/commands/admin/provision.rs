//! `admin provision`: makes users and Secrets match the table.

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::{anyhow, bail};
use serde_json::{Value, json};

use super::PATIENCE;
use crate::admin::cause::{Cause, told_once};
use crate::admin::look::{Scene, look};
use crate::admin::plan::{self, Rotate, Step, Wish};
use crate::admin::reconcile::{Outcome, reconcile};
use crate::admin::table::{Role, User};
use crate::admin::{Failure, list};
use crate::commands::{print_json, print_table};

/// How to provision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) prune_roles: bool,
    pub(super) dry_run: bool,
    pub(super) json: bool,
}

/// The report on one user.
struct Report<'a> {
    user: &'a User,
    secret: String,
    steps: Vec<Step>,
    extra_roles: Vec<Role>,
    shown: Vec<String>,
    failure: Option<Failure>,
}

pub(super) async fn execute(
    scene: Scene<'_>,
    users: &[User],
    options: Options,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut wish = Wish {
        rotate: Rotate::Never,
        prune_roles: options.prune_roles,
        patience: PATIENCE,
    };
    let mut reports = Vec::new();
    for user in users {
        let report = match options.dry_run {
            true => planned(scene, user, wish).await,
            false => {
                let outcome = reconcile(scene, user, wish, |_| Ok(())).await;
                provisioned(scene, user, outcome)
            }
        };
        if matches!(report.failure, Some(Failure::Transient(_))) {
            // one wait is enough for all users
            wish.patience = Duration::ZERO;
        }
        reports.push(report);
    }
    match options.json {
        true => print_json(out, &reports.iter().map(as_json).collect())?,
        false => print_reports(&reports, options.dry_run, out)?,
    }
    let failures = reports.iter().filter_map(|report| {
        let cause = Cause::new(&report.user.secret.name, report.failure.as_ref()?);
        Some((report.user.name.as_str(), cause))
    });
    let failed: Vec<String> = (told_once(failures).into_iter())
        .map(|(users, why)| format!("{users}: {why}"))
        .collect();
    if !failed.is_empty() {
        bail!("not provisioned: {}", failed.join("; "));
    }
    Ok(())
}

async fn planned<'a>(scene: Scene<'_>, user: &'a User, wish: Wish) -> Report<'a> {
    let mut report = empty(scene, user);
    match look(scene, user).await {
        Ok(found) => {
            let goal = found.goal(user, wish, None);
            report.steps = plan::plan(user, &found.facts, goal);
            let account = found.facts.account.as_ref();
            report.extra_roles = account.map_or_else(Vec::new, |account| account.extra(user));
            found.close().await;
        }
        Err(failure) => report.failure = Some(failure),
    }
    report
}

fn provisioned<'a>(scene: Scene<'_>, user: &'a User, outcome: Outcome) -> Report<'a> {
    let mut report = empty(scene, user);
    report.steps = outcome.steps;
    match outcome.ended {
        Ok(proven) => (report.extra_roles, report.shown) = (proven.extra_roles, proven.shown),
        Err(failure) => report.failure = Some(failure),
    }
    report
}

fn empty<'a>(scene: Scene<'_>, user: &'a User) -> Report<'a> {
    Report {
        user,
        secret: scene.store.shown(&user.secret),
        steps: Vec::new(),
        extra_roles: Vec::new(),
        shown: Vec::new(),
        failure: None,
    }
}

fn print_reports(reports: &[Report<'_>], dry_run: bool, out: &mut impl Write) -> io::Result<()> {
    let rows = reports.iter().flat_map(|report| rows(report, dry_run));
    print_table(out, &["user", "object", "result"], &[], rows)
}

fn rows(report: &Report<'_>, dry_run: bool) -> Vec<Vec<String>> {
    let row = |object: String, result: String| vec![report.user.name.clone(), object, result];
    let mut rows = vec![
        row(
            format!("Secret {}", report.secret),
            result(report, true, dry_run),
        ),
        row("user".to_owned(), result(report, false, dry_run)),
    ];
    let revoked = (report.steps.iter()).any(|step| matches!(step, Step::RevokeRoles(_)));
    if !report.extra_roles.is_empty() && !revoked {
        let roles = list(&report.extra_roles);
        let text = format!("beyond the table: {roles} (--prune-roles revokes them)");
        rows.push(row("roles".to_owned(), text));
    }
    match &report.failure {
        // why is told once for all users, in the error
        Some(_) => rows.push(row("login".to_owned(), "failed".to_owned())),
        None if !dry_run => {
            let text = format!("proven: {}", list(&report.shown));
            rows.push(row("login".to_owned(), text));
        }
        None => {}
    }
    rows
}

/// What happened to the Secret or to the user.
fn result(report: &Report<'_>, of_secret: bool, dry_run: bool) -> String {
    let steps = report.steps.iter();
    let steps = steps.filter(|step| step.is_of_secret() == of_secret);
    let (created, changed): (Vec<&Step>, Vec<&Step>) =
        steps.partition(|step| matches!(step, Step::CreateSecret | Step::CreateUser));
    let changes: Vec<String> = changed.into_iter().map(ToString::to_string).collect();
    let done = match (created.is_empty(), changes.is_empty()) {
        (true, true) if report.failure.is_some() => return "not known".to_owned(),
        (true, true) => return "unchanged".to_owned(),
        (false, true) => "created".to_owned(),
        (true, false) => format!("changed: {}", changes.join("; ")),
        (false, false) => format!("created; {}", changes.join("; ")),
    };
    match dry_run {
        true => format!("would be {done}"),
        false => done,
    }
}

fn as_json(report: &Report<'_>) -> Value {
    let texts = |roles: &[Role]| roles.iter().map(ToString::to_string).collect::<Vec<_>>();
    let step = |step: &Step| json!({ "step": step.name(), "what": step.to_string() });
    json!({
        "user": report.user.name,
        "secret": report.secret,
        "steps": report.steps.iter().map(step).collect::<Vec<_>>(),
        "extra_roles": texts(&report.extra_roles),
        "proven": report.shown,
        "failure": report.failure.as_ref().map(ToString::to_string),
    })
}

/// A failure as an error, for commands about one user.
pub(super) fn failed(user: &User, failure: &Failure) -> anyhow::Error {
    anyhow!("{}: {failure}", user.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::table::Table;
    use crate::commands::schema::assert_schema;

    #[test]
    fn what_was_done_to_each_user_is_told() {
        let users = Table::builtin().users;
        let report = |failure| Report {
            user: &users[0],
            secret: "dyff/secret".to_owned(),
            steps: vec![Step::CreateUser],
            extra_roles: users[0].roles.clone(),
            shown: vec!["readWrite on workflows".to_owned()],
            failure,
        };
        let failed = Failure::Permanent("forbidden".to_owned());
        let reports = [report(None), report(Some(failed))];
        for (dry_run, name) in [(false, "provisioned"), (true, "would_provision")] {
            let mut text = Vec::new();
            print_reports(&reports, dry_run, &mut text).unwrap();
            insta::assert_snapshot!(name, String::from_utf8(text).unwrap());
        }
        let reports: Value = reports.iter().map(as_json).collect();
        assert_schema("admin provision", &[reports.to_string()], &[]);
    }
}
