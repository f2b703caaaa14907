//! From an export to the documents that the platform's reader finds, with everything that may
//! happen on the way.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bson::{Document, doc};
use datastore_export::{Entity, Value};
use datastore_migrate::example;
use futures_util::TryStreamExt as _;
use local_stack::Message;
use local_stack::random::Random;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers as _;
use test_support::scene::{Scene, topics};
use test_support::wait::until_within;
use test_support::worker::Worker;

use crate::bench::Bench;

const ENTITIES: u64 = 100_000;
const PARTITIONS: i32 = 6;
const KILLS: u64 = 4;

/// The service beside this tool, as `cargo test --workspace` builds it.
pub fn service() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_datastore-migrate"));
    let service = beside.with_file_name("workflows-sink");
    assert!(
        service.exists(),
        "`cargo build --workspace` builds {}",
        service.display()
    );
    service
}

/// Keys of a topic, with the number of their records and the header of the newest.
fn keys_of(scene: &Scene, records: u64) -> HashMap<String, (usize, Option<String>)> {
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &scene.bootstrap)
        .set("group.id", "a-reader")
        .create()
        .expect("a consumer");
    let mut all = rdkafka::TopicPartitionList::new();
    for number in 0..PARTITIONS {
        all.add_partition_offset(&scene.topic, number, rdkafka::Offset::Beginning)
            .expect("a partition");
    }
    consumer.assign(&all).expect("assigned");
    let mut keys = HashMap::new();
    for read in 0..records {
        let message = match consumer.poll(Duration::from_secs(60)) {
            Some(message) => message.expect("a record"),
            None => panic!(
                "nothing behind {read} of {records}: {:?}",
                consumer.position()
            ),
        };
        let key = String::from_utf8(message.key().expect("a key").to_vec());
        let header = message.headers().map(|headers| {
            let header = headers.get(0);
            assert_eq!(header.key, "migrated-from");
            String::from_utf8(header.value.expect("a path").to_vec()).expect("UTF-8")
        });
        let entry: &mut (usize, _) = keys.entry(key.expect("UTF-8")).or_default();
        *entry = (entry.0 + 1, header);
    }
    keys
}

/// What the published reader makes of a document: `_id` is `id`, labels are an object again.
fn as_read(mut document: Document) -> Document {
    let id = document.remove("_id").expect("an id");
    document.insert("id", id);
    let labels = document.get_array("labels").expect("labels").clone();
    let labels = labels.iter().map(|label| {
        let label = label.as_document().expect("a label");
        (
            label.get_str("key").expect("a key").to_owned(),
            label.get("value").cloned().expect("a value"),
        )
    });
    document.insert("labels", labels.collect::<Document>());
    document
}

async fn documents(scene: &Scene, kind: &str) -> Vec<Document> {
    let collection = scene.database.collection::<Document>(kind);
    let found = collection.find(doc! {});
    found
        .await
        .expect("a cursor")
        .try_collect()
        .await
        .expect("documents")
}

/// How many records the topic has.
async fn records(scene: &Scene) -> u64 {
    let (topics, mut all) = (topics().await, 0);
    for number in 0..PARTITIONS {
        let (start, end) = topics
            .watermarks(&scene.topic, number)
            .await
            .expect("an answer");
        all += (end - start).unsigned_abs();
    }
    all
}

/// How many documents the kinds of the page have.
pub async fn documents_in_all(scene: &Scene) -> u64 {
    let mut all = 0;
    for name in [
        "audits",
        "datasets",
        "evaluations",
        "inferenceservices",
        "models",
        "reports",
    ] {
        let collection = scene.database.collection::<Document>(name);
        all += collection.count_documents(doc! {}).await.expect("a count");
    }
    all
}

