//! `admin serve`: looks after users for as long as the pod lives.

pub mod health;
pub mod metrics;
pub mod publish;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::JoinSet,
};

use self::health::Health;
use self::metrics::Metrics;
use self::publish::publish;
use super::Failure;
use super::config::{self, Admin};
use super::look::Scene;
use super::plan::{Rotate, Step, Wish};
use super::reconcile::{Outcome, reconcile};
use super::secrets::store::Store;
use super::secrets::{Held, Version};
use super::table::User;
use crate::backoff::Backoff;
use crate::config::startup::StartupError;

/// How long what may pass is tried again within one look.
const PATIENCE: Duration = Duration::from_secs(20);

/// After a failure that needs a person, the next look comes at most this much later.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What the sidecar is to do.
#[derive(Debug)]
pub struct Duty {
    /// The users to look after.
    pub users: Vec<User>,
    /// Where the one user's Secret is shown to the service.
    pub publish: Option<PathBuf>,
    /// Whether roles beyond the table's are to go.
    pub prune_roles: bool,
}

/// What the loops share.
struct Shared {
    config: Admin,
    store: Store,
    duty: Duty,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

/// Looks after the users until SIGTERM or SIGINT. Whatever is under way then is gone on with by the next start.
///
/// # Errors
/// [`StartupError`] where it cannot listen; else the loop that ended.
pub async fn serve(config: Admin, store: Store, duty: Duty) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    let address = config.listen_address;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let name = config::LISTEN_ADDRESS.name;
        StartupError::configuration(format!("{name}: cannot listen on {address}: {error}"))
    })?;
    tracing::info!(address = %listener.local_addr()?, "listening");

    let longest = config.reconcile_interval * 5 / 4;
    let shared = Arc::new(Shared {
        health: Arc::new(Health::new(&duty.users, longest)),
        metrics: Arc::new(Metrics::default()),
        config,
        store,
        duty,
    });
    let mut loops = JoinSet::new();
    for user in shared.duty.users.clone() {
        shared.metrics.expect(&user);
        let shared = Arc::clone(&shared);
        loops.spawn(async move { look_after(&shared, &user).await });
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let (metrics, health) = (Arc::clone(&shared.metrics), Arc::clone(&shared.health));
    let served = tokio::spawn(health::serve(listener, metrics, health, async {
        let _ = stopped.await;
    }));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = loops.join_next() => {
            let why = ended.and_then(Result::err).map(|error| error.to_string());
            return Err(anyhow!("a loop ended: {}", why.unwrap_or_default()));
        }
    }
    tracing::info!("stopping");
    loops.shutdown().await;
    let _ = stop.send(());
    Ok(served.await??)
}

/// What was last told of a user, so that it is told once.
#[derive(Default)]
struct Told {
    failure: Option<Failure>,
    extra_roles: usize,
    /// Whether it ever was as the table says: what is mended after that is drift.
    succeeded: bool,
}

async fn look_after(shared: &Shared, user: &User) {
    let scene = Scene {
        config: &shared.config,
        store: &shared.store,
    };
    let wish = Wish {
        rotate: (shared.config.rotate_every).map_or(Rotate::Never, Rotate::OlderThan),
        prune_roles: shared.duty.prune_roles,
        patience: PATIENCE,
    };
    let (mut told, mut backoff) = (Told::default(), Backoff::new());
    loop {
        shared.health.turned(user);
        let mut seen: Option<Version> = None;
        let outcome = reconcile(scene, user, wish, |held| {
            seen = Some(held.version.clone());
            show(shared, user, held)
        })
        .await;
        tell(shared, user, &outcome, &mut told).await;
        let wait = match &outcome.ended {
            Ok(proven) => {
                backoff = Backoff::new();
                until_next(&shared.config, &proven.held)
            }
            Err(Failure::Wrong(_)) => shared.config.reconcile_interval.min(LOOK_AGAIN_AFTER),
            Err(_) => backoff.next_wait(),
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.store.changed(&user.secret, seen.as_ref()) => {}
        }
    }
}

fn show(shared: &Shared, user: &User, held: &Held) -> Result<(), Failure> {
    let Some(directory) = &shared.duty.publish else {
        return Ok(());
    };
    if publish(directory, user, held)? {
        shared.metrics.published(user);
        tracing::info!(user = user.name, directory = %directory.display(), "published");
    }
    Ok(())
}

/// Until the next look without a reason: the interval and up to a quarter of it, or the time at which the password is due.
fn until_next(config: &Admin, held: &Held) -> Duration {
    let share = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    let wait = config.reconcile_interval.mul_f64(1.0 + share / 4.0);
    let due = config.rotate_every.zip(held.password_since());
    let due = due.and_then(|(every, since)| {
        let age = Duration::try_from(Timestamp::now().duration_since(since)).ok()?;
        Some(every.saturating_sub(age))
    });
    due.map_or(wait, |due| wait.min(due))
}

/// Log, metrics, health, Events.
async fn tell(shared: &Shared, user: &User, outcome: &Outcome, told: &mut Told) {
    let now_seconds = Timestamp::now().as_second();
    shared.metrics.looked(user, outcome, now_seconds);
    let ended = outcome.ended.as_ref().map(drop);
    shared.health.looked(user, ended);
    let name = &user.name;
    for step in &outcome.steps {
        let what = step.to_string();
        match told.succeeded && is_of_drift(step) {
            true => tracing::warn!(user = name, step = step.name(), what, "drift was mended"),
            false => tracing::info!(user = name, step = step.name(), what, "changed"),
        }
        let note = match step.is_of_secret() {
            true => format!("the Secret of the MongoDB user {name}: {what}"),
            false => format!("the MongoDB user {name}: {what}"),
        };
        event(shared, user, false, step.name(), &note).await;
    }
    match &outcome.ended {
        Ok(proven) => {
            if !told.succeeded || told.failure.is_some() || !outcome.steps.is_empty() {
                tracing::info!(
                    user = name,
                    proven = proven.shown.join(", "),
                    "as the table says"
                );
            }
            (told.succeeded, told.failure) = (true, None);
            let extra = &proven.extra_roles;
            if extra.len() != std::mem::replace(&mut told.extra_roles, extra.len())
                && !extra.is_empty()
            {
                let roles: Vec<String> = extra.iter().map(ToString::to_string).collect();
                let note = format!(
                    "the MongoDB user {name} has roles beyond the table: {}",
                    roles.join(", ")
                );
                tracing::warn!(
                    user = name,
                    roles = roles.join(", "),
                    "roles beyond the table; --prune-roles removes them"
                );
                event(shared, user, true, "RolesBeyondTable", &note).await;
            }
        }
        Err(failure) if told.failure.as_ref() == Some(failure) => {
            tracing::debug!(user = name, %failure, "still not as the table says");
        }
        Err(failure) => {
            tracing::warn!(user = name, %failure, "not as the table says; trying again until it is");
            told.failure = Some(failure.clone());
            if matches!(failure, Failure::Wrong(_)) {
                event(shared, user, true, "NotAsTable", &failure.to_string()).await;
            }
        }
    }
}

fn is_of_drift(step: &Step) -> bool {
    !matches!(
        step,
        Step::StagePassword | Step::ChangePassword | Step::PromotePassword
    )
}

async fn event(shared: &Shared, user: &User, warning: bool, reason: &str, note: &str) {
    let Store::Kubernetes(store) = &shared.store else {
        return;
    };
    if let Err(failure) = store
        .event(&user.secret, warning, reason, "Reconcile", note)
        .await
    {
        tracing::info!(user = user.name, reason, %failure, "not told as an Event");
    }
}
