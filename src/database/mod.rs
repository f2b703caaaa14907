//! The connection to MongoDB, and what must be true of it before the first record is written.
//!
//! What passes (no network, no primary) is waited for without limit; what stays wrong until a person changes
//! it ends the start with one line.

mod connection;
pub mod errors;
mod fault;
mod login;
pub mod outage;
mod ping;
mod privileges;
mod rotation;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use mongodb::{
    Client, Database,
    bson::{Document, doc},
    error::{Error, ErrorKind},
    options::{ClientOptions, ServerAddress, Tls},
};

pub use self::connection::{Connection, Current, Swap};
use self::errors::code;
use self::fault::{Fault, User};
pub use self::login::Login;
use self::login::{SERVER_SELECTION_TIMEOUT, log_in};
pub use self::ping::ping;
pub use self::rotation::Rotation;
use crate::backoff::Backoff;
use crate::config::Mongodb;
use crate::config::startup::StartupError;

/// How long passwords from files may be refused at start: a rotation may be under way, and the files follow the user.
const REFUSED_MAX: Duration = Duration::from_secs(30);

/// Hosts of a URI that are asked one by one when no server can be found.
const HOSTS_ASKED_MAX: usize = 8;

/// Connects as the configuration says, once everything is there: a replica set or sharded cluster of 5.0 or later, a
/// user that may do what the service does, and the collections, which are made where they are absent (to make one
/// inside a transaction fails transactions that run meanwhile, with 246).
///
/// `lanes_max`: how many batches are written at the same time.
///
/// # Errors
/// [`StartupError`] for what is wrong for good. What passes is tried again without limit.
pub async fn connect(
    mongodb: &Mongodb,
    lanes_max: usize,
    collections: &[&str],
) -> anyhow::Result<Login> {
    let (mut mongodb, mut refused_since) = (mongodb.clone(), None);
    patiently(async || {
        if let Ok(now) = mongodb.read_again() {
            mongodb.passwords = now.passwords;
        }
        let login = log_in(&mongodb, lanes_max, async |database, options| {
            verify(database, options, collections).await
        });
        match login.await {
            Err(Fault::Refused(why)) if mongodb.credentials.can_change() => {
                let since = refused_since.get_or_insert_with(Instant::now);
                match since.elapsed() < REFUSED_MAX {
                    true => Err(Fault::Away(why)),
                    false => Err(Fault::Refused(why)),
                }
            }
            other => other,
        }
    })
    .await
}

/// For commands: connects as [`connect`] does, waits for nothing, verifies only that the user is let in, makes nothing.
///
/// # Errors
/// [`StartupError`] for what is wrong for good; another error where MongoDB does not answer.
pub async fn open(mongodb: &Mongodb) -> anyhow::Result<Database> {
    let opened = log_in(mongodb, 1, async |database, options| {
        match database.run_command(doc! { "ping": 1 }).await {
            Ok(_) => Ok(()),
            Err(error) => Err(User::of(options).fault(&error)),
        }
    });
    match opened.await {
        Ok(login) => Ok(login.database),
        Err(Fault::Wrong(why) | Fault::Refused(why)) => {
            Err(StartupError::configuration(why).into())
        }
        Err(Fault::Away(why)) => Err(anyhow::anyhow!("MongoDB does not answer: {why}")),
    }
}

/// The collections in which every state must be written by itself, because the server judges each one: those with a
/// document validator, or with a unique index besides `_id`'s.
pub async fn unfoldable(database: &Database) -> anyhow::Result<HashSet<String>> {
    patiently(async || {
        let user = User::unknown();
        let collections = list(database).await.map_err(|error| user.fault(&error))?;
        let mut unfoldable = HashSet::new();
        for collection in collections.iter().filter(|collection| is_plain(collection)) {
            let name = collection.get_str("name").unwrap_or_default();
            let validator = collection
                .get_document("options")
                .and_then(|options| options.get_document("validator"));
            if validator.is_ok_and(|validator| !validator.is_empty())
                || has_unique_index(database, name)
                    .await
                    .map_err(|error| user.fault(&error))?
            {
                unfoldable.insert(name.to_owned());
            }
        }
        Ok(unfoldable)
    })
    .await
}

/// Tries until something other than time is needed. Says once that it waits, and once that it no longer does.
async fn patiently<T>(mut attempt: impl AsyncFnMut() -> Result<T, Fault>) -> anyhow::Result<T> {
    let mut backoff = Backoff::new();
    loop {
        match attempt().await {
            Ok(done) => {
                if backoff.tries() > 0 {
                    tracing::info!(tries = backoff.tries(), "MongoDB answers");
                }
                return Ok(done);
            }
            Err(Fault::Wrong(why) | Fault::Refused(why)) => {
                return Err(StartupError::configuration(why).into());
            }
            Err(Fault::Away(why)) if backoff.tries() == 0 => {
                tracing::warn!("MongoDB does not answer yet, asking until it does: {why}");
            }
            Err(Fault::Away(why)) => tracing::debug!("MongoDB does not answer yet: {why}"),
        }
        backoff.wait().await;
    }
}

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
                // the driver leaves out a server that is not of the set that the URI names
                ErrorKind::ServerSelection { .. } => ask_each(options)
                    .await
                    .unwrap_or_else(|| user.fault(&error)),
                _ => user.fault(&error),
            });
        }
    };
    fault::of_hello(&hello, options.repl_set_name.as_deref())?;

    let status = doc! { "connectionStatus": 1, "showPrivileges": true };
    let status = database
        .run_command(status)
        .await
        .map_err(|error| user.fault(&error))?;
    if let Some(missing) = privileges::missing(&status, database.name(), collections) {
        return Err(Fault::Wrong(user.lacks(&missing, database.name())));
    }
    let existing = list(database).await.map_err(|error| user.fault(&error))?;
    for name in collections {
        match existing
            .iter()
            .find(|collection| collection.get_str("name").is_ok_and(|found| found == *name))
        {
            Some(collection) if is_plain(collection) => {}
            Some(_) => {
                return Err(Fault::Wrong(format!(
                    "{}.{name} is not a collection but a view or the like: drop it",
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

/// Why no server can be found, where one of the hosts can tell by itself.
async fn ask_each(options: &ClientOptions) -> Option<Fault> {
    let set = options.repl_set_name.as_deref();
    for host in options.hosts.iter().take(HOSTS_ASKED_MAX) {
        let fault = match hello(host, options.tls.clone()).await {
            Ok(hello) => fault::of_hello(&hello, set).err(),
            Err(error) => match (fault::of_tls(&error), &options.tls) {
                (None, Some(Tls::Enabled(_))) if hello(host, None).await.is_ok() => {
                    Some(fault::no_tls("the server does not speak TLS"))
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

async fn list(database: &Database) -> Result<Vec<Document>, Error> {
    let cursor = database
        .run_cursor_command(doc! { "listCollections": 1 })
        .await?;
    cursor.try_collect().await
}

/// Neither a view nor a time series, nor the server's own.
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

async fn has_unique_index(database: &Database, collection: &str) -> Result<bool, Error> {
    let cursor = database
        .run_cursor_command(doc! { "listIndexes": collection })
        .await?;
    let indexes: Vec<Document> = cursor.try_collect().await?;
    Ok(indexes.iter().any(|index| {
        let on_id = index
            .get_document("key")
            .is_ok_and(|key| key.keys().eq(["_id"]));
        index.get_bool("unique").unwrap_or(false) && !on_id
    }))
}
