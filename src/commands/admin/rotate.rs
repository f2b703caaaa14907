//! `admin rotate`: replaces a user's password, or shows the stage of a rotation.

use std::io::Write;

use serde_json::{Value, json};

use super::PATIENCE;
use super::provision::failed;
use crate::admin::list;
use crate::admin::look::{Scene, look};
use crate::admin::plan::{Facts, Login, Rotate, Step, Wish};
use crate::admin::reconcile::reconcile;
use crate::admin::secrets::Held;
use crate::admin::table::User;
use crate::commands::{or_dash, print_json};

pub(super) async fn execute(
    scene: Scene<'_>,
    user: &User,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let wish = Wish {
        rotate: Rotate::Now,
        prune_roles: false,
        patience: PATIENCE,
    };
    let outcome = reconcile(scene, user, wish, |_| Ok(())).await;
    let names: Vec<&str> = outcome.steps.iter().map(Step::name).collect();
    if json {
        let failure = outcome.ended.as_ref().err().map(ToString::to_string);
        print_json(out, &rotated(&user.name, &names, failure))?;
    } else {
        for step in &outcome.steps {
            writeln!(out, "{}: {step}", user.name)?;
        }
    }
    let proven = outcome.ended.map_err(|failure| failed(user, &failure))?;
    if !json {
        let by_us = outcome.steps.contains(&Step::PromotePassword);
        let how = match by_us {
            true => "rotated",
            false => "rotated from elsewhere meanwhile, or new",
        };
        writeln!(out, "{}: {how}; proven: {}", user.name, list(&proven.shown))?;
    }
    Ok(())
}

pub(super) async fn status(
    scene: Scene<'_>,
    user: &User,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let found = look(scene, user)
        .await
        .map_err(|failure| failed(user, &failure))?;
    let (stage, text) = stage(&found.facts);
    let secret = scene.store.shown(&user.secret);
    let since = found.held.as_ref().and_then(Held::password_since);
    if json {
        let since = since.map(|since| format!("{since:.3}"));
        print_json(out, &status_json(&user.name, stage, since))?;
    } else {
        let since = or_dash(since.map(|since| format!("{since:.3}")));
        writeln!(
            out,
            "{}: {text}; Secret {secret}, password since {since}",
            user.name
        )?;
    }
    found.close().await;
    Ok(())
}

fn rotated(user: &str, steps: &[&str], failure: Option<String>) -> Value {
    json!({ "user": user, "steps": steps, "failure": failure })
}

fn status_json(user: &str, stage: &str, since: Option<String>) -> Value {
    json!({ "user": user, "stage": stage, "password_since": since })
}

/// The stage of a rotation: a word for programs, and a line for people.
fn stage(facts: &Facts) -> (&'static str, &'static str) {
    let Some(secret) = &facts.secret else {
        return ("absent", "there is no Secret: provision first");
    };
    match (secret.has_next, facts.next, facts.current) {
        (true, Login::Accepted, _) => (
            "changed",
            "the next password is in force and not promoted yet: rotate continues",
        ),
        (true, _, _) => (
            "staged",
            "the next password is staged and not in force yet: rotate continues",
        ),
        (false, _, Login::Accepted) => ("none", "no rotation is under way"),
        (false, _, Login::Refused) => (
            "refused",
            "no rotation is under way, and MongoDB refuses the Secret's password: \
             provision repairs it",
        ),
        (false, _, Login::Untried) => {
            ("absent", "there is no user or no password: provision first")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::schema::assert_schema;

    #[test]
    fn programs_get_what_was_done_and_where_a_rotation_stands() {
        let done = rotated("u", &["PasswordStaged"], None);
        let failed = rotated("u", &[], Some("MongoDB: no primary".to_owned()));
        let done = [done, failed].map(|report| report.to_string());
        assert_schema("admin rotate", &done, &[]);
        let since = Some("2026-01-31T12:00:00.000Z".to_owned());
        let stages = [
            status_json("u", "none", since),
            status_json("u", "absent", None),
        ];
        let stages = stages.map(|status| status.to_string());
        assert_schema("admin rotate --status", &stages, &[]);
    }
}
