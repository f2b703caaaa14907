//! Kafka with exactly the rights that `deploy/kafka` gives: they are enough, and each is needed.

use std::collections::BTreeMap;

use test_support::locked::{By, Locked, PASSWORD, Right, rights};
use test_support::operator::{states, until_statuses};
use test_support::scene::{Scene, world};
use test_support::wait::until;
use test_support::worker::{Worker, run};

use crate::startup;

const REFRESH: &str = "DYFF_KAFKA__CONFIG__TOPIC_METADATA_REFRESH_INTERVAL_MS";

/// Waits until what was produced as `text` is there.
async fn applied(scene: &Scene, text: &'static str) {
    scene.produce(&[states(0..10, text, 0), states(10..20, text, 11)].concat());
    until_statuses(scene, (0..20).map(|n| (n, text))).await;
}

/// What a start says that cannot go on, and what `check` and `status` say.
async fn all_say(environment: &BTreeMap<String, String>, says: &str) {
    for command in ["check", "status"] {
        let (code, out, err) = run(environment, &[command]).await;
        assert_ne!(code, Some(0), "{command}: {out}{err}");
        assert!(
            format!("{out}{err}").contains(says),
            "{command}: {out}{err}"
        );
    }
}

/// Waits until the worker is not ready, and says why.
async fn is_not_ready(worker: &Worker, why: &str) {
    until("it is not ready, and says why", || async {
        let answer = worker.get("/readyz");
        answer.is_some_and(|(status, body)| status == 503 && body.contains(why))
    })
    .await;
}

/// A worker whose right to read the topic is taken away says so once, and goes on when it is back.
async fn reading_is_needed(locked: &Locked, scene: &Scene, worker: &mut Worker, right: &Right) {
    const SAYS: &str = "does not let this user read the topic dyff.workflows.state: grant Read";
    const WARNS: &str = "what was under way is read again";
    let environment = locked.environment(scene);
    locked.take_away(right).await;
    worker.logs(SAYS).await;
    is_not_ready(worker, SAYS).await;
    let (message, _) = startup::refused(&environment).await;
    assert!(message.contains(SAYS), "{message}");
    all_say(&environment, SAYS).await;
    // One line, however many partitions; also once the client has left the group, since its topic
    // seems to be gone. Whether they count as lost then is a matter of which it learns first.
    worker.logs("partitions revoked").await;
    is_not_ready(worker, SAYS).await;
    assert_eq!(worker.lines_with(WARNS).len(), 1, "{}", worker.log());
    assert!(worker.lines_with("may be read again").is_empty());
    locked.give(right).await;
    worker
        .logs("the topic dyff.workflows.state may be read again")
        .await;
    worker.ready().await;
}

/// The same of the right to be in the group.
async fn the_group_is_needed(locked: &Locked, scene: &Scene, worker: &mut Worker, right: &Right) {
    const SAYS: &str = "grant Read on the group";
    let environment = locked.environment(scene);
    locked.take_away(right).await;
    worker.logs(SAYS).await;
    is_not_ready(worker, SAYS).await;
    // One line of the group, and perhaps one of the readiness.
    let lines = worker.lines_with(SAYS).len();
    assert!((1..=2).contains(&lines), "{}", worker.log());
    all_say(&environment, "dyff.system.mongodb.sink: grant Read on it").await;
    locked.give(right).await;
    worker.logs("in the consumer group again").await;
    worker.ready().await;
}

async fn each_right_is_needed(locked: &Locked, scene: &Scene) {
    let environment = locked.environment(scene);
    // The client looks every minute whether its topics are there.
    let mut often = environment.clone();
    often.insert(REFRESH.to_owned(), "1000".to_owned());
    let mut worker = Worker::start(often);
    applied(scene, "first").await;
    let (code, out, _) = run(&environment, &["check"]).await;
    assert!(code == Some(0) && !out.contains("grant"), "{out}");
    let rights = rights("workflows-sink");
    assert_eq!(rights.len(), 3);
    for right in &rights {
        match (right.resource.as_str(), right.operation.as_str()) {
            ("topic", "Read") => reading_is_needed(locked, scene, &mut worker, right).await,
            ("group", "Read") => the_group_is_needed(locked, scene, &mut worker, right).await,
            // `run` does without; `check` says what it cannot see.
            ("topic", "DescribeConfigs") => {
                locked.take_away(right).await;
                let (code, out, _) = run(&environment, &["check"]).await;
                assert!(
                    code == Some(0) && out.contains("grant DescribeConfigs"),
                    "{out}"
                );
                let (_, out, err) = run(&environment, &["status"]).await;
                assert!(out.contains("caught up"), "{out}{err}");
                locked.give(right).await;
            }
            _ => panic!("another right: {right:?}"),
        }
        applied(scene, "next").await;
    }
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_rights_are_enough_with_a_certificate_and_each_is_needed() {
    let locked = Locked::start(By::Certificate).await;
    let uri = world().await.mongo.uri();
    let scene = locked.scene("acls_certificate", &uri).await;
    each_right_is_needed(&locked, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_password_the_same_rights_are_enough() {
    let locked = Locked::start(By::Password).await;
    let uri = world().await.mongo.uri();
    let scene = locked.scene("acls_password", &uri).await;
    let mut worker = Worker::start(locked.environment(&scene));
    applied(&scene, "first").await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    assert!(!worker.log().contains(PASSWORD));
}
