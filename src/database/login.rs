//! A client that MongoDB authenticates.

use std::time::Duration;

use mongodb::{Client, Database, bson::doc, options::ClientOptions};
use secrecy::{ExposeSecret as _, SecretString};

use super::fault::{self, Fault, User};
use crate::config::Mongodb;

/// How long the driver looks for a server that can run an operation, unless the URI says otherwise.
/// Short: the caller retries.
pub(super) const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections besides three for each lane (a large batch, a small one written alone, the claim of
/// a successor): those of the group, of reads of checkpoints, and of pings.
const CONNECTIONS_SPARE: usize = 4;

/// A client that MongoDB has authenticated.
#[derive(Debug)]
pub struct Login {
    /// The configured database.
    pub database: Database,
    /// The password that it is authenticated with, if any.
    pub password: Option<SecretString>,
}

/// Logs in with the first of the passwords that is accepted. `check` runs a command on each client,
/// which authenticates it, and says what is wrong.
///
/// `lanes_max`: how many batches are written at the same time.
pub(super) async fn log_in(
    mongodb: &Mongodb,
    lanes_max: usize,
    check: impl AsyncFn(&Database, &ClientOptions) -> Result<(), Fault>,
) -> Result<Login, Fault> {
    let options = options(mongodb, lanes_max).await?;
    let uri = mongodb.uri.expose_secret();
    let mut passwords: Vec<Option<&SecretString>> = mongodb.passwords.iter().map(Some).collect();
    if passwords.is_empty() {
        passwords.push(None);
    }
    let mut refused = None;
    for password in passwords {
        let mut options = options.clone();
        if let (Some(credential), Some(password)) = (&mut options.credential, password) {
            credential.password = Some(password.expose_secret().to_owned());
        }
        let client = Client::with_options(options.clone())
            .map_err(|error| fault::of_options(&error, uri))?;
        let database = client.database(&mongodb.database);
        match check(&database, &options).await {
            Err(Fault::Unauthenticated(why)) => refused = refused.or(Some(why)),
            Err(fault) => return Err(fault),
            Ok(()) => {
                let password = password.cloned();
                return Ok(Login { database, password });
            }
        }
    }
    let why = refused.expect("one login is tried, and what does not return was refused");
    Err(Fault::Unauthenticated(why))
}

/// Has MongoDB authenticate a client, and checks nothing else.
pub(super) async fn authenticate(
    database: &Database,
    options: &ClientOptions,
) -> Result<(), Fault> {
    match database.run_command(doc! { "ping": 1 }).await {
        Ok(_) => Ok(()),
        Err(error) => Err(User::of(options).fault(&error)),
    }
}

async fn options(mongodb: &Mongodb, lanes_max: usize) -> Result<ClientOptions, Fault> {
    let uri = mongodb.uri.expose_secret();
    let mut options = ClientOptions::parse(uri)
        .await
        .map_err(|error| fault::of_options(&error, uri))?;
    let connections = u32::try_from(3 * lanes_max + CONNECTIONS_SPARE);
    let connections = connections.expect("the configuration bounds LANES_MAX");
    options.max_pool_size.get_or_insert(connections);
    options
        .app_name
        .get_or_insert_with(|| "workflows-sink".to_owned());
    options
        .server_selection_timeout
        .get_or_insert(SERVER_SELECTION_TIMEOUT);
    options
        .connect_timeout
        .get_or_insert(SERVER_SELECTION_TIMEOUT);
    Ok(options)
}
