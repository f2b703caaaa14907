//! The connection to MongoDB, and what must be true of it before the first record is written.
//!
//! What is transient (no network, no primary) is waited for without limit. What is permanent until
//! a person changes it ends the start with one message.

pub mod collections;
mod connection;
pub mod errors;
pub mod facts;
mod fault;
mod login;
pub mod outage;
mod ping;
mod privileges;
mod rotation;
pub mod values;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use mongodb::{
    Client, Database,
    bson::{Document, doc},
    error::{Error, ErrorKind},
    options::{ClientOptions, ServerAddress, Tls, TlsOptions},
};

pub use self::connection::{Connection, Current, Swap};
use self::errors::code;
use self::fault::{Fault, User};
pub use self::login::Login;
use self::login::{SERVER_SELECTION_TIMEOUT, authenticate, log_in};
pub use self::ping::ping;
pub use self::rotation::Rotation;
use crate::backoff::Backoff;
use crate::config::Mongodb;
use crate::config::startup::StartupError;
use crate::telemetry::code::Code;
use crate::telemetry::health::Health;
use crate::telemetry::reminder::Reminder;

/// How long passwords from files may be refused at start: a rotation may be under way, in which the
/// files follow the user.
const REFUSED_MAX: Duration = Duration::from_secs(30);

/// The most hosts of a URI that are asked one by one where no server can be found.
const HOSTS_ASKED_MAX: usize = 8;

/// Connects as the configuration says, once everything is ready: a replica set of 5.0 or later, a
/// user that may do what the service does, and the `collections`. Those that are absent are created
/// here: one that is created in a transaction fails others that run meanwhile, with code 246.
///
/// `lanes_max`: how many batches are written at the same time. `health` is told what is waited for.
///
/// # Errors
/// [`StartupError`] for what is permanent. What is transient is retried without limit.
pub async fn connect(
    mongodb: &Mongodb,
    lanes_max: usize,
    collections: &[&str],
    health: &Health,
) -> anyhow::Result<Login> {
    let (mut mongodb, mut refused_since) = (mongodb.clone(), None);
    retry_transient(Some(health), async || {
        // Files that cannot be read now may be in the middle of a change: the passwords stay.
        if let Ok(now) = mongodb.read_again() {
            mongodb.passwords = now.passwords;
        }
        let login = log_in(&mongodb, lanes_max, async |database, options| {
            verify(database, options, collections).await
        });
        match login.await {
            Err(Fault::Unauthenticated(why)) if mongodb.credentials.can_change() => {
                let since = refused_since.get_or_insert_with(Instant::now);
                match since.elapsed() < REFUSED_MAX {
                    true => Err(Fault::Rotating(why)),
                    false => Err(Fault::Unauthenticated(why)),
                }
            }
            other => other,
        }
    })
    .await
}

/// For commands: connects as [`connect`] does, but waits for nothing, verifies only that the user
/// is authenticated, and creates nothing.
///
/// # Errors
/// [`StartupError`] for what is permanent; [`Away`] where MongoDB does not answer.
pub async fn open(mongodb: &Mongodb) -> anyhow::Result<Database> {
    match log_in(mongodb, 1, authenticate).await {
        Ok(login) => Ok(login.database),
        Err(Fault::Permanent(why) | Fault::Unauthenticated(why)) => {
            Err(StartupError::configuration(why).into())
        }
        Err(Fault::Rotating(why) | Fault::Transient(why)) => Err(Away(why).into()),
    }
}

/// MongoDB does not answer a command, and why: never a secret.
#[derive(Debug, thiserror::Error)]
#[error("MongoDB does not answer ({code}): {0}", code = Code::MongodbAway)]
pub struct Away(pub String);

/// The collections whose states must not be folded, because the server judges each one: those with
/// a document validator, or with a unique index besides that of `_id`.
///
/// # Errors
/// [`StartupError`] for what is permanent. What is transient is retried without limit.
pub async fn unfoldable(database: &Database) -> anyhow::Result<HashSet<String>> {
    retry_transient(None, async || {
        judged(database)
            .await
            .map_err(|error| User::unknown().fault(&error))
    })
    .await
}

/// As [`unfoldable`], asked once.
///
/// # Errors
/// What the driver or the server says, which may be logged.
pub async fn unfoldable_now(database: &Database) -> Result<HashSet<String>, String> {
    let found = judged(database).await;
    found.map_err(|error| errors::shown(&error))
}

async fn judged(database: &Database) -> Result<HashSet<String>, Error> {
    let found = collections::all(database).await?.into_iter();
    let judged = found.filter(|found| found.has_validator || !found.unique.is_empty());
    Ok(judged.map(|found| found.name).collect())
}

