//! What a person or another program does to a scene behind the service's back.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use bson::{Document, Uuid, doc};
use local_stack::Topics;
use mongodb::Collection;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use tokio::task::block_in_place;
use workflows_sink::kafka::topic_id;

use super::worker::{DEADLINE, Produced, Scene, Worker, number, world};

/// A state of entity `n`, for one partition.
pub fn state(n: u32, state: &str, partition: i32) -> Produced {
    let id = format!("e{n:031x}");
    let json = format!(r#"{{"id":"{id}","kind":"Dataset","status":"{state}"}}"#);
    Produced {
        partition: Some(partition),
        ..Produced::new(id, json)
    }
}

/// A record that can only become a dead letter.
pub fn poison(partition: i32) -> Produced {
    Produced {
        partition: Some(partition),
        ..Produced::new("poison", "not JSON")
    }
}

/// One state of each entity in `range`, all in one partition.
pub fn states(range: std::ops::Range<u32>, text: &str, partition: i32) -> Vec<Produced> {
    range.map(|n| state(n, text, partition)).collect()
}

/// The numbers of the entities that there are, with their status.
pub async fn statuses(scene: &Scene) -> BTreeMap<u32, String> {
    let entities = scene.entities().await;
    let read = |((_, id), document): (&(String, String), &Document)| {
        let n = u32::from_str_radix(&id[1..], 16).expect("an entity of these tests");
        let status = document.get_str("status").expect("a status");
        (n, status.to_owned())
    };
    entities.iter().map(read).collect()
}

/// Waits until the entities are exactly these.
pub async fn until_statuses<'s>(scene: &Scene, expected: impl IntoIterator<Item = (u32, &'s str)>) {
    let expected: BTreeMap<u32, String> = expected
        .into_iter()
        .map(|(n, status)| (n, status.to_owned()))
        .collect();
    until_is("the entities", expected, || statuses(scene)).await;
}

/// Waits until what `look` finds is `expected`; panics with what it found last after [`DEADLINE`].
pub async fn until_is<T: PartialEq + Debug, F: Future<Output = T>>(
    what: &str,
    expected: T,
    look: impl Fn() -> F,
) {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = look().await;
        if found == expected {
            return;
        }
        if Instant::now() > end {
            assert_eq!(found, expected, "not within {DEADLINE:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A scene whose topic is not compacted, so that records can be deleted from its start.
pub async fn trimmable(name: &str, partitions: i32) -> Scene {
    let world = world().await;
    let scene = Scene::on(name, &world.kafka.bootstrap(), &world.mongo.uri()).await;
    let created = topics().await.create(&scene.topic, partitions, &[]).await;
    created.expect("a topic");
    scene
}

/// The topics of the shared broker.
pub async fn topics() -> Topics {
    world().await.kafka.topics().expect("an admin client")
}

/// Deletes the scene's topic and makes one of the same name.
pub async fn make_topic_anew(scene: &Scene, partitions: i32) {
    let topics = topics().await;
    topics.delete(&scene.topic).await.expect("deleted");
    let created = topics.create(&scene.topic, partitions, &[]).await;
    created.expect("created anew");
}

/// A consumer of the scene's group that does not join it.
fn outsider(scene: &Scene) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &scene.bootstrap);
    config.set("group.id", &scene.group);
    config.create().expect("a consumer")
}

/// The id that the broker gave the scene's topic.
pub fn id_of_topic(scene: &Scene) -> Uuid {
    block_in_place(|| topic_id::topic_id(outsider(scene).client(), &scene.topic, DEADLINE))
        .expect("a topic id")
}

/// Commits offsets for the scene's group, which must have no members.
pub fn commit(scene: &Scene, offsets: &[(i32, i64)]) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        let offset = Offset::Offset(*offset);
        list.add_partition_offset(&scene.topic, *partition, offset)
            .expect("an offset");
    }
    block_in_place(|| outsider(scene).commit(&list, CommitMode::Sync)).expect("committed");
}

/// The offset that the scene's group has committed for a partition.
pub fn committed(scene: &Scene, partition: i32) -> Option<i64> {
    let mut list = TopicPartitionList::new();
    list.add_partition(&scene.topic, partition);
    let found = block_in_place(|| outsider(scene).committed_offsets(list, DEADLINE));
    match found.expect("an answer").elements()[0].offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// The collection of checkpoints.
pub fn checkpoints(scene: &Scene) -> Collection<Document> {
    scene.database.collection("workflows_sink_checkpoints")
}

/// The `_id` of a partition's checkpoint.
pub fn checkpoint_id(scene: &Scene, partition: i32) -> Document {
    doc! { "group": &scene.group, "topic": &scene.topic, "partition": partition }
}

/// The checkpoint of a partition.
pub async fn checkpoint(scene: &Scene, partition: i32) -> Option<Document> {
    let filter = doc! { "_id": checkpoint_id(scene, partition) };
    checkpoints(scene)
        .find_one(filter)
        .await
        .expect("an answer")
}

/// A checkpoint made by hand.
pub async fn put_checkpoint(scene: &Scene, partition: i32, fields: Document) {
    let mut checkpoint = doc! { "_id": checkpoint_id(scene, partition) };
    checkpoint.extend(fields);
    checkpoints(scene)
        .insert_one(checkpoint)
        .await
        .expect("inserted");
}

/// Changes a checkpoint by hand.
pub async fn set_checkpoint(scene: &Scene, partition: i32, fields: Document) {
    let filter = doc! { "_id": checkpoint_id(scene, partition) };
    let changed = checkpoints(scene)
        .update_one(filter, doc! { "$set": fields })
        .await
        .expect("an answer");
    assert_eq!(changed.matched_count, 1, "no such checkpoint");
}

/// Waits until the checkpoint of a partition stands at `next_offset`.
pub async fn until_at(scene: &Scene, partition: i32, next_offset: i64) {
    until_is("the checkpoint", Some(next_offset), || async {
        let found = checkpoint(scene, partition).await?;
        Some(number(found.get("next_offset")))
    })
    .await;
}

/// The lines that a worker has logged whose message contains `text`.
pub fn lines(worker: &Worker, text: &str) -> Vec<Value> {
    let log = worker.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &Value| line["message"].as_str().is_some_and(|m| m.contains(text)))
        .collect()
}
