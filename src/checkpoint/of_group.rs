//! The checkpoints of a whole group: whether there are any, and the first ones.

use bson::{DateTime, Document, Uuid, doc};
use mongodb::Database;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::WriteConcern;

use super::store::DUPLICATE_KEY;
use super::{COLLECTION, Key, leader_epoch};
use crate::database::errors::code;
use crate::record::Position;

/// A checkpoint that nobody has claimed yet.
#[derive(Clone, Debug)]
pub struct FirstCheckpoint {
    /// What it is of.
    pub key: Key,
    /// Where it begins.
    pub start: Position,
    /// The id of the topic; `None` where the broker gives none.
    pub topic_id: Option<Uuid>,
}

/// Makes all of these checkpoints, or none. `false` where there is one of them already.
///
/// # Errors
/// The driver's or the server's. They may have been made all the same.
pub async fn open_all(database: &Database, first: &[FirstCheckpoint]) -> Result<bool, Error> {
    let documents = first.iter().map(|first| {
        doc! {
            "_id": first.key.id(),
            "next_offset": first.start.offset,
            "leader_epoch": leader_epoch(first.start),
            "topic_id": first.topic_id,
            "epoch": 0_i64,
            "updated_at": DateTime::now(),
        }
    });
    let documents: Vec<Document> = documents.collect();
    if documents.is_empty() {
        return Ok(true);
    }
    let mut session = database.client().start_session().await?;
    let begun = session.start_transaction();
    begun.write_concern(WriteConcern::majority()).await?;
    let collection = database.collection::<Document>(COLLECTION);
    let inserted = collection.insert_many(documents).session(&mut session);
    if let Err(error) = inserted.await {
        let _ = session.abort_transaction().await;
        return match is_duplicate(&error) {
            true => Ok(false),
            false => Err(error),
        };
    }
    session.commit_transaction().await?;
    Ok(true)
}

fn is_duplicate(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::InsertMany(failed) => {
            (failed.write_errors.iter().flatten()).any(|error| error.code == DUPLICATE_KEY)
        }
        _ => code(error) == Some(DUPLICATE_KEY),
    }
}

/// The groups other than `group` with checkpoints for one of `topics`: they are not fenced against
/// us.
///
/// # Errors
/// The driver's or the server's.
pub async fn other_groups(
    database: &Database,
    group: &str,
    topics: &[String],
) -> Result<Vec<String>, Error> {
    let filter = doc! { "_id.topic": { "$in": topics }, "_id.group": { "$ne": group } };
    distinct(database, "_id.group", filter).await
}

/// The topics among `topics` for which `group` has a checkpoint of any partition.
///
/// # Errors
/// The driver's or the server's.
pub async fn known_topics(
    database: &Database,
    group: &str,
    topics: &[String],
) -> Result<Vec<String>, Error> {
    distinct(database, "_id.topic", of(group, topics)).await
}

/// How many checkpoints `group` has of `topics`, of partitions that are no more too.
///
/// # Errors
/// The driver's or the server's.
pub async fn count_checkpoints(
    database: &Database,
    group: &str,
    topics: &[String],
) -> Result<u64, Error> {
    let checkpoints = database.collection::<Document>(COLLECTION);
    checkpoints.count_documents(of(group, topics)).await
}

/// Removes the checkpoints of `group` for `topics`, as a majority has it; how many.
///
/// # Errors
/// The driver's or the server's. Some may have been removed all the same.
pub async fn forget_checkpoints(
    database: &Database,
    group: &str,
    topics: &[String],
) -> Result<u64, Error> {
    let checkpoints = database.collection::<Document>(COLLECTION);
    let removed = checkpoints.delete_many(of(group, topics));
    Ok(removed
        .write_concern(WriteConcern::majority())
        .await?
        .deleted_count)
}

fn of(group: &str, topics: &[String]) -> Document {
    doc! { "_id.topic": { "$in": topics }, "_id.group": group }
}

/// The different texts in a field of the checkpoints that `filter` finds.
async fn distinct(
    database: &Database,
    field: &str,
    filter: Document,
) -> Result<Vec<String>, Error> {
    let checkpoints = database.collection::<Document>(COLLECTION);
    let found = checkpoints.distinct(field, filter).await?;
    let texts = found.iter().filter_map(|value| value.as_str());
    Ok(texts.map(str::to_owned).collect())
}
