//! Gathers the evidence from the servers, once the run has ended and all is well.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bson::{Bson, Document, RawDocumentBuf, Timestamp, Uuid, doc};
use futures_util::future::try_join_all;
use mongodb::error::ErrorKind;
use mongodb::options::ReadConcern;
use mongodb::{Database, options::WriteConcern};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use workflows_sink::checkpoint::{Checkpoint, Key};
use workflows_sink::kafka::topic_id::topic_id;
use workflows_sink::record::Partition;

use super::{CHECKPOINTS, DEAD_LETTERS, Lineage, PartitionLog, Record, Sample};

/// Where [`read_events`] writes down how far to read; the checker ignores it.
pub const MARKER: &str = "workflows_sink_test_marker";

/// How long one answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// The oplog no longer reaches back to where the change stream must begin.
pub const HISTORY_LOST: i32 = 286;

/// The time of the replica set now: take it before the first worker starts.
pub async fn operation_time(database: &Database) -> anyhow::Result<Timestamp> {
    let reply = database.run_command(doc! { "ping": 1 }).await?;
    reply
        .get_timestamp("operationTime")
        .context("a replica set that answers with its time")
}

/// Every event of the database from `since` until now, each as a majority has it.
///
/// # Errors
/// If the oplog does not reach back that far, it says so; no verdict is possible then.
pub async fn read_events(database: &Database, since: Timestamp) -> anyhow::Result<Vec<Document>> {
    let marker = Uuid::new();
    database
        .collection(MARKER)
        .insert_one(doc! { "_id": marker })
        .write_concern(WriteConcern::majority())
        .await
        .context("the marker")?;
    let mut stream = database
        .watch()
        .start_at_operation_time(since)
        .max_await_time(Duration::from_millis(100))
        .await
        .map_err(lost)?
        .with_type::<RawDocumentBuf>();
    let mut events: Vec<Document> = Vec::new();
    loop {
        let next = tokio::time::timeout(ANSWER_DEADLINE, stream.next_if_any());
        let next = next.await.context("no answer from the change stream")?;
        let Some(event) = next.map_err(lost)? else {
            continue;
        };
        // By way of serde `{"$oid": …}` would be interpreted.
        let event = Document::try_from(&*event)?;
        let key = event.get_document("documentKey");
        if key.is_ok_and(|key| key.get("_id") == Some(&Bson::from(marker))) {
            return Ok(events);
        }
        events.push(event);
    }
}

fn lost(error: mongodb::error::Error) -> anyhow::Error {
    match error.kind.as_ref() {
        ErrorKind::Command(command) if command.code == HISTORY_LOST => anyhow::Error::new(error)
            .context(
                "history was lost: the oplog is too small for this run, so nothing can be judged",
            ),
        _ => anyhow::Error::new(error).context("the change stream"),
    }
}

/// The entities: every document of the collections that are not the service's own.
pub async fn documents(database: &Database) -> anyhow::Result<Vec<(String, Document)>> {
    let mut documents = Vec::new();
    for name in database.list_collection_names().await? {
        if !name.starts_with("workflows_sink_") && !name.starts_with("system.") {
            let found = all(database, &name).await?;
            documents.extend(found.into_iter().map(|document| (name.clone(), document)));
        }
    }
    Ok(documents)
}

/// The dead letters.
pub async fn dead_letters(database: &Database) -> anyhow::Result<Vec<Document>> {
    all(database, DEAD_LETTERS).await
}

/// The checkpoints, of every group and topic.
pub async fn checkpoints(database: &Database) -> anyhow::Result<Vec<Document>> {
    all(database, CHECKPOINTS).await
}

async fn all(database: &Database, collection: &str) -> anyhow::Result<Vec<Document>> {
    let mut found = Vec::new();
    let collection = database.collection::<Document>(collection);
    let mut cursor = collection
        .find(doc! {})
        .read_concern(ReadConcern::majority())
        .await?;
    while cursor.advance().await? {
        found.push(Document::try_from(cursor.current())?);
    }
    Ok(found)
}

