//! A real replica set, the sink's side of it, and the eyes and hands of an operator.

pub mod faults;
pub mod proxy;
mod wire;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::{Bson, Document, Uuid, doc};
use local_stack::{Mongo, MongoOptions};
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::ClientOptions;
use mongodb::{Client, ClientSession, Database};
use tokio::sync::OnceCell;
use workflows_sink::checkpoint::{self, Checkpoint, Checkpoints, Claim, ClaimError, Key, Sessions};
use workflows_sink::database::errors::Cause;
use workflows_sink::database::outage::Outage;
use workflows_sink::database::{Connection, Swap};
use workflows_sink::record::batch::Batch;
use workflows_sink::record::entity::{Decoder, Tombstones};
use workflows_sink::record::fold::{KindChanges, WriteMode};
use workflows_sink::record::mapping::Mapping;
use workflows_sink::record::{Partition, Record};
use workflows_sink::writer::dead_letter;
use workflows_sink::writer::{Groups, Settled, Target, Unwritten, Writer, session_id, sessions_of};

use faults::Faults;
use proxy::Proxy;

/// How long anything may take before a test gives up.
const DEADLINE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(5);

/// The collections that tests write to; made up front, as the service does, since making one inside
/// a transaction fails the others that run meanwhile.
const COLLECTIONS: [&str; 4] = [
    checkpoint::COLLECTION,
    dead_letter::COLLECTION,
    "datasets",
    "models",
];

static MONGO: OnceCell<Mongo> = OnceCell::const_new();

/// The replica set of one that most tests share.
pub async fn shared() -> &'static Mongo {
    MONGO
        .get_or_init(|| async {
            // A reaper that need not wait: see `World::reap`.
            let parameters = vec!["TransactionRecordMinimumLifetimeMinutes=0".to_owned()];
            let options = MongoOptions {
                parameters,
                ..MongoOptions::default()
            };
            Mongo::start(options).await.unwrap()
        })
        .await
}

/// Waits for `condition`, no longer than [`DEADLINE`].
pub async fn soon<T>(what: &str, condition: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, condition).await {
        Ok(value) => value,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

/// Asks repeatedly until the answer is yes.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !condition().await {
            tokio::time::sleep(POLL).await;
        }
    };
    soon(what, asking).await;
}

/// A database of its own on a replica set, as an operator sees it; and one partition's checkpoint.
pub struct World {
    pub operator: Client,
    pub database: Database,
    uri: String,
    host: String,
    app: String,
}

impl World {
    /// On the shared replica set.
    pub async fn new(name: &str) -> World {
        World::on(shared().await, name).await
    }

    /// On a replica set of the test's own.
    pub async fn on(mongo: &Mongo, name: &str) -> World {
        let operator = mongo.admin().await.unwrap();
        let database = operator.database(name);
        for collection in COLLECTIONS {
            database.create_collection(collection).await.unwrap();
        }
        World {
            operator,
            database,
            uri: mongo.uri(),
            host: mongo.host(0),
            app: name.to_owned(),
        }
    }

    /// A sink that is connected to the replica set.
    pub async fn sink(&self) -> Sink {
        self.connect(&self.uri).await
    }

    /// A sink whose connections go through a proxy to the first member.
    pub async fn sink_behind_proxy(&self) -> (Sink, Proxy) {
        let proxy = Proxy::to(&self.host).await;
        let uri = self.uri.replace(&self.host, &proxy.address);
        let uri = uri.replace("replicaSet=rs0", "directConnection=true");
        (self.connect(&uri).await, proxy)
    }

    async fn connect(&self, uri: &str) -> Sink {
        let mut options = ClientOptions::parse(uri).await.unwrap();
        options.app_name = Some(self.app.clone());
        let commands = Commands::default();
        options.command_event_handler = Some(commands.handler());
        let client = Client::with_options(options).unwrap();
        let database = client.database(self.database.name());
        let (connection, swap) = Connection::new(database.clone());
        Sink {
            checkpoints: Checkpoints::new(database.clone(), key()),
            database,
            connection,
            swap,
            commands,
            mapping: Arc::new(Mapping::builtin()),
            mode: WriteMode::Set,
            kind_changes: KindChanges::Keep,
            unfoldable: HashSet::new(),
        }
    }

