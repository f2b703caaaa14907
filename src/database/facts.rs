//! What a person asks of MongoDB first: who is primary, how far a majority is behind it, and what
//! the user may do.

use bson::{DateTime, Document, doc};
use mongodb::Database;
use mongodb::error::Error;

use super::privileges;

/// The state of the replica set, and of the user's privileges.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The set's name.
    pub set: Option<String>,
    /// The primary, as `host:port`.
    pub primary: Option<String>,
    /// How much older than the last write the last one is that a majority has, in milliseconds.
    pub majority_lag_ms: Option<i64>,
    /// The server's version.
    pub version: Option<String>,
    /// A database whose name differs from the configured one only in upper and lower case: MongoDB
    /// makes no second one.
    pub differs_in_case: Option<String>,
    /// What the user may not do and the service does.
    pub missing: Option<String>,
    /// What it may not do to the indexes of the dead letters: the service works without.
    pub missing_for_indexes: Option<String>,
    /// What the user may do beyond `readWrite` on the database.
    pub excess: Vec<String>,
}

/// Asks the primary of `database`. `collections` are those that the service writes, and `letters`
/// the one of the dead letters.
///
/// # Errors
/// What the driver or the server says: to be [shown](super::errors::shown).
pub async fn facts(
    database: &Database,
    collections: &[&str],
    letters: &str,
) -> Result<Facts, Error> {
    let hello = database.run_command(doc! { "hello": 1 }).await?;
    let build = database.run_command(doc! { "buildInfo": 1 }).await?;
    let status = doc! { "connectionStatus": 1, "showPrivileges": true };
    let status = database.run_command(status).await?;
    let text = |document: &Document, name: &str| document.get_str(name).ok().map(str::to_owned);
    let written = hello.get_document("lastWrite").ok();
    let date = |name: &str| -> Option<DateTime> { written?.get_datetime(name).ok().copied() };
    let lag = |last: DateTime, majority: DateTime| {
        (last.timestamp_millis() - majority.timestamp_millis()).max(0)
    };
    Ok(Facts {
        set: text(&hello, "setName"),
        primary: text(&hello, "primary"),
        majority_lag_ms: date("lastWriteDate")
            .zip(date("majorityWriteDate"))
            .map(|(last, majority)| lag(last, majority)),
        version: text(&build, "version"),
        differs_in_case: differs_in_case(database).await?,
        missing: privileges::missing(&status, database.name(), collections),
        missing_for_indexes: privileges::missing_for_indexes(&status, database.name(), letters),
        excess: privileges::excess(&status, database.name()),
    })
}

/// A database that the user may see, and whose name differs from that of `database` only in upper
/// and lower case. The server refuses to make another one (`DatabaseDifferCase`).
///
/// # Errors
/// What the driver or the server says.
pub(super) async fn differs_in_case(database: &Database) -> Result<Option<String>, Error> {
    let client = database.client();
    let names = client
        .list_database_names()
        .authorized_databases(true)
        .await?;
    let wanted = database.name();
    if names.iter().any(|name| name == wanted) {
        return Ok(None);
    }
    let differs = |name: &String| name.eq_ignore_ascii_case(wanted);
    Ok(names.into_iter().find(differs))
}
