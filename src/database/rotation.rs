//! Follows a password that changes while the service runs: another client is made and tried before it takes the place of
//! the one in use.
//!
//! The files and the server change one after the other, in either order. So what logs in counts and not what changed:
//! the one in use stays until another one is let in.

use std::sync::Arc;
use std::time::Duration;

use mongodb::Database;
use mongodb::bson::doc;
use mongodb::options::ClientOptions;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, sleep, timeout};

use super::connection::Swap;
use super::fault::{Fault, User};
use super::login::log_in;
use super::outage::Outage;
use crate::config::Mongodb;
use crate::config::credentials::PASSWORD_NEXT;
use crate::config::reference::PASSWORD;
use crate::telemetry::metrics::Metrics;

/// How often the files are looked at, and the shortest time between two tries to log in.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When passwords that were not let in are tried again, should no refused login call for it sooner.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// When passwords are tried again that nobody could say anything about.
const UNANSWERED_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How long one try may take before it counts as not answered.
const TRY_DEADLINE: Duration = Duration::from_secs(20);

/// Why the client in use stays.
const GOING_ON: &str = "going on with the connection in use";

/// What follows the credentials.
pub struct Rotation {
    /// What the service was started with; of what is read later only the passwords count.
    pub mongodb: Mongodb,
    /// The password in use.
    pub password: Option<SecretString>,
    /// How many batches are written at the same time.
    pub lanes_max: usize,
    /// Puts another client in the place of the one in use.
    pub swap: Swap,
    /// Tells of refused logins.
    pub outage: Arc<Outage>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Rotation {
    /// Follows the credentials for ever.
    pub async fn follow(mut self) {
        let mut told = None;
        let mut again_at = None;
        loop {
            let refused = tokio::select! {
                () = sleep(LOOK_EVERY) => false,
                () = self.outage.login_refused() => true,
            };
            let passwords = self.look(&mut told).await;
            let changed = passwords
                .as_deref()
                .is_some_and(|now| !same(now, &self.mongodb.passwords));
            if let Some(passwords) = passwords {
                self.mongodb.passwords = passwords;
            }
            let due = again_at.is_some_and(|at| at <= Instant::now());
            if refused || changed || due {
                let again_after = self.log_in(changed).await.err();
                again_at = again_after.map(|wait| Instant::now() + wait);
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// The passwords as the files have them now; none where they cannot be read. `told` keeps a line from being logged
    /// every second.
    async fn look(&self, told: &mut Option<String>) -> Option<Vec<SecretString>> {
        let mongodb = self.mongodb.clone();
        let read = tokio::task::spawn_blocking(move || {
            let again = mongodb.read_again();
            again.map(|now| (mongodb.same_place(&now), now.passwords))
        });
        let (line, passwords) = match read.await {
            Ok(Ok((true, passwords))) => (None, Some(passwords)),
            Ok(Ok((false, passwords))) => (
                Some("the URI or the database has changed: that takes a restart; passwords are followed all the same".to_owned()),
                Some(passwords),
            ),
            Ok(Err(faults)) => (Some(format!("{faults}; {GOING_ON}")), None),
            Err(error) => (Some(format!("{error}; {GOING_ON}")), None),
        };
        if *told != line {
            match &line {
                Some(line) => {
                    self.metrics.errors("credentials", "unfit");
                    tracing::warn!("MongoDB's credentials: {line}");
                }
                None => tracing::info!("MongoDB's credentials can be read again"),
            }
            *told = line;
        }
        passwords
    }

    /// Tries the passwords, and swaps a client in if another one than that in use is let in. An error says when to try
    /// again.
    async fn log_in(&mut self, changed: bool) -> Result<(), Duration> {
        let places = self.mongodb.credentials.places();
        let tried = timeout(TRY_DEADLINE, log_in(&self.mongodb, self.lanes_max, ping));
        let login = match tried.await {
            Ok(Ok(login)) => login,
            Ok(Err(Fault::Refused(why) | Fault::Wrong(why))) => {
                if changed {
                    self.metrics.errors("credentials", "refused");
                    tracing::warn!(places, "{why}; {GOING_ON}");
                }
                return Err(REFUSED_AGAIN_AFTER);
            }
            Ok(Err(Fault::Away(why))) => {
                tracing::debug!(places, "MongoDB's credentials could not be tried: {why}");
                return Err(UNANSWERED_AGAIN_AFTER);
            }
            Err(_) => {
                tracing::debug!(places, "trying MongoDB's credentials takes too long");
                return Err(UNANSWERED_AGAIN_AFTER);
            }
        };
        let is_in_use = match (&login.password, &self.password) {
            (Some(one), Some(other)) => one.expose_secret() == other.expose_secret(),
            _ => true,
        };
        if !is_in_use {
            let of = |password: &SecretString| {
                let first = self.mongodb.passwords.first();
                match first.is_some_and(|first| first.expose_secret() == password.expose_secret()) {
                    true => PASSWORD.name,
                    false => PASSWORD_NEXT,
                }
            };
            let key = login.password.as_ref().map(of);
            self.swap.to(login.database);
            self.password = login.password;
            self.metrics.credential_swaps.inc();
            tracing::info!(
                places,
                key,
                "MongoDB's password has changed: a new connection is in use"
            );
        }
        Ok(())
    }
}

async fn ping(database: &Database, options: &ClientOptions) -> Result<(), Fault> {
    match database.run_command(doc! { "ping": 1 }).await {
        Ok(_) => Ok(()),
        Err(error) => Err(User::of(options).fault(&error)),
    }
}

fn same(some: &[SecretString], others: &[SecretString]) -> bool {
    some.len() == others.len()
        && (some.iter().zip(others))
            .all(|(one, other)| one.expose_secret() == other.expose_secret())
}
