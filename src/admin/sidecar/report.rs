//! What a look came to: in the metrics and the probes, in the log, and as Events of the Secret.

use jiff::Timestamp;

use super::Shared;
use crate::admin::plan::Step;
use crate::admin::reconcile::{Outcome, Proven};
use crate::admin::secrets::store::Store;
use crate::admin::table::User;
use crate::admin::{Failure, list};
use crate::telemetry::code::Code;
use crate::telemetry::reminder::Reminder;

/// What was last reported of a user, so that each thing is reported once.
#[derive(Default)]
pub(super) struct Reported {
    failure: Option<Failure>,
    reminder: Reminder,
    extra_roles: usize,
    /// Whether it ever matched the table: what is repaired after that is drift.
    succeeded: bool,
}

pub(super) async fn report(
    shared: &Shared,
    user: &User,
    outcome: &Outcome,
    reported: &mut Reported,
) {
    let now_seconds = Timestamp::now().as_second();
    shared.metrics.looked(user, outcome, now_seconds);
    let ended = outcome.ended.as_ref().map(drop);
    let same_as = shared.health.looked(user, ended);
    for step in &outcome.steps {
        report_step(shared, user, step, reported).await;
    }
    match &outcome.ended {
        Ok(proven) => {
            if !reported.succeeded || reported.failure.is_some() || !outcome.steps.is_empty() {
                let shown = proven.shown.join(", ");
                tracing::info!(
                    user = user.name,
                    proven = shown,
                    "the user and its Secret match the table"
                );
            }
            (reported.succeeded, reported.failure) = (true, None);
            report_extra_roles(shared, user, proven, reported).await;
        }
        Err(failure) => {
            let is_new = reported.failure.as_ref() != Some(failure);
            if is_new {
                reported.failure = Some(failure.clone());
                reported.reminder = Reminder::default();
            }
            if reported.reminder.is_due(&failure.to_string()) {
                report_failure(shared, user, failure, same_as.as_deref());
            }
            if is_new && matches!(failure, Failure::Permanent(_)) {
                let note = failure_note(user, failure, same_as.as_deref());
                event(shared, user, true, "NotAsTable", &note).await;
            }
        }
    }
}

/// Logs a failure; one that another user has too was told there.
fn report_failure(shared: &Shared, user: &User, failure: &Failure, same_as: Option<&str>) {
    let (name, secret) = (&user.name, shared.store.shown(&user.secret));
    match same_as {
        None => {
            tracing::warn!(code = %Code::UserNotAsTable, user = name, secret, %failure, "the user or its Secret does not match the table; retrying")
        }
        Some(same_as) => {
            tracing::warn!(code = %Code::UserNotAsTable, user = name, secret, same_as, "the user or its Secret does not match the table, as another does not; retrying")
        }
    }
}

/// The note of a failure's Event: a cause that another user has too stands in the Event of that
/// one's Secret alone.
fn failure_note(user: &User, failure: &Failure, same_as: Option<&str>) -> String {
    match same_as {
        None => failure.to_string(),
        Some(other) => format!(
            "the MongoDB user {} does not match the table, for the same cause as {other}: see the \
             Events of that user's Secret",
            user.name
        ),
    }
}

async fn report_step(shared: &Shared, user: &User, step: &Step, reported: &Reported) {
    let (name, what) = (&user.name, step.to_string());
    match reported.succeeded && !step.is_of_rotation() {
        true => {
            tracing::warn!(code = %Code::DriftRepaired, user = name, step = step.name(), what, "drift repaired")
        }
        false => tracing::info!(user = name, step = step.name(), what, "changed"),
    }
    let note = match step.is_of_secret() {
        true => format!("the Secret of the MongoDB user {name}: {what}"),
        false => format!("the MongoDB user {name}: {what}"),
    };
    event(shared, user, false, step.name(), &note).await;
}

async fn report_extra_roles(
    shared: &Shared,
    user: &User,
    proven: &Proven,
    reported: &mut Reported,
) {
    let (name, extra) = (&user.name, &proven.extra_roles);
    let before = std::mem::replace(&mut reported.extra_roles, extra.len());
    if extra.is_empty() || extra.len() == before {
        return;
    }
    let roles = list(extra);
    let note = format!("the MongoDB user {name} has roles beyond the table: {roles}");
    tracing::warn!(
        code = %Code::ExtraRoles,
        user = name,
        roles,
        "roles beyond the table; --prune-roles revokes them"
    );
    event(shared, user, true, "RolesBeyondTable", &note).await;
}

async fn event(shared: &Shared, user: &User, warning: bool, reason: &str, note: &str) {
    let Store::Kubernetes(store) = &shared.store else {
        return;
    };
    let event = store.event(&user.secret, warning, reason, "Reconcile", note);
    if let Err(failure) = event.await {
        tracing::info!(user = user.name, reason, %failure, "no Event created");
    }
}
