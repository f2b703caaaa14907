//! Kafka with exactly the rights that `deploy/kafka` gives a migration: they are enough, and each is
//! needed.

use std::time::Duration;

use datastore_migrate::example;
use local_stack::topics::{STATE_TOPIC, Topics};
use test_support::locked::{By, GROUP, Locked, PASSWORD, Who, rights};
use test_support::scene::{Scene, world};

use crate::bench::{Bench, Ran};

const EVENTS: &str = "dyff.workflows.events";
const DEADLINE: Duration = Duration::from_secs(120);

async fn scene(locked: &Locked, name: &str) -> Scene {
    let scene = locked.scene(name, &world().await.mongo.uri()).await;
    let topics = Topics::new(&scene.bootstrap).expect("a client");
    topics.create(EVENTS, 2, &[]).await.expect("a topic");
    scene
}

/// Imports a few entities more each time, until a run has ended like this: the broker learns of
/// changed rights a little later.
async fn until_it_ends(bench: &Bench, imports: &mut u64, says: impl Fn(&Ran) -> bool) {
    let begun = std::time::Instant::now();
    loop {
        *imports += 1;
        bench.export("export", example::entities(*imports * 6));
        bench
            .run("ids export --out remap.json --seed dyff")
            .await
            .with_code(0);
        let ran = bench.run("entities export --remap remap.json").await;
        if says(&ran) {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_a_migration_are_enough_with_a_certificate_and_each_is_needed() {
    const BATCHES: &str = "grant DescribeConfigs";
    let locked = Locked::start_for(Who::Migration, By::Certificate).await;
    let scene = scene(&locked, "migration_rights").await;
    let mut bench = Bench::new([]);
    bench.environment = locked.environment(&scene);
    let mut imports = 0;
    let is_done = |ran: &Ran| ran.code == Some(0) && !ran.error.contains(BATCHES);
    until_it_ends(&bench, &mut imports, is_done).await;
    let rights = rights("datastore-migrate");
    assert_eq!(rights.len(), 5);
    for right in &rights {
        let (code, says) = match (right.name.as_str(), right.operation.as_str()) {
            (EVENTS, "Read") => (
                1,
                "let this user read the topic dyff.workflows.events: grant Read",
            ),
            (EVENTS, "Write") => (
                1,
                "let this user write the topic dyff.workflows.events: grant Write",
            ),
            (EVENTS, "DescribeConfigs") => (0, BATCHES),
            (GROUP, "Describe") => (
                1,
                "let this user ask about the group dyff.system.mongodb.sink: grant Describe",
            ),
            (STATE_TOPIC, "Read") => (
                1,
                "let this user read the topic dyff.workflows.state: grant Read",
            ),
            _ => panic!("another right: {right:?}"),
        };
        locked.take_away(right).await;
        let is_told = |ran: &Ran| ran.code == Some(code) && ran.error.contains(says);
        until_it_ends(&bench, &mut imports, is_told).await;
        locked.give(right).await;
        until_it_ends(&bench, &mut imports, is_done).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_password_the_rights_of_a_migration_are_enough() {
    let locked = Locked::start_for(Who::Migration, By::Password).await;
    let scene = scene(&locked, "migration_password").await;
    let mut bench = Bench::new(example::entities(6)).with_ids().await;
    bench.environment = locked.environment(&scene);
    let ran = bench
        .run("entities export --remap remap.json")
        .await
        .with_code(0);
    assert!(!format!("{ran:?}").contains(PASSWORD));
}