    /// The server's own failures, for sinks of this world only.
    pub async fn faults(&self) -> Faults {
        Faults::shared(&self.operator, &self.app).await
    }

    /// The checkpoint as it stands.
    pub async fn checkpoint(&self) -> Option<Checkpoint> {
        let found = self
            .database
            .collection::<Document>(checkpoint::COLLECTION)
            .find_one(doc! { "_id": key().id() })
            .await
            .unwrap();
        found.map(|found| Checkpoint::read(&found).unwrap())
    }

    pub async fn next_offset(&self) -> i64 {
        self.checkpoint().await.unwrap().next_offset
    }

    /// Changes the checkpoint by hand.
    pub async fn tamper(&self, update: Document) {
        let updated = self
            .database
            .collection::<Document>(checkpoint::COLLECTION)
            .update_one(doc! { "_id": key().id() }, update)
            .await
            .unwrap();
        assert_eq!(updated.matched_count, 1);
    }

    /// The documents of a collection by their `_id`.
    pub async fn documents(&self, collection: &str) -> BTreeMap<String, Document> {
        let mut found = self.find(collection).await;
        found.sort_by_key(|document| document.get("_id").map(Bson::to_string));
        found
            .into_iter()
            .map(|mut document| {
                let id = document.remove("_id").unwrap();
                (
                    id.as_str().map_or_else(|| id.to_string(), str::to_owned),
                    document,
                )
            })
            .collect()
    }

    /// The dead letters in the order of their offsets.
    pub async fn dead_letters(&self) -> Vec<Document> {
        let mut letters = self.find(dead_letter::COLLECTION).await;
        letters.sort_by_key(letter_offset);
        letters
    }

    /// How far each partition's checkpoint is, and how often a transaction has moved it there, as
    /// the replica set's log has it.
    pub async fn moves(&self) -> BTreeMap<i32, (i64, usize)> {
        let namespace = format!("{}.{}", self.database.name(), checkpoint::COLLECTION);
        let oplog = self.operator.database("local").collection("oplog.rs");
        let find = oplog.find(doc! { "o.applyOps.ns": &namespace });
        let mut entries = find.sort(doc! { "$natural": 1 }).await.unwrap();
        let mut moves = BTreeMap::new();
        for checkpoint in self.find(checkpoint::COLLECTION).await {
            let partition = partition_of(&checkpoint);
            let next_offset = checkpoint.get_i64("next_offset").unwrap();
            moves.insert(partition, (next_offset, 0));
        }
        while entries.advance().await.unwrap() {
            let entry: Document = entries.deserialize_current().unwrap();
            let operations = entry.get_document("o").unwrap();
            for operation in operations.get_array("applyOps").unwrap() {
                let operation = operation.as_document().unwrap();
                if operation.get_str("ns").unwrap() == namespace {
                    let of = partition_of(operation.get_document("o2").unwrap());
                    moves.get_mut(&of).unwrap().1 += 1;
                }
            }
        }
        moves
    }

    /// How many transactions have moved a checkpoint, as the replica set's log has it.
    pub async fn commits(&self) -> usize {
        let oplog = self
            .operator
            .database("local")
            .collection::<Document>("oplog.rs");
        let namespace = format!("{}.{}", self.database.name(), checkpoint::COLLECTION);
        let moved = oplog
            .count_documents(doc! { "o.applyOps.ns": namespace })
            .await;
        moved.unwrap() as usize
    }

    /// Kills a session, as an administrator may.
    pub async fn kill(&self, session: Uuid) {
        let kill = doc! { "killSessions": [{ "id": session }] };
        self.operator
            .database("admin")
            .run_command(kill)
            .await
            .unwrap();
    }

    /// Makes the server forget what a session has done, as it does after half an hour.
    pub async fn reap(&self, session: Uuid) {
        for command in [
            doc! { "endSessions": [{ "id": session }], "$db": "admin" },
            doc! { "refreshLogicalSessionCacheNow": 1, "$db": "admin" },
            doc! { "reapLogicalSessionCacheNow": 1, "$db": "admin" },
        ] {
            let answer = wire::ask(&self.host, &command).await;
            assert_eq!(answer.get_f64("ok").unwrap(), 1.0, "{answer}");
        }
        let records = self.operator.database("config");
        let records = records.collection::<Document>("transactions");
        let kept = records.count_documents(doc! { "_id.id": session }).await;
        assert_eq!(kept.unwrap(), 0);
    }

