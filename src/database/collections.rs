//! The collections of a database, and what in them stands in the way of a write.

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::Database;
use mongodb::error::Error;

use super::{errors, is_plain, list};

/// One collection.
#[derive(Clone, Debug)]
pub struct CollectionFacts {
    /// Its name.
    pub name: String,
    /// Whether it is neither a view nor a time series.
    pub is_plain: bool,
    /// Whether the server judges its documents.
    pub has_validator: bool,
    /// The names of its unique indexes, but for that of `_id`.
    pub unique: Vec<String>,
    /// The names of its TTL indexes.
    pub expiring: Vec<String>,
}

/// Every collection that is not the server's own.
///
/// # Errors
/// What the driver or the server says, which may be shown.
pub async fn describe(database: &Database) -> Result<Vec<CollectionFacts>, String> {
    let described = all(database).await;
    described.map_err(|error| errors::shown(&error))
}

pub(super) async fn all(database: &Database) -> Result<Vec<CollectionFacts>, Error> {
    let mut found = Vec::new();
    for collection in list(database).await? {
        let name = collection.get_str("name").unwrap_or_default().to_owned();
        if name.starts_with("system.") {
            continue;
        }
        let is_plain = is_plain(&collection);
        let indexes = match is_plain {
            true => indexes(database, &name).await?,
            false => Vec::new(),
        };
        let named = |is_meant: fn(&Document) -> bool| -> Vec<String> {
            let meant = indexes.iter().filter(|index| is_meant(index));
            meant
                .filter_map(|index| Some(index.get_str("name").ok()?.to_owned()))
                .collect()
        };
        found.push(CollectionFacts {
            is_plain,
            has_validator: has_validator(&collection),
            unique: named(is_unique),
            expiring: named(|index| index.contains_key("expireAfterSeconds")),
            name,
        });
    }
    Ok(found)
}

async fn indexes(database: &Database, collection: &str) -> Result<Vec<Document>, Error> {
    let cursor = database
        .run_cursor_command(doc! { "listIndexes": collection })
        .await?;
    cursor.try_collect().await
}

/// Whether the server judges the documents of a collection, as `listCollections` describes it.
fn has_validator(collection: &Document) -> bool {
    let options = collection.get_document("options");
    let validator = options.and_then(|options| options.get_document("validator"));
    validator.is_ok_and(|validator| !validator.is_empty())
}

/// Whether an index is unique, and not that of `_id`.
fn is_unique(index: &Document) -> bool {
    let on_id = index
        .get_document("key")
        .is_ok_and(|key| key.keys().eq(["_id"]));
    index.get_bool("unique").unwrap_or(false) && !on_id
}
