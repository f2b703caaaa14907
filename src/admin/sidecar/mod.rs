//! `admin serve`: keeps users and Secrets as the table says for as long as the pod lives.

pub mod health;
pub mod metrics;
pub mod publish;
mod report;

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};

use self::health::Health;
use self::metrics::Metrics;
use self::publish::publish;
use self::report::{Reported, report};
use super::Failure;
use super::config::Admin;
use super::look::Scene;
use super::plan::{Rotate, Step, Wish};
use super::reconcile::reconcile;
use super::secrets::store::Store;
use super::secrets::{Held, Version};
use super::settings::LISTEN_ADDRESS;
use super::table::User;
use crate::backoff::Backoff;
use crate::config::startup::StartupError;
use crate::signals::StopSignals;
use crate::telemetry::verbose;

/// How long transient failures are retried within one look.
const PATIENCE: Duration = Duration::from_secs(20);

/// After a permanent failure, the next look comes at most this much later.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// How long the Secret is left alone after it was mended.
const MENDED_REST: Duration = Duration::from_secs(10);

/// What the sidecar is to do.
#[derive(Debug)]
pub struct Duty {
    /// The users to keep as the table says.
    pub users: Vec<User>,
    /// Where the one user's Secret is shown to the service.
    pub publish: Option<PathBuf>,
    /// Whether roles beyond the table's are revoked.
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

/// Keeps the users as the table says until SIGTERM or SIGINT. The next start continues whatever is
/// under way then.
///
/// # Errors
/// [`StartupError`] where it cannot listen; else the loop that ended.
pub async fn serve(config: Admin, store: Store, duty: Duty) -> anyhow::Result<()> {
    let since = Instant::now();
    let mut signals = StopSignals::watch()?;
    let address = config.listen_address;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let name = LISTEN_ADDRESS.name;
        StartupError::configuration(format!("{name}: cannot listen on {address}: {error}"))
    })?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    tokio::spawn(verbose::follow(config.log.filter.clone()));

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
        loops.spawn(async move { keep(&shared, &user).await });
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let (metrics, health) = (Arc::clone(&shared.metrics), Arc::clone(&shared.health));
    let served = tokio::spawn(health::serve(listener, metrics, health, async {
        let _ = stopped.await;
    }));
    tokio::select! {
        () = signals.next() => {}
        Some(ended) = loops.join_next() => {
            let Err(panicked) = ended;
            return Err(panicked).context("the loop of a user ended");
        }
    }
    tracing::info!("stopping");
    loops.shutdown().await;
    let _ = stop.send(());
    served.await?;
    tracing::info!(seconds = since.elapsed().as_secs(), "stopped");
    Ok(())
}

async fn keep(shared: &Shared, user: &User) -> Infallible {
    let scene = Scene {
        config: &shared.config,
        store: &shared.store,
    };
    let wish = Wish {
        rotate: (shared.config.rotate_every).map_or(Rotate::Never, Rotate::OlderThan),
        prune_roles: shared.duty.prune_roles,
        patience: PATIENCE,
    };
    let (mut reported, mut backoff) = (Reported::default(), Backoff::new());
    loop {
        shared.health.turned(user);
        let mut seen: Option<Version> = None;
        let outcome = reconcile(scene, user, wish, |held| {
            seen = Some(held.version.clone());
            show(shared, user, held)
        })
        .await;
        report(shared, user, &outcome, &mut reported).await;
        let wait = match &outcome.ended {
            Ok(proven) => {
                backoff = Backoff::new();
                until_next(&shared.config, &proven.held)
            }
            Err(Failure::Permanent(_)) => shared.config.reconcile_interval.min(LOOK_AGAIN_AFTER),
            Err(_) => backoff.next_wait(),
        };
        if outcome
            .steps
            .iter()
            .any(|step| matches!(step, Step::MendSecret(_)))
        {
            // Another sidecar, of another configuration, may mend it back.
            tokio::time::sleep(MENDED_REST.min(wait)).await;
        }
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
    if publish(directory, &shared.config, user, held)? {
        shared.metrics.published(user);
        tracing::info!(user = user.name, directory = %directory.display(), "published");
    }
    Ok(())
}

/// How long until the next look without a reason: the interval and up to a quarter of it, or until
/// a rotation is due.
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
