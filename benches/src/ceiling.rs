//! The ceiling: a loader that sends the same commands in the same transactions on as many lanes,
//! all of them encoded before the clock starts. It does nothing else but consume the same topic and
//! throw the records away, if asked to.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bson::{Document, RawDocumentBuf, doc};
use futures_util::future::try_join_all;
use local_stack::observe;
use mongodb::options::{ReadConcern, TransactionOptions, WriteConcern};
use mongodb::{ClientSession, Database};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use tokio::sync::Semaphore;
use workflows_sink::checkpoint;
use workflows_sink::config::{Config, Limits, reference};
use workflows_sink::kafka;
use workflows_sink::record::Rejections;
use workflows_sink::record::batch::Batch;
use workflows_sink::record::entity::{Decoder, Tombstones};
use workflows_sink::record::fold::{Folding, KindChanges, Plan, WriteMode};
use workflows_sink::record::mapping::Mapping;
use workflows_sink::writer::command::{self, STATEMENT_MS_MAX};

use crate::discarding::{self, Discarding};
use crate::stage::{Drained, Stage};

const READ_DEADLINE: Duration = Duration::from_secs(30);
const TRIES_MAX: usize = 20;

/// A topic read into batches like those of the service when it never waits for records.
pub struct Ceiling {
    mapping: Mapping,
    /// The service's defaults.
    limits: Limits,
    topic: String,
    /// Of a consumer like the service's.
    consumer: ClientConfig,
    partitions: Vec<Vec<Batch>>,
}

/// One transaction, ready to be sent.
struct Transaction {
    guard: RawDocumentBuf,
    commands: Vec<RawDocumentBuf>,
    records: usize,
}

impl Ceiling {
    /// Reads a whole topic. Blocks.
    pub fn read(bootstrap: &str, topic: &str, partitions: i32) -> Result<Ceiling> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "ceiling")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let mapping = Mapping::builtin();
        // A URI is all that has to be set; no connection is made of it.
        let uri = reference::CONNECTION_STRING.name.to_owned();
        let config = Config::from_vars([(uri, "mongodb://localhost".to_owned())].into_iter())?;
        let consumer_of_service = discarding::properties(&config, bootstrap, partitions);
        let limits = config.limits;
        let mut decoder = Decoder::new(Arc::new(Mapping::builtin()), Tombstones::Ignore);
        let mut batches: Vec<Vec<Batch>> = (0..partitions).map(|_| vec![Batch::new(0)]).collect();
        let mut open = partitions;
        while open > 0 {
            match consumer
                .poll(READ_DEADLINE)
                .context("the topic does not end")?
            {
                Err(KafkaError::PartitionEOF(_)) => open -= 1,
                Err(error) => return Err(error.into()),
                Ok(message) => {
                    let partition = &mut batches[message.partition() as usize];
                    let batch = partition.last_mut().context("a partition has a batch")?;
                    batch.push(&mut decoder, kafka::record(&message));
                    if batch.is_larger_than(limits.flush_bytes_max) && batch.entries().len() > 1 {
                        let next = batch.split_last();
                        partition.extend(next);
                    } else if batch.entries().len() == limits.flush_records_max {
                        let next = Batch::new(batch.end());
                        partition.push(next);
                    }
                }
            }
        }
        Ok(Ceiling {
            mapping,
            limits,
            topic: topic.to_owned(),
            consumer: consumer_of_service,
            partitions: batches,
        })
    }

    /// Sends it all, over whatever entities there are; `with_broker`, it also consumes the topic
    /// meanwhile, and ends when it has done both.
    pub async fn drain(&self, stage: &mut Stage, with_broker: bool) -> Result<Drained> {
        let group = stage.name("ceiling");
        let client = stage.client().await?;
        let database = client.database(local_stack::mongo::DATABASE);
        self.prepare(stage, &group).await?;
        let mut total = 0;
        let settled = Arc::new(AtomicUsize::new(0));
        let lanes = Arc::new(Semaphore::new(self.limits.lanes_max));
        let mut sending = Vec::new();
        for (partition, batches) in self.partitions.iter().enumerate() {
            let transactions = self.encode(&group, partition as i32, batches)?;
            total += transactions.iter().map(|t| t.records).sum::<usize>();
            let session = client.start_session().await?;
            sending.push(send(
                database.clone(),
                session,
                transactions,
                Arc::clone(&lanes),
                Arc::clone(&settled),
            ));
        }
        let mut discarding = match with_broker {
            true => Some(self.consume(&settled)?),
            false => None,
        };
        if let Some(discarding) = &mut discarding {
            discarding.begun().await?;
        }
        let own = std::process::id();
        let sending = tokio::spawn(try_join_all(sending.into_iter().map(flat)));
        let drained = stage
            .follow(
                total,
                async || {
                    let sent = settled.load(Ordering::Relaxed);
                    ensure!(
                        !sending.is_finished() || settled.load(Ordering::Relaxed) == total,
                        "the ceiling's loader failed"
                    );
                    let taken = discarding.as_mut().map(Discarding::taken).transpose()?;
                    Ok(taken.map_or(sent, |taken| taken.min(sent)))
                },
                || Ok(observe::usage(own)?.cpu),
            )
            .await;
        sending.await??;
        drained
    }

    /// At most as far ahead as the service's lanes are when each of them has a full batch.
    fn consume(&self, settled: &Arc<AtomicUsize>) -> Result<Discarding> {
        let batches = self.partitions.iter().flatten();
        let batch_max = batches.map(|batch| batch.entries().len()).max();
        Discarding::start(
            &self.consumer,
            &self.topic,
            self.partitions.len() as i32,
            Arc::clone(settled),
            self.limits.lanes_max * batch_max.unwrap_or(1),
        )
    }

    /// The collections and the checkpoints that the guards look for.
    async fn prepare(&self, stage: &Stage, group: &str) -> Result<()> {
        let database = stage.database();
        let existing: HashSet<String> = database
            .list_collection_names()
            .await?
            .into_iter()
            .collect();
        let routed = self.mapping.collections().map(|(_, name)| name);
        for name in routed.chain([checkpoint::COLLECTION]) {
            if !existing.contains(name) {
                database.create_collection(name).await?;
            }
        }
        let checkpoints: Vec<Document> = (0..self.partitions.len() as i32)
            .map(|partition| doc! { "_id": id(group, partition), "owner": group, "next_offset": 0_i64 })
            .collect();
        database
            .collection(checkpoint::COLLECTION)
            .insert_many(checkpoints)
            .await?;
        Ok(())
    }

    fn encode(
        &self,
        group: &str,
        partition: i32,
        batches: &[Batch],
    ) -> Result<VecDeque<Transaction>> {
        let (unfoldable, refused) = (HashSet::new(), HashMap::new());
        let folding = Folding {
            mode: WriteMode::Set,
            kind_changes: KindChanges::Keep,
            unfoldable: &unfoldable,
            enabled: true,
            rejections: Rejections::default(),
            rejections_in_a_row_max: 0,
        };
        let mut transactions = VecDeque::new();
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            let plan = Plan::new(batch, 0..batch.entries().len(), &folding, &refused);
            ensure!(
                plan.rejected.is_empty(),
                "the load holds records that are rejected"
            );
            let mut commands = Vec::new();
            for (collection, writes) in &plan.writes {
                let name = self.mapping.collection(*collection);
                for run in command::runs(writes) {
                    commands.push(command::update(name, run, WriteMode::Set, STATEMENT_MS_MAX));
                }
            }
            let guard = doc! {
                "update": checkpoint::COLLECTION,
                "updates": [{
                    "q": { "_id": id(group, partition), "owner": group, "next_offset": batch.start() },
                    "u": { "$set": { "next_offset": batch.end() }, "$currentDate": { "updated_at": true } },
                }],
                "maxTimeMS": STATEMENT_MS_MAX,
            };
            transactions.push_back(Transaction {
                guard: RawDocumentBuf::try_from(&guard)?,
                commands,
                records: batch.entries().len(),
            });
        }
        Ok(transactions)
    }
}

