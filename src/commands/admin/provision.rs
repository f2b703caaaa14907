//! `admin provision`.

use std::{io::Write, time::Duration};

use anyhow::{anyhow, bail};
use serde_json::{Value, json};

use super::PATIENCE;
use crate::admin::Failure;
use crate::admin::look::{Scene, look};
use crate::admin::plan::{self, Rotate, Step, Wish};
use crate::admin::reconcile::{Outcome, reconcile};
use crate::admin::table::{Role, User};
use crate::commands::{print_json, print_table};

/// How to provision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) prune_roles: bool,
    pub(super) dry_run: bool,
    pub(super) json: bool,
}

/// What is told of one user.
struct Line {
    user: String,
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
    let mut lines = Vec::new();
    for user in users {
        let line = match options.dry_run {
            true => planned(scene, user, wish).await,
            false => {
                let outcome = reconcile(scene, user, wish, |_| Ok(())).await;
                provisioned(scene, user, outcome)
            }
        };
        if matches!(line.failure, Some(Failure::Transient(_))) {
            // waited for once is enough
            wish.patience = Duration::ZERO;
        }
        lines.push(line);
    }
    match options.json {
        true => print_json(out, &lines.iter().map(as_json).collect())?,
        false => {
            let rows = lines.iter().flat_map(|line| rows(line, options.dry_run));
            print_table(out, &["user", "object", "result"], &[], rows)?;
        }
    }
    out.flush()?;
    let failed: Vec<String> = (lines.iter())
        .filter_map(|line| Some(format!("{}: {}", line.user, line.failure.as_ref()?)))
        .collect();
    if !failed.is_empty() {
        bail!("not provisioned: {}", failed.join("; "));
    }
    Ok(())
}

async fn planned(scene: Scene<'_>, user: &User, wish: Wish) -> Line {
    let mut line = line(scene, user);
    match look(scene, user).await {
        Ok(found) => {
            let goal = found.goal(user, wish, None);
            line.steps = plan::plan(user, &found.facts, goal);
            let account = found.facts.account.as_ref();
            line.extra_roles = account
                .map(|account| account.extra(user))
                .unwrap_or_default();
            found.close().await;
        }
        Err(failure) => line.failure = Some(failure),
    }
    line
}

fn provisioned(scene: Scene<'_>, user: &User, outcome: Outcome) -> Line {
    let mut line = line(scene, user);
    line.steps = outcome.steps;
    match outcome.ended {
        Ok(proven) => (line.extra_roles, line.shown) = (proven.extra_roles, proven.shown),
        Err(failure) => line.failure = Some(failure),
    }
    line
}

fn line(scene: Scene<'_>, user: &User) -> Line {
    Line {
        user: user.name.clone(),
        secret: scene.store.shown(&user.secret),
        steps: Vec::new(),
        extra_roles: Vec::new(),
        shown: Vec::new(),
        failure: None,
    }
}

fn rows(line: &Line, dry_run: bool) -> Vec<Vec<String>> {
    let result = |of_secret: bool| {
        let steps = line
            .steps
            .iter()
            .filter(|step| step.is_of_secret() == of_secret);
        let (made, changed): (Vec<&Step>, Vec<&Step>) =
            steps.partition(|step| matches!(step, Step::CreateSecret | Step::CreateUser));
        let changed: Vec<String> = changed.into_iter().map(ToString::to_string).collect();
        let told = match (made.is_empty(), changed.is_empty()) {
            (true, true) if line.failure.is_some() => return "not known".to_owned(),
            (true, true) => return "unchanged".to_owned(),
            (false, true) => "created".to_owned(),
            (true, false) => format!("changed: {}", changed.join("; ")),
            (false, false) => format!("created; {}", changed.join("; ")),
        };
        if dry_run {
            format!("would be {told}")
        } else {
            told
        }
    };
    let mut rows = vec![
        vec![
            line.user.clone(),
            format!("Secret {}", line.secret),
            result(true),
        ],
        vec![line.user.clone(), "user".to_owned(), result(false)],
    ];
    if !line.extra_roles.is_empty() {
        let roles: Vec<String> = line.extra_roles.iter().map(ToString::to_string).collect();
        let text = format!("beyond the table: {}", roles.join(", "));
        let pruned = line
            .steps
            .iter()
            .any(|step| matches!(step, Step::RevokeRoles(_)));
        if !pruned {
            let text = format!("{text} (--prune-roles removes them)");
            rows.push(vec![line.user.clone(), "roles".to_owned(), text]);
        }
    }
    match &line.failure {
        Some(failure) => {
            let text = format!("failed: {failure}");
            rows.push(vec![line.user.clone(), "login".to_owned(), text]);
        }
        None if !dry_run => {
            let text = format!("proven: {}", line.shown.join(", "));
            rows.push(vec![line.user.clone(), "login".to_owned(), text]);
        }
        None => {}
    }
    rows
}

fn as_json(line: &Line) -> Value {
    let texts = |roles: &[Role]| roles.iter().map(ToString::to_string).collect::<Vec<_>>();
    let step = |step: &Step| json!({ "step": step.name(), "what": step.to_string() });
    json!({
        "user": line.user,
        "secret": line.secret,
        "steps": line.steps.iter().map(step).collect::<Vec<_>>(),
        "extra_roles": texts(&line.extra_roles),
        "proven": line.shown,
        "failure": line.failure.as_ref().map(ToString::to_string),
    })
}

/// One outcome as an error, for commands about one user.
pub(super) fn failed(user: &User, failure: &Failure) -> anyhow::Error {
    anyhow!("{}: {failure}", user.name)
}
