//! What the topics have already, and which topic it is.

use datastore_migrate::example;
use local_stack::Message;
use local_stack::topics::Topics;
use test_support::scene::{Scene, topics};

use crate::bench::Bench;

const DATASET: &str = "Account:public/Dataset:5634161670000000";
const EVENTS: &str = "DYFF_KAFKA__TOPICS__WORKFLOWS_EVENTS";
/// As the platform's own services name it.
const DEFAULT_EVENTS: &str = "dyff.workflows.events";

/// How many records a topic of one partition has.
async fn records(topics: &Topics, topic: &str) -> i64 {
    topics.watermarks(topic, 0).await.expect("an answer").1
}

fn tombstone(id: &str) -> Message {
    Message {
        key: Some(id.into()),
        ..Message::default()
    }
}

/// What was deleted stays deleted: an old state behind a tombstone would bring it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_is_a_newer_state_in_either_topic() {
    let scene = Scene::new("tombstones", 1).await;
    let events = format!("{}.events", scene.topic);
    let topics = topics().await;
    topics.create(&events, 1, &[]).await.expect("a topic");
    let mut bench = Bench::new(example::entities(6)).with_ids().await;
    bench.environment = scene.environment();
    let ids = bench.json("remap.json");
    let id = |path: &str| ids[path].as_str().expect("an id").to_owned();

    scene.produce(&[tombstone(&id(DATASET))]);
    let import = format!("entities export --remap remap.json --topic {events}");
    let moved = bench.run(&import).await.with_code(1).out;
    assert!(
        moved.contains("1 left: the topic has a newer state"),
        "{moved}"
    );
    let told = format!(
        "Evaluation.dataset refers to {DATASET}, which has an id and is not moved: the topic has a \
         tombstone for it"
    );
    assert!(moved.contains(&told), "{moved}");
    assert_eq!(records(&topics, &events).await, 5);

    // In the events topic itself, behind what was migrated.
    let model = id("Account:public/Model:5634161670000001");
    let mut there = scene;
    there.topic = events.clone();
    there.produce(&[tombstone(&model)]);
    let again = bench
        .run(&format!("{import} --update"))
        .await
        .with_code(1)
        .out;
    assert!(!again.contains("sent"), "{again}");
    assert!(
        again.contains("InferenceService.model refers to"),
        "{again}"
    );
    assert_eq!(records(&topics, &events).await, 6);
}

/// After the retention of the events nobody knows any more which states this tool had sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_state_topic_has_is_counted_by_itself_and_never_called_newer_without_knowing()
{
    let scene = Scene::new("after_retention", 1).await;
    let events = format!("{}.events", scene.topic);
    let topics = topics().await;
    topics.create(&events, 1, &[]).await.expect("a topic");
    let mut bench = Bench::new(example::entities(6)).with_ids().await;
    bench.environment = scene.environment();
    let onto = |topic: &str| format!("entities export --remap remap.json --topic {topic}");
    // The second one stands for the aggregator.
    for topic in [&events, &scene.topic] {
        bench.run(&onto(topic)).await.with_code(0);
    }
    topics.delete_records(&events, 0, 6).await.expect("deleted");

    let elsewhere = format!("1 in {} only, not in {events}", scene.topic);
    let again = bench.run(&onto(&events)).await.with_code(0).out;
    assert_eq!(again.matches(&elsewhere).count(), 6, "{again}");
    assert!(!again.contains("there already"), "{again}");

    let mut later: Vec<datastore_export::Entity> = example::entities(6).collect();
    let status = later[3]
        .properties
        .iter_mut()
        .find(|(name, _)| name == "status");
    status.expect("a status").1 = datastore_export::Value::Text("Failed".to_owned());
    bench.export("export", later);
    let update = format!("{} --update", onto(&events));
    let update = bench.run(&update).await.with_code(1).out;
    let left =
        "1 left: the state topic has another state, and whose it is cannot be known any more";
    assert!(
        update.contains(left) && !update.contains("newer"),
        "{update}"
    );
    assert_eq!(update.matches(&elsewhere).count(), 5, "{update}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_setting_entities_go_onto_the_platforms_own_events_topic() {
    let scene = Scene::new("default_events", 1).await;
    let topics = topics().await;
    let mut bench = Bench::new(example::entities(6)).with_ids().await;
    bench.environment = scene.environment();
    let import = "entities export --remap remap.json";
    for setting in ["", "a/b"] {
        bench
            .environment
            .insert(EVENTS.to_owned(), setting.to_owned());
        let error = bench.run(import).await.with_code(78).error;
        assert!(error.contains(EVENTS), "{error}");
    }
    for (setting, topic) in [(None, DEFAULT_EVENTS), (Some("some.events"), "some.events")] {
        bench.environment.remove(EVENTS);
        if let Some(setting) = setting {
            bench
                .environment
                .insert(EVENTS.to_owned(), setting.to_owned());
        }
        let error = bench.run(import).await.with_code(1).error;
        assert!(
            error.contains(&format!("there is no topic {topic}:")),
            "{error}"
        );
    }
    bench.environment.remove(EVENTS);
    topics
        .create(DEFAULT_EVENTS, 1, &[])
        .await
        .expect("a topic");
    bench.run(import).await.with_code(0);
    assert_eq!(records(&topics, DEFAULT_EVENTS).await, 6);
    topics.delete(DEFAULT_EVENTS).await.expect("deleted");
}