/// Kills the import `KILLS` times on its way, each time after some more records, and lets it end.
async fn import_killed_at_random(bench: &Bench, scene: &Scene) {
    let mut random = Random::new(7);
    let import = format!("entities export --remap remap.json --topic {}", scene.topic);
    let share = ENTITIES / (KILLS + 1);
    let mut killed = 0;
    for kill in 0..KILLS {
        let after = kill * share + 1 + random.below(share as usize) as u64;
        let mut child = bench.start(&import);
        until_within(
            Duration::from_secs(120),
            "some records are there",
            || async { records(scene).await >= after },
        )
        .await;
        child.kill().await.expect("killed");
        // On a starved machine it may have come to its end before.
        killed += usize::from(child.wait().await.expect("an end").code().is_none());
    }
    let ended = bench
        .run(&format!("{import} --report moved.json"))
        .await
        .with_code(0);
    assert!(killed > 0, "no run was killed on its way");
    assert!(ended.out.contains("there already"), "{}", ended.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_entities_arrive_once_each_though_the_import_is_killed() {
    let scene = Scene::new("migration", PARTITIONS).await;
    let mut bench = Bench::new(example::entities(ENTITIES)).with_ids().await;
    bench.environment = scene.environment();
    let remap = fs::read(bench.path("remap.json")).expect("a file");

    let dry = bench
        .run("entities export --remap remap.json --dry-run")
        .await
        .with_code(0);
    assert!(dry.out.contains("16667 would be moved"), "{}", dry.out);
    import_killed_at_random(&bench, &scene).await;
    bench.run("ids export --out remap.json").await.with_code(0);
    assert_eq!(
        fs::read(bench.path("remap.json")).expect("a file"),
        remap,
        "ids change no more"
    );

    let keys = keys_of(&scene, records(&scene).await);
    assert_eq!(keys.len() as u64, ENTITIES);
    let repeated = keys.values().filter(|(records, _)| *records != 1).count();
    assert_eq!(repeated, 0, "each entity is one record");
    let ids = bench.json("remap.json");
    for (id, (_, path)) in keys.iter().take(1_000) {
        assert_eq!(ids[path.as_deref().expect("a header")], **id);
    }

    let early = bench
        .run("verify export --remap remap.json")
        .await
        .with_code(1);
    assert!(
        early.out.contains("lacks its document") && early.out.contains("NO:"),
        "{}",
        early.out
    );
    let refused = "delete-old plan --remap remap.json --project dyff --from gs://old";
    let refused = bench.run(refused).await.with_code(1);
    assert!(
        refused.error.contains("has not said yes"),
        "{}",
        refused.error
    );

    let mut worker = Worker::start_by([service().into(), "run".into()], scene.environment());
    let deadline = Duration::from_secs(300);
    until_within(deadline, "everything is applied", || async {
        documents_in_all(&scene).await == ENTITIES
    })
    .await;
    let verify = "verify export --remap remap.json --report verified.json";
    let verified = bench.run(verify).await.with_code(0);
    let yes = format!("YES: {ENTITIES} entities");
    assert!(verified.out.contains(&yes), "{}", verified.out);
    assert_eq!(bench.json("verified.json")["rejected_in_all"], 0);
    as_the_reader_sees_it(&scene, &bench).await;
    what_changed_since_is_told_from_what_is_newer(&scene, &bench).await;
    assert_eq!(worker.stop().await, Some(0));
}

async fn as_the_reader_sees_it(scene: &Scene, bench: &Bench) {
    let ids = bench.json("remap.json");
    let reports = documents(scene, "reports").await;
    assert_eq!(reports.len(), 16_666);
    let last = "Account:public/Report:5634161670000005";
    let found = reports
        .iter()
        .find(|report| report.get_str("_id").ok() == ids[last].as_str());
    let report = as_read(found.expect("the first report").clone());
    let id = |path: &str| ids[path].as_str().expect("an id").to_owned();
    let group = "Account:public";
    assert_eq!(
        report,
        doc! {
            "account": id(group),
            "annotations": [],
            "creationTime": "2023-01-02T03:04:10.000005+00:00",
            "dataset": id("Account:public/Dataset:5634161670000000"),
            "evaluation": id("Account:public/Evaluation:5634161670000003"),
            "inferenceService": id("Account:public/InferenceService:5634161670000002"),
            "kind": "Report",
            "model": id("Account:public/Model:5634161670000001"),
            "name": "entity 5 \u{1f9ea} \"quoted\"",
            "reason": bson::Bson::Null,
            "status": "Complete",
            "id": id(last),
            "labels": {},
        }
    );
}

/// Of the second export one entity is new, one changed in the old place, and one in both.
async fn what_changed_since_is_told_from_what_is_newer(scene: &Scene, bench: &Bench) {
    let ids = bench.json("remap.json");
    let all: Vec<Entity> = example::entities(13).skip(3).collect();
    let path = |entity: &Entity| entity.key.to_string();
    let (changed, newer) = (path(&all[0]), path(&all[1]));
    let newer_id = ids[&newer].as_str().expect("an id");
    let value = format!(r#"{{"id":"{newer_id}","kind":"Model","status":"Deleted","labels":{{}}}}"#);
    scene.produce(&[Message::new(newer_id, value)]);

    let mut second = all.clone();
    for entity in &mut second[..2] {
        let status = entity
            .properties
            .iter_mut()
            .find(|(name, _)| name == "status");
        status.expect("a status").1 = Value::Text("Failed".to_owned());
    }
    let mut added = second[0].clone();
    added.key.path[1].id = datastore_export::Id::Number(42);
    second.push(added);
    // The second one lacks most of the first, as if they had been deleted in the old place.
    let paths: HashSet<String> = second.iter().map(path).collect();
    let old = ids.as_object().expect("paths").keys();
    let gone: Vec<&str> = old
        .map(String::as_str)
        .filter(|one| !paths.contains(*one))
        .collect();
    let gone = gone.join("\n") + "\n";
    fs::write(bench.path("gone"), &gone).expect("written");
    bench.export("second", second);
    bench.run("ids second --out remap.json").await.with_code(0);
    let import = format!("entities second --remap remap.json --topic {}", scene.topic);
    // What is left is no success: a person looks at it.
    let first = bench.run(&import).await.with_code(1).out;
    let left = "1 left: migrated before in another state (--update replaces it)";
    assert!(first.contains("1 sent,") && first.contains(left), "{first}");
    let update = bench
        .run(&format!("{import} --update"))
        .await
        .with_code(1)
        .out;
    for told in [
        "1 sent again, changed since",
        "1 left: the topic has a newer state",
    ] {
        assert!(update.contains(told), "{told}: {update}");
    }
    // Whoever runs the first one again goes back to nothing.
    let again = format!("entities export --remap remap.json --topic {}", scene.topic);
    let again = bench.run(&again).await.with_code(1).out;
    assert!(!again.contains("sent") && again.contains(left), "{again}");
    until_within(
        Duration::from_secs(120),
        "only what is newer differs",
        || async {
            let verified = bench
                .run("verify export second --remap remap.json --accept gone --report second.json")
                .await;
            assert_eq!(verified.code, Some(1));
            let report = bench.json("second.json");
            report["rejected_in_all"] == 1 && report["rejected"][0]["path"] == *newer
        },
    )
    .await;
    let report = bench.json("second.json");
    let reason = report["rejected"][0]["reason"].as_str().expect("a reason");
    assert!(reason.ends_with("differs in status"), "{reason}");
    fs::write(bench.path("looked-at"), gone + &newer).expect("written");
    let accept = "verify export second --remap remap.json --accept looked-at";
    let accepted = bench.run(accept).await.with_code(0).out;
    let but_for = format!("but for {} that a person has accepted", ENTITIES - 13 + 1);
    assert!(accepted.contains(&but_for), "{accepted}");
    fs::write(bench.path("only-newer"), &newer).expect("written");
    let part = "verify second --remap remap.json --accept only-newer";
    let part = bench.run(part).await.with_code(1).out;
    assert!(part.contains("are in none of these exports"), "{part}");
    let changed_id = ids[&changed].as_str().expect("an id");
    let datasets = documents(scene, "datasets").await;
    let found = datasets
        .iter()
        .find(|document| document.get_str("_id").ok() == Some(changed_id));
    let status = found.expect("a document").get_str("status");
    assert_eq!(status.ok(), Some("Failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_state_topic_has_is_newer_though_its_events_have_expired() {
    let scene = Scene::new("expired_events", 1).await;
    let events = format!("{}.events", scene.topic);
    let topics = topics().await;
    topics.create(&events, 1, &[]).await.expect("a topic");
    let mut bench = Bench::new(example::entities(6)).with_ids().await;
    bench.environment = scene.environment();
    let ids = bench.json("remap.json");
    let id = ids["Account:public/Dataset:5634161670000000"]
        .as_str()
        .expect("an id");
    scene.produce(&[Message::new(
        id,
        format!(r#"{{"id":"{id}","kind":"Dataset"}}"#),
    )]);
    let import = format!("entities export --remap remap.json --topic {events}");
    let moved = bench.run(&import).await.with_code(1).out;
    assert!(
        moved.contains("1 left: the topic has a newer state"),
        "{moved}"
    );
    let ends = topics.watermarks(&events, 0).await.expect("an answer");
    assert_eq!(ends, (0, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_inserted_where_they_are_missing_and_another_mapping_is_refused() {
    let scene = Scene::new("into_mongodb", 1).await;
    let mut bench = Bench::new(example::entities(60)).with_ids().await;
    bench.environment = scene.environment();
    let ids = bench.json("remap.json");
    let id = ids["Account:public/Dataset:5634161670000000"]
        .as_str()
        .expect("an id");
    let datasets = scene.database.collection::<Document>("datasets");
    let newer = doc! { "_id": id, "status": "Newer" };
    datasets.insert_one(&newer).await.expect("inserted");
    let into = "entities export --remap remap.json --into mongodb --if-absent";
    let moved = bench.run(into).await.with_code(1).out;
    let left = "9 inserted, 1 left: the document there is another one";
    assert!(moved.contains(left), "{moved}");
    assert_eq!(documents_in_all(&scene).await, 60);
    let found = datasets
        .find_one(doc! { "_id": id })
        .await
        .expect("an answer");
    assert_eq!(found, Some(newer));

    let mapping = bench.run("mapping").await.with_code(0).out;
    fs::write(bench.path("mapping.toml"), mapping + "# changed\n").expect("written");
    let other = format!("{into} --mapping mapping.toml");
    let refused = bench.run(&other).await.with_code(1).error;
    assert!(
        refused.contains("another mapping than entities were moved with"),
        "{refused}"
    );
    let again = bench.run(&format!("{other} --new-mapping")).await;
    let again = again.with_code(1).out;
    let left = "1 left: the document there is another one, 9 there already";
    assert!(again.contains(left), "{again}");

    // Nobody can say which state of an entity is the newer one.
    let mut second: Vec<Entity> = example::entities(60).collect();
    let mark = ("more".to_owned(), Value::Integer(1));
    second[4].properties.push(mark);
    bench.export("second", second);
    let both = other.replace("export", "export second");
    let twice = bench.run(&both).await.with_code(1).out;
    assert_eq!(
        twice.matches("another state of it is in").count(),
        1,
        "{twice}"
    );
}