fn id(group: &str, partition: i32) -> Document {
    doc! { "group": group, "topic": "ceiling", "partition": partition }
}

async fn flat(sending: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    tokio::spawn(sending).await?
}

/// One partition's transactions, one after the other.
async fn send(
    database: Database,
    mut session: ClientSession,
    mut transactions: VecDeque<Transaction>,
    lanes: Arc<Semaphore>,
    settled: Arc<AtomicUsize>,
) -> Result<()> {
    while let Some(mut transaction) = transactions.pop_front() {
        let _lane = lanes.acquire().await?;
        // Writers in different partitions may meet where the server makes a collection's first
        // page.
        let mut tries = 0;
        while let Err(error) = attempt(&database, &mut session, &mut transaction).await {
            tries += 1;
            let transient = error.contains_label(mongodb::error::TRANSIENT_TRANSACTION_ERROR);
            if !transient || tries == TRIES_MAX {
                bail!("the ceiling's transaction failed: {error}");
            }
        }
        settled.fetch_add(transaction.records, Ordering::Relaxed);
    }
    Ok(())
}

async fn attempt(
    database: &Database,
    session: &mut ClientSession,
    transaction: &mut Transaction,
) -> mongodb::error::Result<()> {
    let options = TransactionOptions::builder()
        .read_concern(ReadConcern::local())
        .write_concern(WriteConcern::majority())
        .build();
    session.start_transaction().with_options(options).await?;
    database
        .run_raw_command(transaction.guard.clone())
        .session(&mut *session)
        .await?;
    for command in &transaction.commands {
        database
            .run_raw_command(command.clone())
            .session(&mut *session)
            .await?;
    }
    session.commit_transaction().await
}