    async fn find(&self, collection: &str) -> Vec<Document> {
        let mut cursor = self
            .database
            .collection::<Document>(collection)
            .find(doc! {})
            .await
            .unwrap();
        let mut found = Vec::new();
        while cursor.advance().await.unwrap() {
            found.push(cursor.deserialize_current().unwrap());
        }
        found
    }
}

fn partition_of(checkpoint: &Document) -> i32 {
    let id = checkpoint.get_document("_id").unwrap();
    id.get_i32("partition").unwrap()
}

pub fn letter_offset(letter: &Document) -> i64 {
    letter
        .get_document("_id")
        .unwrap()
        .get_i64("offset")
        .unwrap()
}

/// The checkpoint that every test of one partition is about.
pub fn key() -> Key {
    key_of(3)
}

/// The checkpoint of a partition.
pub fn key_of(partition: i32) -> Key {
    Key {
        group: "sinks".into(),
        partition: Partition::new("states", partition),
    }
}

/// The sink's side: its client, and what it asked of the server.
pub struct Sink {
    pub database: Database,
    pub checkpoints: Checkpoints,
    pub commands: Commands,
    pub mapping: Arc<Mapping>,
    pub mode: WriteMode,
    pub kind_changes: KindChanges,
    /// Where its writers look for the client in use.
    pub connection: Connection,
    /// Gives them another one.
    pub swap: Swap,
    pub unfoldable: HashSet<workflows_sink::record::mapping::CollectionId>,
}

impl Sink {
    /// With states of `kind` written one by one.
    pub fn unfolding(mut self, kind: &str) -> Sink {
        self.unfoldable
            .insert(Mapping::builtin().route(kind).unwrap());
        self
    }

    pub async fn session(&self) -> ClientSession {
        self.database.client().start_session().await.unwrap()
    }

    /// Claims the checkpoint as the service does, opening it at `first` where there is none.
    pub async fn writer(&self, first: i64) -> Writer {
        let session = self.session().await;
        let (owner, session_id) = (Uuid::new(), session_id(&session));
        let found = claim(&self.checkpoints, owner, session_id, first).await;
        self.writer_of(session, owner, &found)
    }

    /// A writer for a claim that was made some other way.
    pub fn writer_of(&self, session: ClientSession, owner: Uuid, found: &Checkpoint) -> Writer {
        let checkpoints = self.checkpoints.clone();
        self.writer_for(
            Arc::new(self.target(None)),
            session,
            checkpoints,
            owner,
            found,
        )
    }

    /// Writers of `partitions`, which share transactions; each claims its checkpoint as the service
    /// does.
    pub async fn lanes(&self, partitions: i32) -> Vec<Writer> {
        let groups = Groups::new(Arc::clone(&self.mapping), self.kind_changes, 2);
        let target = Arc::new(self.target(Some(groups)));
        let group = target.group(&self.connection.current()).await.unwrap();
        let mut lanes = Vec::new();
        for partition in 0..partitions {
            let (session, owner) = (self.session().await, Uuid::new());
            let checkpoints = Checkpoints::new(self.database.clone(), key_of(partition));
            let sessions = sessions_of(&session, group.as_deref());
            let found = claim(&checkpoints, owner, sessions, 0).await;
            let lane = self.writer_for(Arc::clone(&target), session, checkpoints, owner, &found);
            lanes.push(lane.joining(group.clone()));
        }
        lanes
    }

    fn target(&self, groups: Option<Groups>) -> Target {
        Target {
            rejections_in_a_row_max: 0,
            mapping: Arc::clone(&self.mapping),
            mode: self.mode,
            kind_changes: self.kind_changes,
            unfoldable: self.unfoldable.clone().into(),
            groups,
        }
    }

    fn writer_for(
        &self,
        target: Arc<Target>,
        session: ClientSession,
        checkpoints: Checkpoints,
        owner: Uuid,
        found: &Checkpoint,
    ) -> Writer {
        let claim = Claim {
            owner,
            position: found.position(),
            epoch: found.epoch,
            topic_id: found.topic_id,
            former_topic_ids: found.former_topic_ids.clone(),
            rejections: found.rejections,
            reject_next: found.reject_next,
        };
        let (connection, current) = (self.connection.clone(), self.connection.current());
        let outage = Arc::new(Outage::default());
        Writer::new(
            target,
            connection,
            current,
            session,
            checkpoints,
            claim,
            outage,
        )
    }
}

