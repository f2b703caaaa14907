//! MongoDB: documents that are inserted where an id is missing, and read back.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bson::raw::cstr;
use bson::{Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use mongodb::error::ErrorKind;
use mongodb::options::{ReadConcern, WriteConcern};
use mongodb::{Collection, Database};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use workflows_sink::config::Mongodb;
use workflows_sink::database::errors::shown;

use crate::contract::{Fields, fields};
use crate::entities::Moving;
use crate::id::NewId;
use crate::report::Report;

/// Documents of one request.
const DOCUMENTS_MAX: usize = 500;
/// Bytes of one request, below the 48 MB of a message.
const BYTES_MAX: usize = 16 << 20;
/// How long one request may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);
/// MongoDB's code for an id, or a unique value, that is there already.
const DUPLICATE_KEY: i32 = 11000;

/// A connection as the service makes it, for a thread that waits.
pub struct Connection {
    runtime: Runtime,
    database: Database,
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// Where MongoDB does not answer, or does not let the user in.
    pub fn open(mongodb: &Mongodb) -> Result<Connection> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let database = runtime.block_on(workflows_sink::database::open(mongodb))?;
        Ok(Connection { runtime, database })
    }

    fn collection(&self, name: &str) -> Collection<RawDocumentBuf> {
        let options = mongodb::options::CollectionOptions::builder()
            .read_concern(ReadConcern::majority())
            .write_concern(WriteConcern::majority())
            .build();
        self.database.collection_with_options(name, options)
    }

    /// Where it is: the hosts and the replica set, by what the server says of itself.
    ///
    /// # Errors
    /// Where MongoDB does not answer.
    pub fn servers(&self) -> Result<(Vec<String>, Option<String>)> {
        let asked = self.database.run_command(doc! { "hello": 1 });
        let hello = self.answer("its servers", asked.into_future())?;
        let hosts = hello.get_array("hosts").map_or(&[][..], Vec::as_slice);
        let hosts = hosts
            .iter()
            .filter_map(|host| Some(host.as_str()?.to_owned()));
        let set = hello.get_str("setName").ok().map(str::to_owned);
        Ok((hosts.collect(), set))
    }

    /// Whether the database is there: MongoDB makes one with its first collection.
    ///
    /// # Errors
    /// Where MongoDB does not answer.
    pub fn is_there(&self) -> Result<bool> {
        let asked = self.database.list_collection_names();
        let names = self.answer(self.database.name(), asked.into_future())?;
        Ok(!names.is_empty())
    }

    /// The fields of the documents with these ids, as a majority has them, by id.
    ///
    /// # Errors
    /// Where MongoDB does not answer.
    pub fn find(&self, name: &str, ids: &[NewId]) -> Result<HashMap<String, Fields>> {
        let ids: Vec<String> = ids.iter().map(NewId::to_string).collect();
        let collection = self.collection(name);
        self.answer(name, async {
            let mut found = collection.find(doc! { "_id": { "$in": ids } }).await?;
            let mut documents = HashMap::new();
            while let Some(document) = found.try_next().await? {
                let id = document.get_str("_id").unwrap_or_default().to_owned();
                documents.insert(id, fields(&document).unwrap_or_default());
            }
            Ok(documents)
        })
    }

    /// Those of these ids that have a document, as a majority has them.
    ///
    /// # Errors
    /// Where MongoDB does not answer.
    pub fn existing(&self, name: &str, ids: &[NewId]) -> Result<Vec<NewId>> {
        let ids: Vec<String> = ids.iter().map(NewId::to_string).collect();
        let collection = self.collection(name);
        let only_id = doc! { "_id": 1 };
        let asked = collection.find(doc! { "_id": { "$in": ids } });
        self.answer(name, async {
            let mut found = asked.projection(only_id).await?;
            let mut existing = Vec::new();
            while let Some(document) = found.try_next().await? {
                existing.extend(
                    document
                        .get_str("_id")
                        .ok()
                        .and_then(|id| id.parse::<NewId>().ok()),
                );
            }
            Ok(existing)
        })
    }

    /// Whether a document with another id has this value in a field.
    ///
    /// # Errors
    /// Where MongoDB does not answer.
    pub fn is_taken(&self, name: &str, field: &str, value: &str, id: NewId) -> Result<bool> {
        let collection = self.collection(name);
        let others = doc! { field: value, "_id": { "$ne": id.to_string() } };
        let other = self.answer(name, collection.find_one(others).into_future())?;
        Ok(other.is_some())
    }

    /// How many documents a collection has.
    ///
    /// # Errors
    /// Where MongoDB does not answer.
    pub fn count(&self, name: &str) -> Result<u64> {
        let collection = self.collection(name);
        let count = collection.count_documents(Document::new());
        self.answer(name, count.into_future())
    }

    /// Inserts documents; gives for each whether it was inserted, or is there already, or why not.
    ///
    /// # Errors
    /// Where MongoDB does not answer.
    pub fn insert_absent(
        &self,
        name: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<Vec<Result<bool, String>>> {
        let collection = self.collection(name);
        let insert = collection.insert_many(documents).ordered(false);
        let inserted = async { timeout(ANSWER_DEADLINE, insert.into_future()).await };
        let inserted = self.runtime.block_on(inserted);
        let inserted = inserted.with_context(|| no_answer(name))?;
        let mut results: Vec<Result<bool, String>> = vec![Ok(true); documents.len()];
        let Err(error) = inserted else {
            return Ok(results);
        };
        let ErrorKind::InsertMany(ref many) = *error.kind else {
            bail!("nothing was inserted into {name}: {}", shown(&error));
        };
        if let Some(concern) = &many.write_concern_error {
            bail!(
                "no majority has what was inserted into {name}: {} (code {})",
                concern.code_name,
                concern.code
            );
        }
        for refused in many.write_errors.iter().flatten() {
            if let Some(result) = results.get_mut(refused.index) {
                // The message quotes the document: its code is enough.
                *result = match refused.code {
                    DUPLICATE_KEY => Ok(false),
                    code => Err(format!("{name} refuses it, code {code}")),
                };
            }
        }
        self.tell_other_values(name, documents, &mut results)?;
        Ok(results)
    }

    /// What is taken may be another unique value than the id: then the document is not there.
    fn tell_other_values(
        &self,
        name: &str,
        documents: &[RawDocumentBuf],
        results: &mut [Result<bool, String>],
    ) -> Result<()> {
        for (result, document) in results.iter_mut().zip(documents) {
            if *result != Ok(false) {
                continue;
            }
            let id = doc! { "_id": document.get_str("_id").unwrap_or_default() };
            let collection = self.collection(name);
            let count = self.answer(name, collection.count_documents(id).into_future())?;
            if count == 0 {
                *result = Err(format!(
                    "another document of {name} has one of its unique values: change one of them"
                ));
            }
        }
        Ok(())
    }

    fn answer<T>(
        &self,
        name: &str,
        asked: impl Future<Output = Result<T, mongodb::error::Error>>,
    ) -> Result<T> {
        let answered = self
            .runtime
            .block_on(async { timeout(ANSWER_DEADLINE, asked).await });
        let answered = answered.with_context(|| no_answer(name))?;
        answered
            .map_err(|error| anyhow!("MongoDB refuses a question about {name}: {}", shown(&error)))
    }
}

fn no_answer(name: &str) -> String {
    format!(
        "MongoDB does not answer about {name} for {ANSWER_DEADLINE:?}: see to it, and run this again"
    )
}

/// Inserts entities, some hundred at a time.
pub struct Inserter {
    connection: Connection,
    waiting: BTreeMap<String, Vec<Waiting>>,
    documents: usize,
    bytes: usize,
}

struct Waiting {
    id: NewId,
    document: RawDocumentBuf,
    kind: String,
    place: datastore_export::Place,
    path: String,
}

impl Inserter {
    /// Connects.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn open(mongodb: &Mongodb) -> Result<Inserter> {
        Ok(Inserter {
            connection: Connection::open(mongodb)?,
            waiting: BTreeMap::new(),
            documents: 0,
            bytes: 0,
        })
    }

    /// What it inserts through.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Takes an entity, and inserts those that wait once they are enough.
    ///
    /// # Errors
    /// Where MongoDB does not answer.
    pub fn push(&mut self, moving: Moving<'_>, report: &mut Report) -> Result<()> {
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("_id"), moving.accepted.id.to_string());
        let fields = RawDocumentBuf::from_bytes(moving.accepted.document)?;
        for element in &fields {
            let (name, value) = element?;
            document.append(name, value);
        }
        self.documents += 1;
        self.bytes += document.as_bytes().len();
        let collection = self.waiting.entry(moving.accepted.collection).or_default();
        collection.push(Waiting {
            id: moving.accepted.id,
            document,
            kind: moving.kind,
            place: moving.place.clone(),
            path: moving.path,
        });
        if self.documents >= DOCUMENTS_MAX || self.bytes >= BYTES_MAX {
            self.flush(report)?;
        }
        Ok(())
    }

    /// Inserts those that wait.
    ///
    /// # Errors
    /// Where MongoDB does not answer.
    pub fn flush(&mut self, report: &mut Report) -> Result<()> {
        (self.documents, self.bytes) = (0, 0);
        for (name, waiting) in std::mem::take(&mut self.waiting) {
            let documents: Vec<RawDocumentBuf> =
                waiting.iter().map(|one| one.document.clone()).collect();
            let results = self.connection.insert_absent(&name, &documents)?;
            let there = waiting.iter().zip(&results);
            let there = there.filter(|(_, result)| **result == Ok(false));
            let there: Vec<NewId> = there.map(|(one, _)| one.id).collect();
            let found = self.connection.find(&name, &there)?;
            for (one, result) in waiting.into_iter().zip(results) {
                match result {
                    Ok(true) => report.count(&one.kind, "inserted"),
                    Ok(false)
                        if found.get(&one.id.to_string()) == Some(&fields(&one.document)?) =>
                    {
                        report.count(&one.kind, "there already");
                    }
                    Ok(false) => report.count(&one.kind, "left: the document there is another one"),
                    Err(why) => report.reject(&one.place, Some(one.path), why),
                }
            }
        }
        Ok(())
    }
}