/// Retries `attempt` while its faults are transient. Logs that it waits, again when it waits for
/// something else, and once that it no longer does.
async fn retry_transient<T>(
    health: Option<&Health>,
    mut attempt: impl AsyncFnMut() -> Result<T, Fault>,
) -> anyhow::Result<T> {
    let mut backoff = Backoff::new();
    let mut reminder = Reminder::default();
    loop {
        match attempt().await {
            Ok(done) => {
                if backoff.tries() > 0 {
                    tracing::info!(tries = backoff.tries(), "MongoDB answers");
                }
                return Ok(done);
            }
            Err(Fault::Permanent(why) | Fault::Unauthenticated(why)) => {
                return Err(StartupError::configuration(why).into());
            }
            Err(Fault::Rotating(why)) => {
                if let Some(health) = health {
                    health.mongodb_failed(&why);
                }
                if reminder.is_due(&why) {
                    tracing::warn!(
                        code = %Code::MongodbCredentials,
                        "the password is refused; trying again for {REFUSED_MAX:?}, since it may \
                         be rotating: {why}"
                    );
                }
            }
            Err(Fault::Transient(why)) => {
                if let Some(health) = health {
                    health.mongodb_failed(&format!("MongoDB does not answer yet: {why}"));
                }
                match reminder.is_due(&why) {
                    true => {
                        tracing::warn!(
                            code = %Code::MongodbAway,
                            "MongoDB does not answer yet, retrying until it does: {why}"
                        );
                    }
                    false => tracing::debug!("MongoDB does not answer yet: {why}"),
                }
            }
        }
        backoff.wait().await;
    }
}

/// Whether the service can run on `database`; creates the `collections` that are absent.
async fn verify(
    database: &Database,
    options: &ClientOptions,
    collections: &[&str],
) -> Result<(), Fault> {
    let user = User::of(options);
    let hello = match database.run_command(doc! { "hello": 1 }).await {
        Ok(hello) => hello,
        Err(error) => {
            return Err(match error.kind.as_ref() {
                // The driver ignores a server that is not of the set that the URI names.
                ErrorKind::ServerSelection { .. } => ask_each(options)
                    .await
                    .unwrap_or_else(|| user.fault(&error)),
                _ => user.fault(&error),
            });
        }
    };
    fault::of_hello(&hello, options.repl_set_name.as_deref())?;

    // Before the privileges: the user has none on a database that cannot exist.
    let differs = facts::differs_in_case(database).await;
    if let Some(name) = differs.map_err(|error| user.fault(&error))? {
        return Err(fault::of_case(Some(&name)));
    }
    let status = doc! { "connectionStatus": 1, "showPrivileges": true };
    let status = database
        .run_command(status)
        .await
        .map_err(|error| user.fault(&error))?;
    if let Some(missing) = privileges::missing(&status, database.name(), collections) {
        return Err(Fault::Permanent(user.lacks(&missing, database.name())));
    }
    let existing = list(database).await.map_err(|error| user.fault(&error))?;
    for name in collections {
        match existing
            .iter()
            .find(|collection| collection.get_str("name").is_ok_and(|found| found == *name))
        {
            Some(collection) if is_plain(collection) => {}
            Some(_) => {
                return Err(Fault::Permanent(format!(
                    "{}.{name} is not a collection but a view or a time series: drop it",
                    database.name()
                )));
            }
            None => create(database, name)
                .await
                .map_err(|error| user.fault(&error))?,
        }
    }
    Ok(())
}

/// Why no server can be found, if one of the hosts can say so by itself.
async fn ask_each(options: &ClientOptions) -> Option<Fault> {
    let set = options.repl_set_name.as_deref();
    for host in options.hosts.iter().take(HOSTS_ASKED_MAX) {
        let fault = match hello(host, options.tls.clone()).await {
            Ok(hello) => fault::of_hello(&hello, set).err(),
            Err(error) => match (fault::of_tls(&error), &options.tls) {
                (None, Some(Tls::Enabled(_))) if hello(host, None).await.is_ok() => {
                    Some(fault::no_tls("the server does not speak TLS"))
                }
                (None, None | Some(Tls::Disabled)) if speaks_tls(host).await => {
                    Some(fault::needs_tls())
                }
                (fault, _) => fault,
            },
        };
        if fault.is_some() {
            return fault;
        }
    }
    None
}

/// Whether the server answers over TLS, if only to ask for a certificate.
async fn speaks_tls(host: &ServerAddress) -> bool {
    let with_anyone = TlsOptions::builder().allow_invalid_certificates(true);
    let answer = hello(host, Some(Tls::Enabled(with_anyone.build()))).await;
    match answer {
        Ok(_) => true,
        Err(error) => fault::of_tls(&error).is_some(),
    }
}

async fn hello(host: &ServerAddress, tls: Option<Tls>) -> Result<Document, Error> {
    let options = ClientOptions::builder()
        .hosts(vec![host.clone()])
        .direct_connection(true)
        .tls(tls)
        .server_selection_timeout(SERVER_SELECTION_TIMEOUT)
        .connect_timeout(SERVER_SELECTION_TIMEOUT)
        .build();
    let client = Client::with_options(options)?;
    client
        .database("admin")
        .run_command(doc! { "hello": 1 })
        .await
}

/// The database's collections, as `listCollections` describes them.
async fn list(database: &Database) -> Result<Vec<Document>, Error> {
    let cursor = database
        .run_cursor_command(doc! { "listCollections": 1 })
        .await?;
    cursor.try_collect().await
}

/// Whether it is neither a view nor a time series, nor the server's own.
fn is_plain(collection: &Document) -> bool {
    let name = collection.get_str("name").unwrap_or_default();
    collection
        .get_str("type")
        .is_ok_and(|kind| kind == "collection")
        && !name.starts_with("system.")
}

async fn create(database: &Database, name: &str) -> Result<(), Error> {
    const NAMESPACE_EXISTS: i32 = 48;
    match database.create_collection(name).await {
        Err(error) if code(&error) == Some(NAMESPACE_EXISTS) => Ok(()),
        other => other,
    }
}