/// Claims until it counts, as the service does.
pub async fn claim(
    checkpoints: &Checkpoints,
    owner: Uuid,
    sessions: impl Into<Sessions>,
    first: i64,
) -> Checkpoint {
    let sessions = sessions.into();
    let claiming = async {
        for tries in 0.. {
            match try_claim(checkpoints, owner, sessions, first, tries).await {
                Ok(Some(found)) => return found,
                Ok(None) | Err(_) => tokio::time::sleep(POLL).await,
            }
        }
        unreachable!()
    };
    soon("the claim counts", claiming).await
}

async fn try_claim(
    checkpoints: &Checkpoints,
    owner: Uuid,
    sessions: Sessions,
    first: i64,
    tries: u32,
) -> Result<Option<Checkpoint>, ClaimError> {
    match checkpoints.claim(owner, sessions, tries).await? {
        Some(found) => Ok(Some(found)),
        None => {
            checkpoints
                .open(owner, sessions, first.into(), None, tries)
                .await
        }
    }
}

/// Writes a batch under a deadline; says why each failed attempt failed.
pub async fn write(writer: &mut Writer, batch: &Batch) -> (Result<Settled, Unwritten>, Vec<Cause>) {
    let mut causes = Vec::new();
    let written = writer.write(batch, |cause| causes.push(cause));
    let written = soon("the batch is written", written).await;
    (written, causes)
}

/// Writes a batch that must get through.
pub async fn settle(writer: &mut Writer, batch: &Batch) -> Settled {
    write(writer, batch).await.0.unwrap()
}

/// The commands that a sink has sent, in their order.
#[derive(Clone, Default)]
pub struct Commands(Arc<Mutex<Vec<String>>>);

impl Commands {
    fn handler(&self) -> EventHandler<CommandEvent> {
        let commands = self.clone();
        EventHandler::callback(move |event| {
            if let CommandEvent::Started(started) = event {
                commands.0.lock().unwrap().push(started.command_name);
            }
        })
    }

    /// Those since the last time.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Records that follow each other from an offset on.
pub struct Records {
    batch: Batch,
    decoder: Decoder,
}

/// A batch that begins at `start`.
pub fn records(start: i64) -> Records {
    records_by(Arc::new(Mapping::builtin()), start)
}

/// A batch that begins at `start`, decoded by another mapping.
pub fn records_by(mapping: Arc<Mapping>, start: i64) -> Records {
    Records {
        batch: Batch::new(start),
        decoder: Decoder::new(mapping, Tombstones::Delete),
    }
}

impl Records {
    /// An entity of `kind`; `fields` is the inside of a JSON object.
    pub fn entity(self, kind: &str, id: &str, fields: &str) -> Self {
        let value = format!(r#"{{"id": "{id}", "kind": "{kind}", {fields}}}"#);
        self.push(Some(id.as_bytes()), Some(value.as_bytes()))
    }

    pub fn dataset(self, id: &str, fields: &str) -> Self {
        self.entity("Dataset", id, fields)
    }

    /// `count` datasets with ids `PREFIX-0`, `PREFIX-1`, …, whose field `n` is their number.
    pub fn datasets(mut self, prefix: &str, count: usize) -> Self {
        for n in 0..count {
            self = self.dataset(&format!("{prefix}-{n}"), &format!(r#""n": {n}"#));
        }
        self
    }

    pub fn tombstone(self, id: &str) -> Self {
        self.push(Some(id.as_bytes()), None)
    }

    pub fn push(mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        let record = Record {
            leader_epoch: None,
            offset: self.batch.end(),
            timestamp_ms: Some(1_700_000_000_000),
            key,
            value,
            headers: vec![],
        };
        self.record(record);
        self
    }

    pub fn record(&mut self, record: Record<'_>) {
        assert!(self.batch.push(&mut self.decoder, record));
    }

    pub fn batch(self) -> Batch {
        self.batch
    }
}
