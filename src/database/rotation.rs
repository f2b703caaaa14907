//! Follows a password that changes while the service runs: another client is made, and replaces the
//! one in use once it is authenticated.
//!
//! The files and the server change one after the other, in either order. So it does not matter what
//! changed but what logs in: the client in use stays until another one is authenticated.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, sleep, timeout};

use super::connection::Swap;
use super::fault::Fault;
use super::login::{authenticate, log_in};
use super::outage::Outage;
use crate::config::Mongodb;
use crate::config::credentials::PASSWORD_NEXT;
use crate::config::reference::PASSWORD;
use crate::telemetry::code::Code;
use crate::telemetry::metrics::{Metrics, Server};
use crate::telemetry::reminder::Reminder;

/// How often the files are read, and the shortest time between two logins.
const READ_EVERY: Duration = Duration::from_secs(1);

/// When refused passwords are retried, unless a refused login of a lane calls for it sooner.
const REFUSED_RETRY_AFTER: Duration = Duration::from_secs(10);

/// When passwords are retried that could not be tried.
const UNANSWERED_RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long one login may take before it counts as not answered.
const LOGIN_DEADLINE: Duration = Duration::from_secs(20);

/// The end of a message about another client that is not put in use.
const CONTINUING: &str = "continuing with the connection in use";

/// What follows the credentials.
pub struct Rotation {
    /// The configuration at start. Of what is read later, only the passwords count.
    pub mongodb: Mongodb,
    /// The password in use.
    pub password: Option<SecretString>,
    /// How many batches are written at the same time.
    pub lanes_max: usize,
    /// Replaces the client in use.
    pub swap: Swap,
    /// Notices refused logins.
    pub outage: Arc<Outage>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Rotation {
    /// Follows the credentials forever.
    pub async fn follow(mut self) {
        let (mut unfit, mut not_accepted) = (None, None);
        let mut retry_at = None;
        let mut is_refused = false;
        loop {
            let refused = tokio::select! {
                () = sleep(READ_EVERY) => false,
                () = self.outage.login_refused() => true,
            };
            let passwords = self.read(&mut unfit).await;
            let changed = passwords
                .as_deref()
                .is_some_and(|now| !same(now, &self.mongodb.passwords));
            if let Some(passwords) = passwords {
                self.mongodb.passwords = passwords;
            }
            let due = retry_at.is_some_and(|at| at <= Instant::now());
            if refused || changed || due {
                if changed {
                    not_accepted = Some(Reminder::default());
                }
                let tried = self.log_in(&mut not_accepted).await;
                retry_at = tried.retry_after().map(|wait| Instant::now() + wait);
                is_refused = match tried {
                    Tried::Accepted => false,
                    Tried::Refused => true,
                    Tried::Unanswered => is_refused,
                };
                sleep(READ_EVERY).await;
            }
            let is_unfit = is_refused || unfit.is_some();
            self.metrics.credentials_unfit(Server::Mongodb, is_unfit);
        }
    }

    /// The passwords as the files have them now; `None` where they cannot be read. `unfit` says
    /// when what is wrong with them is logged, while something is.
    async fn read(&self, unfit: &mut Option<Reminder>) -> Option<Vec<SecretString>> {
        let mongodb = self.mongodb.clone();
        let read = tokio::task::spawn_blocking(move || {
            let now = mongodb.read_again();
            now.map(|now| (mongodb.same_place(&now), now.passwords))
        });
        let (line, passwords) = match read.await {
            Ok(Ok((true, passwords))) => (None, Some(passwords)),
            Ok(Ok((false, passwords))) => (
                Some(
                    "the URI or the database has changed: restart the service to apply this; \
                     password changes are still followed"
                        .to_owned(),
                ),
                Some(passwords),
            ),
            Ok(Err(faults)) => (Some(format!("{faults}; {CONTINUING}")), None),
            Err(error) => (Some(format!("{error}; {CONTINUING}")), None),
        };
        if let Some(line) = line {
            if unfit.get_or_insert_default().is_due(&line) {
                self.metrics.errors("credentials", "unfit");
                tracing::warn!(code = %Code::MongodbCredentials, "MongoDB's credentials: {line}");
            }
        } else if unfit.take().is_some() {
            tracing::info!("MongoDB's credentials can be read again");
        }
        passwords
    }

    /// Tries the passwords, and puts a client in use if another password than that in use is
    /// accepted. `not_accepted` says when a refusal is logged, once the passwords have changed: one
    /// of the password in use is what the lanes log.
    async fn log_in(&mut self, not_accepted: &mut Option<Reminder>) -> Tried {
        let places = self.mongodb.credentials.places();
        let tried = timeout(
            LOGIN_DEADLINE,
            log_in(&self.mongodb, self.lanes_max, authenticate),
        );
        let login = match tried.await {
            Ok(Ok(login)) => login,
            Ok(Err(Fault::Unauthenticated(why) | Fault::Permanent(why))) => {
                if let Some(reminder) = not_accepted
                    && reminder.is_due(&why)
                {
                    self.metrics.errors("credentials", "refused");
                    tracing::warn!(code = %Code::MongodbCredentials, places, "{why}; {CONTINUING}");
                }
                return Tried::Refused;
            }
            Ok(Err(Fault::Rotating(why) | Fault::Transient(why))) => {
                tracing::debug!(places, "MongoDB's credentials could not be tried: {why}");
                return Tried::Unanswered;
            }
            Err(_) => {
                tracing::debug!(places, "MongoDB's credentials could not be tried in time");
                return Tried::Unanswered;
            }
        };
        *not_accepted = None;
        let is_in_use = match (&login.password, &self.password) {
            (Some(one), Some(other)) => one.expose_secret() == other.expose_secret(),
            _ => true,
        };
        if !is_in_use {
            let setting_of = |password: &SecretString| {
                let first = self.mongodb.passwords.first();
                match first.is_some_and(|first| first.expose_secret() == password.expose_secret()) {
                    true => PASSWORD.name,
                    false => PASSWORD_NEXT,
                }
            };
            let key = login.password.as_ref().map(setting_of);
            self.swap.to(login.database);
            self.password = login.password;
            self.metrics.credential_swaps.inc();
            tracing::info!(
                places,
                key,
                "MongoDB's password has changed: a new connection is in use"
            );
        }
        Tried::Accepted
    }
}

/// What came of the passwords.
enum Tried {
    /// One is accepted, and in use.
    Accepted,
    /// None is.
    Refused,
    /// Nobody answered.
    Unanswered,
}

impl Tried {
    /// When to try again.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Tried::Accepted => None,
            Tried::Refused => Some(REFUSED_RETRY_AFTER),
            Tried::Unanswered => Some(UNANSWERED_RETRY_AFTER),
        }
    }
}

/// Whether these are the same passwords in the same order.
fn same(some: &[SecretString], others: &[SecretString]) -> bool {
    some.len() == others.len()
        && (some.iter().zip(others))
            .all(|(one, other)| one.expose_secret() == other.expose_secret())
}
