//! What MongoDB has of one key and of the checkpoints, all as it was at one moment: a batch's
//! documents, letters and checkpoint are one transaction, so none is seen without the others.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use bson::raw::RawDocumentBuf;
use bson::{Document, doc};
use mongodb::{ClientSession, Database};

use super::fields::TopFields;
use crate::backoff::Backoff;
use crate::checkpoint;
use crate::cli::{LetterFilter, LetterState};
use crate::commands::dead_letters::{listed, matching};
use crate::commands::offsets::of_topics;
use crate::config::Config;
use crate::database::errors;
use crate::record::mapping::CollectionId;
use crate::writer::dead_letter;

/// How many letters of one key are looked at.
pub(super) const LETTERS_MAX: usize = 10_000;

/// How often a moment is looked for: one at which a collection was just made cannot be read. What
/// does not pass by itself ends it at once.
const TRIES_MAX: u32 = 5;

/// How long one question may take.
const FIND_MAX: Duration = Duration::from_secs(60);

/// What MongoDB has.
pub(super) struct Moment {
    /// The group's checkpoints of the configured topics.
    pub(super) checkpoints: Vec<Document>,
    /// The key's letters, the latest first, as a list has them: at most [`LETTERS_MAX`].
    pub(super) letters: Vec<Document>,
    /// The documents with this `_id` in the collections of the mapping.
    pub(super) documents: BTreeMap<CollectionId, TopFields>,
}

/// Reads the moment that is now, as a majority has it.
///
/// # Errors
/// The driver's or the server's.
pub(super) async fn moment(
    config: &Config,
    database: &Database,
    key: &str,
) -> anyhow::Result<Moment> {
    let mut backoff = Backoff::new();
    loop {
        match read(config, database, key).await {
            Err(error) if backoff.tries() < TRIES_MAX && may_pass(&error) => backoff.wait().await,
            read => return read.context("MongoDB was not read"),
        }
    }
}

fn may_pass(error: &anyhow::Error) -> bool {
    let of_mongodb = error.downcast_ref::<mongodb::error::Error>();
    of_mongodb.is_some_and(errors::may_pass)
}

async fn read(config: &Config, database: &Database, key: &str) -> anyhow::Result<Moment> {
    let session = database.client().start_session().snapshot(true).await?;
    let mut finder = Finder { database, session };
    let checkpoints = finder.find(checkpoint::COLLECTION, of_topics(&config.kafka), doc! {});
    let checkpoints = documents(checkpoints.await?)?;
    let filter = LetterFilter {
        key: Some(key.to_owned()),
        ..LetterFilter::default()
    };
    let filter = matching(&config.kafka.group, &filter, LetterState::All);
    let letters = finder
        .find(dead_letter::COLLECTION, filter, listed())
        .await?;
    let mut found = BTreeMap::new();
    for (id, name) in config.mapping.collections() {
        let with_id = finder.find(name, doc! { "_id": key }, doc! {}).await?;
        if let Some(document) = with_id.first() {
            found.insert(id, TopFields::read(document)?);
        }
    }
    Ok(Moment {
        checkpoints,
        letters: documents(letters)?,
        documents: found,
    })
}

/// Finds documents of one moment.
struct Finder<'a> {
    database: &'a Database,
    session: ClientSession,
}

impl Finder<'_> {
    /// What matches: the latest letters, or checkpoints or documents, in no order that counts. At
    /// most [`LETTERS_MAX`], which is more than there are of the others.
    async fn find(
        &mut self,
        collection: &str,
        filter: Document,
        projection: Document,
    ) -> anyhow::Result<Vec<RawDocumentBuf>> {
        let collection = self.database.collection::<RawDocumentBuf>(collection);
        let mut cursor = collection
            .find(filter)
            .projection(projection)
            .sort(doc! { "rejected_at": -1, "_id": -1 })
            .limit(LETTERS_MAX as i64)
            .max_time(FIND_MAX)
            .session(&mut self.session)
            .await?;
        let mut found = Vec::new();
        while cursor.advance(&mut self.session).await? {
            // By way of serde, `{"$oid": …}` would be interpreted.
            found.push(cursor.current().to_owned());
        }
        Ok(found)
    }
}

fn documents(raw: Vec<RawDocumentBuf>) -> anyhow::Result<Vec<Document>> {
    let read = raw.iter().map(Document::try_from);
    Ok(read.collect::<Result<_, _>>()?)
}
