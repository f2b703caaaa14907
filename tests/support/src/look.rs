//! What there is in a scene: its topic's log, its group's offsets, its database's documents.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bson::{Bson, Document, Uuid, doc};
use mongodb::Collection;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::task::spawn_blocking;
use workflows_sink::checkpoint;
use workflows_sink::kafka::topic_id::topic_id;
use workflows_sink::writer::dead_letter;

use crate::scene::Scene;
use crate::wait::{DEADLINE, POLL, until, until_within};

/// What the names of the sink's own collections begin with.
const OWN: &str = "workflows_sink_";

impl Scene {
    /// Every entity of every routed collection, by collection and id.
    pub async fn entities(&self) -> BTreeMap<(String, String), Document> {
        let mut entities = BTreeMap::new();
        for name in self
            .database
            .list_collection_names()
            .await
            .expect("collections")
        {
            if name.starts_with(OWN) {
                continue;
            }
            for document in self.all(&name).await {
                let id = document.get_str("_id").expect("a string _id").to_owned();
                entities.insert((name.clone(), id), document);
            }
        }
        entities
    }

    /// Every document of a collection.
    pub async fn all(&self, collection: &str) -> Vec<Document> {
        let mut found = Vec::new();
        let collection = self.database.collection::<Document>(collection);
        let mut cursor = collection.find(doc! {}).await.expect("a cursor");
        while cursor.advance().await.expect("the next document") {
            // By way of serde `{"$oid": …}` would be interpreted.
            found.push(Document::try_from(cursor.current()).expect("a document"));
        }
        found
    }

    /// The dead letters.
    pub async fn dead_letters(&self) -> Vec<Document> {
        self.all(dead_letter::COLLECTION).await
    }

    /// The next offsets of the group's checkpoints, by partition.
    pub async fn checkpoints(&self) -> BTreeMap<i32, i64> {
        let mut checkpoints = self.all(checkpoint::COLLECTION).await;
        checkpoints.retain(|checkpoint| {
            let id = checkpoint.get_document("_id").expect("an _id");
            id.get_str("group").is_ok_and(|group| group == self.group)
        });
        let read = |checkpoint: &Document| {
            let partition = checkpoint
                .get_document("_id")
                .and_then(|id| id.get_i32("partition"));
            (
                partition.expect("a partition"),
                checkpoint.get_i64("next_offset").expect("a next_offset"),
            )
        };
        checkpoints.iter().map(read).collect()
    }

    /// The checkpoint of a partition.
    pub async fn checkpoint(&self, partition: i32) -> Option<Document> {
        let filter = doc! { "_id": self.checkpoint_id(partition) };
        let found = self.checkpoint_collection().find_one(filter).await;
        found.expect("an answer")
    }

    /// The `_id` of a partition's checkpoint.
    pub fn checkpoint_id(&self, partition: i32) -> Document {
        doc! { "group": &self.group, "topic": &self.topic, "partition": partition }
    }

    /// The collection of checkpoints.
    pub fn checkpoint_collection(&self) -> Collection<Document> {
        self.database.collection(checkpoint::COLLECTION)
    }

    /// A consumer of the group that does not join it.
    pub(crate) fn outsider(&self) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config.set("group.id", &self.group);
        config.create().expect("a consumer")
    }

    /// The id that the broker gave the topic.
    pub async fn topic_id(&self) -> Uuid {
        let (outsider, topic) = (self.outsider(), self.topic.clone());
        let id = spawn_blocking(move || topic_id(outsider.client(), &topic, DEADLINE));
        id.await.expect("an answer").expect("an id")
    }

    /// The end of each partition's log.
    pub async fn log_ends(&self) -> BTreeMap<i32, i64> {
        let (outsider, topic) = (self.outsider(), self.topic.clone());
        let ends = spawn_blocking(move || {
            let metadata = outsider.fetch_metadata(Some(&topic), DEADLINE);
            let metadata = metadata.expect("metadata");
            let partitions = metadata.topics()[0].partitions().iter();
            let end = |partition| (partition, end_of(&outsider, &topic, partition));
            partitions.map(|partition| end(partition.id())).collect()
        });
        ends.await.expect("the ends of the log")
    }

    /// The offsets that the group has committed, by partition.
    pub async fn committed(&self) -> BTreeMap<i32, i64> {
        let (outsider, topic) = (self.outsider(), self.topic.clone());
        let partitions = self.log_ends().await.into_keys();
        let committed = spawn_blocking(move || {
            let mut list = TopicPartitionList::new();
            for partition in partitions {
                list.add_partition(&topic, partition);
            }
            let committed = outsider.committed_offsets(list, DEADLINE).expect("offsets");
            let offset = |element: &TopicPartitionListElem<'_>| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            };
            committed.elements().iter().filter_map(offset).collect()
        });
        committed.await.expect("the committed offsets")
    }

    /// Waits until every record is settled: each checkpoint stands at its log's end.
    pub async fn settled(&self) {
        self.settled_within(DEADLINE).await;
    }

    /// [`Scene::settled`], for what takes longer than most.
    pub async fn settled_within(&self, deadline: Duration) {
        until_within(
            deadline,
            "every checkpoint stands at its log's end",
            || async {
                let ends = self.log_ends().await;
                let checkpoints = self.checkpoints().await;
                ends.iter()
                    .all(|(partition, end)| *end == 0 || checkpoints.get(partition) == Some(end))
            },
        )
        .await;
    }

    /// Waits until what is in the log now is applied, whatever comes meanwhile.
    pub async fn applies_the_log(&self) {
        let ends = self.log_ends().await;
        until("what was in the log is applied", || async {
            let checkpoints = self.checkpoints().await;
            let applied = |(partition, end): (&i32, &i64)| {
                *end == 0 || checkpoints.get(partition).is_some_and(|next| next >= end)
            };
            ends.iter().all(applied)
        })
        .await;
    }
}

/// The end of a partition's log, once a broker is known to lead it.
fn end_of(outsider: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    let until = Instant::now() + DEADLINE;
    loop {
        match outsider.fetch_watermarks(topic, partition, DEADLINE) {
            Ok((_, end)) => return end,
            Err(error) => assert!(Instant::now() < until, "an end: {error}"),
        }
        std::thread::sleep(POLL);
    }
}

/// The number in a document, whatever its width.
pub fn number(value: Option<&Bson>) -> i64 {
    match value {
        Some(Bson::Int32(n)) => i64::from(*n),
        Some(Bson::Int64(n)) => *n,
        other => panic!("not a number: {other:?}"),
    }
}
