//! What a person or another program does to a scene behind the service's back.

use std::collections::BTreeMap;

use bson::{Document, doc};
use local_stack::Message;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::block_in_place;

use crate::look::number;
use crate::scene::{Scene, topics};
use crate::wait::until_is;

/// A state of entity `n`, for one partition.
pub fn state(n: u32, state: &str, partition: i32) -> Message {
    let id = format!("e{n:031x}");
    let json = format!(r#"{{"id":"{id}","kind":"Dataset","status":"{state}"}}"#);
    Message {
        partition: Some(partition),
        ..Message::new(id, json)
    }
}

/// A record that can only become a dead letter.
pub fn poison(partition: i32) -> Message {
    Message {
        partition: Some(partition),
        ..Message::new("poison", "not JSON")
    }
}

/// One state of each entity in `range`, all in one partition.
pub fn states(range: std::ops::Range<u32>, text: &str, partition: i32) -> Vec<Message> {
    range.map(|n| state(n, text, partition)).collect()
}

/// The numbers of the entities that there are, with their status.
async fn statuses(scene: &Scene) -> BTreeMap<u32, String> {
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

/// Deletes the scene's topic and creates one of the same name.
pub async fn recreate_topic(scene: &Scene, partitions: i32) {
    let topics = topics().await;
    topics.delete(&scene.topic).await.expect("deleted");
    let created = topics.create(&scene.topic, partitions, &[]).await;
    created.expect("recreated");
}

/// Commits offsets for the scene's group, which must have no members.
pub fn commit(scene: &Scene, offsets: &[(i32, i64)]) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        let offset = Offset::Offset(*offset);
        list.add_partition_offset(&scene.topic, *partition, offset)
            .expect("an offset");
    }
    block_in_place(|| scene.outsider().commit(&list, CommitMode::Sync)).expect("committed");
}

/// Inserts a checkpoint by hand.
pub async fn put_checkpoint(scene: &Scene, partition: i32, fields: Document) {
    let mut checkpoint = doc! { "_id": scene.checkpoint_id(partition) };
    checkpoint.extend(fields);
    let inserted = scene.checkpoint_collection().insert_one(checkpoint).await;
    inserted.expect("inserted");
}

/// Changes a checkpoint by hand.
pub async fn set_checkpoint(scene: &Scene, partition: i32, fields: Document) {
    let filter = doc! { "_id": scene.checkpoint_id(partition) };
    let set = doc! { "$set": fields };
    let changed = scene.checkpoint_collection().update_one(filter, set).await;
    let matched = changed.expect("an answer").matched_count;
    assert_eq!(matched, 1, "no such checkpoint");
}

/// Waits until the checkpoint of a partition stands at `next_offset`.
pub async fn until_at(scene: &Scene, partition: i32, next_offset: i64) {
    until_is("the checkpoint", Some(next_offset), || async {
        let found = scene.checkpoint(partition).await?;
        Some(number(found.get("next_offset")))
    })
    .await;
}

/// Waits until the group has committed `offset` for a partition.
pub async fn until_committed(scene: &Scene, partition: i32, offset: i64) {
    until_is("the committed offset", Some(offset), || async {
        scene.committed().await.get(&partition).copied()
    })
    .await;
}
