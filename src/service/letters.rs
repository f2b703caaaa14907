//! What the service does about dead letters besides writing them: the indexes by which they are
//! counted and closed ones go, and how many are open.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Database;
use mongodb::error::Error;

use crate::database::values::number;
use crate::database::{Connection, errors};
use crate::record::entity::Reason;
use crate::telemetry::code::Code;
use crate::telemetry::metrics::Metrics;
use crate::writer::dead_letter::{COLLECTION, OPEN};

/// The index that lists and counts the letters of a group and a state, the latest first.
const BY_STATE: &str = "workflows_sink_by_state";

/// The index by which closed letters go.
const CLOSED: &str = "workflows_sink_closed";

/// How long the server may take for one of these commands, in milliseconds.
const COMMAND_MS_MAX: i64 = 10_000;

/// How much longer its answer is waited for.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// How often the open letters are counted.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// How many letters are counted at the most: their index alone is read.
const COUNTED_MAX: i64 = 100_000;

/// How many letters without a state are counted at the most: these are read themselves.
const STATELESS_MAX: i64 = 10_000;

/// Makes the indexes that are missing. Where this fails the service works all the same: lists and
/// counts read more, and closed letters stay. `closed_ttl_seconds`: how long closed letters are
/// kept; 0: for ever.
pub(super) async fn make_indexes(database: &Database, closed_ttl_seconds: i32) {
    let limit = Duration::from_millis(COMMAND_MS_MAX as u64) + ANSWER_GRACE;
    let error = match tokio::time::timeout(limit, indexes(database, closed_ttl_seconds)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => errors::shown(&error),
        Err(_) => format!("no answer within {limit:?}"),
    };
    tracing::warn!(
        code = %Code::IndexesNotMade,
        error,
        "the indexes of the dead letters were not made or changed; the next start tries again"
    );
}

async fn indexes(database: &Database, closed_ttl_seconds: i32) -> Result<(), Error> {
    let list = doc! { "listIndexes": COLLECTION, "maxTimeMS": COMMAND_MS_MAX };
    let found = database.run_cursor_command(list).await?;
    let found: Vec<Document> = found.try_collect().await?;
    let named = |name: &str| {
        found
            .iter()
            .find(|index| index.get_str("name").ok() == Some(name))
    };
    let mut missing = Vec::new();
    if named(BY_STATE).is_none() {
        missing.push(by_state());
    }
    let closed = closed(closed_ttl_seconds);
    let is_as_set = |index: &Document| {
        let seconds = |index: &Document| number(index.get("expireAfterSeconds"));
        closed
            .as_ref()
            .is_some_and(|closed| seconds(closed) == seconds(index))
    };
    match (named(CLOSED), closed.clone()) {
        (Some(index), _) if is_as_set(index) => {}
        (None, None) => {}
        (Some(_), closed) => {
            // The service's role may make and drop indexes, but not change them.
            let drop = doc! { "dropIndexes": COLLECTION, "index": CLOSED };
            database.run_command(drop).await?;
            missing.extend(closed);
        }
        (None, Some(closed)) => missing.push(closed),
    }
    if !missing.is_empty() {
        let create = doc! {
            "createIndexes": COLLECTION, "indexes": missing, "maxTimeMS": COMMAND_MS_MAX,
        };
        database.run_command(create).await?;
    }
    Ok(())
}

/// Fields within `_id` are in no index of its own. Reason and kind are there so that nothing but
/// the index is read to count by them.
fn by_state() -> Document {
    doc! {
        "name": BY_STATE,
        "key": {
            "_id.group": 1, "state": 1, "rejected_at": -1, "_id": -1, "reason": 1, "detail.kind": 1,
        },
    }
}

/// An open letter has no `closed.at`, so it never goes.
fn closed(ttl_seconds: i32) -> Option<Document> {
    let index = doc! {
        "name": CLOSED, "key": { "closed.at": 1 }, "expireAfterSeconds": ttl_seconds,
    };
    (ttl_seconds > 0).then_some(index)
}

/// Counts the open letters of `group` now and then, without end, and shows how many there are.
pub(super) async fn watch_open(connection: Connection, group: String, metrics: Arc<Metrics>) {
    loop {
        let database = connection.current().database;
        let limit = Duration::from_millis(COMMAND_MS_MAX as u64) + ANSWER_GRACE;
        match tokio::time::timeout(limit, count_open(&database, &group)).await {
            Ok(Ok(counts)) => {
                for (reason, count) in counts {
                    metrics.dead_letters_open(reason, count);
                }
            }
            Ok(Err(error)) => {
                let error = errors::shown(&error);
                tracing::debug!(error, "the open dead letters were not counted");
            }
            Err(_) => tracing::debug!("the open dead letters were not counted in time"),
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

/// How many open letters there are of each reason.
async fn count_open(database: &Database, group: &str) -> Result<Vec<(Reason, i64)>, Error> {
    let mut counts: Vec<(Reason, i64)> = Reason::ALL.map(|reason| (reason, 0)).into();
    for (state, counted_max) in [(Bson::from(OPEN), COUNTED_MAX), (Bson::Null, STATELESS_MAX)] {
        let command = doc! {
            "aggregate": COLLECTION,
            "pipeline": [
                { "$match": { "_id.group": group, "state": state } },
                { "$limit": counted_max },
                { "$group": { "_id": "$reason", "count": { "$sum": 1_i64 } } },
            ],
            "cursor": {},
            "maxTimeMS": COMMAND_MS_MAX / 2,
        };
        let found = database.run_cursor_command(command).await?;
        let found: Vec<Document> = found.try_collect().await?;
        for found in found {
            let reason = found.get_str("_id").unwrap_or_default();
            let same = counts
                .iter_mut()
                .find(|(known, _)| known.as_str() == reason);
            if let Some((_, count)) = same {
                *count += number(found.get("count")).unwrap_or(0);
            }
        }
    }
    Ok(counts)
}