/// The topic's log from its start to its end, as a consumer sees it that reads committed records
/// alone. Blocks; call it before the topic is deleted too, once nobody produces.
pub fn read_log(bootstrap: &str, topic: &str) -> anyhow::Result<Lineage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "the-checker")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("fetch.message.max.bytes", "20000000")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_DEADLINE)?;
    let found = metadata.topics().first().context("no such topic")?;
    let mut lineage = Lineage {
        topic_id: topic_id(consumer.client(), topic, ANSWER_DEADLINE),
        ..Lineage::default()
    };
    let mut assignment = TopicPartitionList::new();
    for partition in found.partitions() {
        let (start, end) = consumer.fetch_watermarks(topic, partition.id(), ANSWER_DEADLINE)?;
        assignment.add_partition_offset(topic, partition.id(), Offset::Offset(start))?;
        let log = PartitionLog {
            start,
            end,
            records: Vec::new(),
        };
        lineage.partitions.insert(partition.id(), log);
    }
    if lineage.topic_id.is_none() || lineage.partitions.is_empty() {
        bail!("the broker does not know {topic}");
    }
    consumer.assign(&assignment)?;
    let mut unfinished = lineage.partitions.len();
    while unfinished > 0 {
        match consumer
            .poll(ANSWER_DEADLINE)
            .context("no record in time")?
        {
            Ok(message) => {
                let log = lineage.partitions.get_mut(&message.partition());
                log.context("a record of no partition")?
                    .records
                    .push(record(&message));
            }
            Err(KafkaError::PartitionEOF(_)) => unfinished -= 1,
            Err(error) => return Err(error).context("the log cannot be read"),
        }
    }
    for log in lineage.partitions.values_mut() {
        let end = log.end;
        log.records.retain(|record| record.offset < end);
    }
    Ok(lineage)
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect()
        }),
    }
}

/// What the group has committed in each of the topic's partitions; blocks. Take it before
/// [`sample`].
pub fn committed(
    bootstrap: &str,
    group: &str,
    topic: &str,
    timeout: Duration,
) -> anyhow::Result<BTreeMap<i32, Option<i64>>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), timeout)?;
    let found = metadata.topics().first().context("no such topic")?;
    let mut list = TopicPartitionList::new();
    for partition in found.partitions() {
        list.add_partition(topic, partition.id());
    }
    let committed = consumer.committed_offsets(list, timeout)?;
    let offset = |offset: Offset| match offset {
        Offset::Offset(offset) if offset >= 0 => Some(offset),
        _ => None,
    };
    Ok(committed
        .elements()
        .iter()
        .map(|element| (element.partition(), offset(element.offset())))
        .collect())
}

/// What was committed, each beside the checkpoint now. Linearizable: a new primary may show for a
/// moment what a majority had earlier than what the old one acknowledged.
pub async fn sample(
    database: &Database,
    group: &str,
    topic: &str,
    committed: &BTreeMap<i32, Option<i64>>,
    timeout: Duration,
) -> anyhow::Result<Vec<Sample>> {
    let sample = async |(partition, committed): (&i32, &Option<i64>)| {
        let key = Key {
            group: group.to_owned(),
            partition: Partition::new(topic, *partition),
        };
        let found = database
            .collection::<Document>(CHECKPOINTS)
            .find_one(doc! { "_id": key.id() })
            .read_concern(ReadConcern::linearizable())
            .max_time(timeout)
            .await?;
        let checkpoint = found.and_then(|found| Checkpoint::read(&found).ok());
        anyhow::Ok(Sample {
            at_ms: bson::DateTime::now().timestamp_millis(),
            partition: *partition,
            committed: *committed,
            checkpoint: checkpoint.map(|found| (found.topic_id, found.next_offset)),
        })
    };
    try_join_all(committed.iter().map(sample)).await
}
