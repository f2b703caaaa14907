//! The health of the sidecar's users, as `/livez`, `/startupz` and `/readyz` answer it.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::net::TcpListener;

use super::metrics::Metrics;
use crate::admin::Failure;
use crate::admin::cause::{Cause, told_once};
use crate::admin::table::User;
use crate::telemetry::probes::{self, Probe};

/// After so many intervals without a success a user is not ready.
const INTERVALS_MISSED_MAX: u32 = 5;

/// The longest that one look may take: its patience, and the deadline of each answer behind that.
const LOOK_MAX: Duration = Duration::from_secs(300);

/// The health of each user.
#[derive(Debug)]
pub struct Health {
    interval: Duration,
    users: Mutex<BTreeMap<String, UserHealth>>,
}

#[derive(Debug)]
struct UserHealth {
    turned: Instant,
    succeeded: Option<Instant>,
    failure: Option<Cause>,
}

impl UserHealth {
    fn begun() -> UserHealth {
        UserHealth {
            turned: Instant::now(),
            succeeded: None,
            failure: None,
        }
    }

    /// Why it has not succeeded.
    fn fault(&self) -> Cause {
        let failure = self.failure.clone();
        failure.unwrap_or_else(|| Cause::everybodys("not checked yet"))
    }
}

impl Health {
    /// Of these users, before the first look at any; `interval`: the longest between two looks.
    pub fn new(users: &[User], interval: Duration) -> Health {
        let users = users.iter().map(|user| &user.name);
        let users = users.map(|name| (name.clone(), UserHealth::begun()));
        Health {
            interval,
            users: Mutex::new(users.collect()),
        }
    }

    /// Reports the begin of a look at a user.
    pub fn turned(&self, user: &User) {
        of(&mut self.lock(), user).turned = Instant::now();
    }

    /// Reports the end of a look. Where it failed: another user that has failed for the same cause
    /// already.
    pub fn looked(&self, user: &User, ended: Result<(), &Failure>) -> Option<String> {
        let failure = ended.err();
        let cause = failure.map(|failure| Cause::new(&user.secret.name, failure));
        // One lock for both: of two users that fail at the same time only one is the first.
        let mut users = self.lock();
        let other = cause.as_ref().and_then(|cause| other(&users, user, cause));
        let health = of(&mut users, user);
        if cause.is_none() {
            health.succeeded = Some(Instant::now());
        }
        health.failure = cause;
        other
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, UserHealth>> {
        let users = self.users.lock();
        users.expect("nobody panics while changing a user's health")
    }

    /// The users whose loop is stuck: only a restart helps.
    fn stuck(&self, now: Instant) -> Vec<String> {
        let turn_max = self.interval + LOOK_MAX;
        self.faults(|health| {
            let is_stuck = now.saturating_duration_since(health.turned) > turn_max;
            is_stuck.then(|| Cause::everybodys("its loop is stuck"))
        })
    }

    /// The users that never matched the table.
    fn not_started(&self) -> Vec<String> {
        self.faults(|health| health.succeeded.is_none().then(|| health.fault()))
    }

    /// The users that did not match it lately.
    fn not_ready(&self, now: Instant) -> Vec<String> {
        let late = self.interval * INTERVALS_MISSED_MAX;
        self.faults(|health| match health.succeeded {
            Some(at) if now.saturating_duration_since(at) <= late => None,
            _ => Some(health.fault()),
        })
    }

    /// Each fault once, with the users that have it.
    fn faults(&self, fault: impl Fn(&UserHealth) -> Option<Cause>) -> Vec<String> {
        let users = self.lock();
        let faulty = (users.iter()).filter_map(|(name, health)| Some((&**name, fault(health)?)));
        let told = told_once(faulty).into_iter();
        told.map(|(users, why)| format!("{users}: {why}")).collect()
    }
}

fn of<'h>(users: &'h mut BTreeMap<String, UserHealth>, user: &User) -> &'h mut UserHealth {
    let health = users.get_mut(&user.name);
    health.expect("only the users it was made of are looked at")
}

/// Another user with this cause.
fn other(users: &BTreeMap<String, UserHealth>, user: &User, cause: &Cause) -> Option<String> {
    let has = |health: &UserHealth| health.failure.as_ref().is_some_and(|it| it.is_same(cause));
    let mut others = (users.iter()).filter(|(name, health)| **name != user.name && has(health));
    others.next().map(|(name, _)| name.clone())
}

/// Serves the metrics and the probes until `shutdown` is done and the requests that have begun are
/// answered, or two seconds have passed.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (live, started) = (Arc::clone(&health), Arc::clone(&health));
    let probes = vec![
        Probe::live(move || live.stuck(Instant::now())),
        Probe::started(move || started.not_started()),
        Probe::ready(move || health.not_ready(Instant::now())),
    ];
    probes::serve(listener, move || metrics.render(), probes, shutdown).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::table::Table;

    #[test]
    fn a_cause_of_several_users_is_told_once() {
        let users = Table::builtin().users;
        let health = Health::new(&users, Duration::from_secs(60));
        let names = "auth-backend, query-backend, workflows-sink";
        assert_eq!(health.not_started(), [format!("{names}: not checked yet")]);
        let away = Failure::Transient("MongoDB: no primary".to_owned());
        assert_eq!(health.looked(&users[1], Err(&away)), None);
        let other = Some("query-backend".to_owned());
        assert_eq!(health.looked(&users[0], Err(&away)), other);
        assert_eq!(health.looked(&users[2], Ok(())), None);
        assert_eq!(
            health.not_started(),
            ["auth-backend, query-backend: MongoDB: no primary"]
        );
        health.looked(&users[1], Ok(()));
        assert_eq!(health.looked(&users[0], Err(&away)), None);
    }

    #[test]
    fn an_unavailable_dependency_delays_a_start_and_ends_no_process() {
        let users = Table::builtin().users;
        let (interval, now) = (Duration::from_secs(60), Instant::now());
        let health = Health::new(&users[..1], interval);
        assert_eq!(health.not_started(), ["auth-backend: not checked yet"]);
        let unavailable = Failure::Transient("MongoDB: no primary".to_owned());
        health.looked(&users[0], Err(&unavailable));
        assert_eq!(health.not_started(), ["auth-backend: MongoDB: no primary"]);
        assert_eq!(health.not_ready(now), health.not_started());

        health.looked(&users[0], Ok(()));
        health.looked(&users[0], Err(&unavailable));
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
