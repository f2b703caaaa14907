//! The sidecar's `/livez`, `/readyz`, `/startupz` and `/metrics`.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use tokio::net::TcpListener;

use super::metrics::Metrics;
use crate::admin::Failure;
use crate::admin::table::User;
use crate::telemetry::health::{answer, exposition};

/// A user is not looked after any more when this many intervals passed without a success.
const INTERVALS_MISSED_MAX: u32 = 5;

/// The longest that one look may take: its patience, and the deadline of each answer behind that.
const LOOK_MAX: Duration = Duration::from_secs(300);

/// How each user stands.
#[derive(Debug)]
pub struct Health {
    interval: Duration,
    users: Mutex<BTreeMap<String, Standing>>,
}

#[derive(Debug)]
struct Standing {
    turned: Instant,
    succeeded: Option<Instant>,
    failure: Option<String>,
}

impl Health {
    /// Of these users, none of which has been looked at; `interval`: the longest between two looks.
    pub fn new(users: &[User], interval: Duration) -> Health {
        let standing = |user: &User| {
            let standing = Standing {
                turned: Instant::now(),
                succeeded: None,
                failure: None,
            };
            (user.name.clone(), standing)
        };
        Health {
            interval,
            users: Mutex::new(users.iter().map(standing).collect()),
        }
    }

    /// A look at a user begins.
    pub fn turned(&self, user: &User) {
        self.change(user, |standing| standing.turned = Instant::now());
    }

    /// A look has ended.
    pub fn looked(&self, user: &User, ended: Result<(), &Failure>) {
        self.change(user, |standing| match ended {
            Ok(()) => (standing.succeeded, standing.failure) = (Some(Instant::now()), None),
            Err(failure) => standing.failure = Some(failure.to_string()),
        });
    }

    fn change(&self, user: &User, change: impl FnOnce(&mut Standing)) {
        if let Some(standing) = self.lock().get_mut(&user.name) {
            change(standing);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Standing>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The users whose loop stands still: only a restart helps.
    fn stuck(&self, now: Instant) -> Vec<String> {
        let stands = |standing: &Standing| {
            now.saturating_duration_since(standing.turned) > self.interval + LOOK_MAX
        };
        self.told(|standing| stands(standing).then(|| "its loop is stuck".to_owned()))
    }

    /// The users that were never seen as they should be.
    fn not_started(&self) -> Vec<String> {
        self.told(|standing| match standing.succeeded {
            Some(_) => None,
            None => Some(
                standing
                    .failure
                    .clone()
                    .unwrap_or_else(|| "not looked at yet".to_owned()),
            ),
        })
    }

    /// The users that lately were not.
    fn not_ready(&self, now: Instant) -> Vec<String> {
        let late = self.interval * INTERVALS_MISSED_MAX;
        self.told(|standing| match standing.succeeded {
            Some(at) if now.saturating_duration_since(at) <= late => None,
            _ => Some(
                standing
                    .failure
                    .clone()
                    .unwrap_or_else(|| "not looked at yet".to_owned()),
            ),
        })
    }

    fn told(&self, fault: impl Fn(&Standing) -> Option<String>) -> Vec<String> {
        (self.lock().iter())
            .filter_map(|(name, standing)| Some(format!("{name}: {}", fault(standing)?)))
            .collect()
    }
}

/// Serves until `shutdown` is done and the requests in flight are answered.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (live, started) = (health.clone(), health.clone());
    let router = Router::new()
        .route(
            "/metrics",
            get(|| async move { exposition(metrics.render()) }),
        )
        .route(
            "/livez",
            get(|| async move { answer("alive", live.stuck(Instant::now())) }),
        )
        .route(
            "/startupz",
            get(|| async move { answer("started", started.not_started()) }),
        )
        .route(
            "/readyz",
            get(|| async move { answer("ready", health.not_ready(Instant::now())) }),
        );
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::table::Table;

    #[test]
    fn a_dependency_that_is_away_delays_a_start_and_ends_no_process() {
        let users = Table::builtin().users;
        let (interval, now) = (Duration::from_secs(60), Instant::now());
        let health = Health::new(&users[..1], interval);
        assert_eq!(health.not_started(), ["auth-backend: not looked at yet"]);
        let away = Failure::Away("MongoDB: no primary".to_owned());
        health.looked(&users[0], Err(&away));
        assert_eq!(health.not_started(), ["auth-backend: MongoDB: no primary"]);
        assert_eq!(health.not_ready(now), health.not_started());

        health.looked(&users[0], Ok(()));
        health.looked(&users[0], Err(&away));
        assert!(health.not_started().is_empty() && health.not_ready(now).is_empty());
        let later = now + interval * (INTERVALS_MISSED_MAX + 1);
        assert_eq!(
            health.not_ready(later),
            ["auth-backend: MongoDB: no primary"]
        );
        assert!(health.stuck(now + interval).is_empty());
        assert_eq!(health.stuck(now + interval + 2 * LOOK_MAX).len(), 1);
    }
}
