//! The start waits for a server that is unavailable; what needs a person ends it with one clear
//! line and an exit code.

mod configuration;
mod group;
mod mongodb;
mod srv;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use local_stack::port;
use serde_json::Value;
use test_support::operator::{states, until_statuses};
use test_support::scene::{BOOTSTRAP_SERVERS, CONNECTION_STRING, Scene, topics, world};
use test_support::wait::until;
use test_support::worker::run;
use tokio::net::{TcpListener, TcpStream};

/// The message of the one error with which a start ends with exit code 78, and all that was logged.
pub async fn refused(environment: &BTreeMap<String, String>) -> (String, String) {
    let (code, out, log) = run(environment, &["run"]).await;
    assert_eq!((code, out.as_str()), (Some(78), ""), "{log}");
    let lines: Vec<Value> = (log.lines())
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    let errors: Vec<&Value> = (lines.iter())
        .filter(|line| line["level"] == "ERROR")
        .collect();
    assert_eq!(errors, [lines.last().expect("a line")], "{log}");
    let message = errors[0]["message"].as_str().expect("a message").to_owned();
    assert!(!message.contains('\n'), "{message}");
    (message, log)
}

/// Passes on what arrives at `port` to `server`. Both servers name themselves to their clients, so
/// this is only for the first contact.
async fn forward(port: u16, server: String) {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let listener = TcpListener::bind(address).await.expect("a free port");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(server).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_servers_are_waited_for_at_the_start() {
    let scene = Scene::new("away", 2).await;
    scene.produce(&[states(0..10, "first", 0), states(10..20, "first", 1)].concat());
    let (kafka, mongo) = (port::free().expect("a port"), port::free().expect("a port"));
    let mut worker = scene.worker(&[
        (BOOTSTRAP_SERVERS, &format!("127.0.0.1:{kafka}")),
        (
            CONNECTION_STRING,
            &format!("mongodb://127.0.0.1:{mongo}/?replicaSet=rs0"),
        ),
    ]);

    worker.logs("MongoDB does not answer yet").await;
    worker.logs("Kafka does not answer yet").await;
    let (live, ready) = (
        worker.get("/livez").unwrap(),
        worker.get("/readyz").unwrap(),
    );
    assert_eq!((live.0, ready.0), (200, 503));
    for server in ["Kafka does not answer yet", "MongoDB does not answer yet"] {
        assert!(ready.1.contains(server), "{}", ready.1);
    }
    forward(mongo, world().await.mongo.host(0)).await;

    until("only Kafka is waited for", || async {
        let (_, why) = worker.get("/readyz").unwrap_or_default();
        why.contains("Kafka does not answer yet") && !why.contains("MongoDB")
    })
    .await;
    assert_eq!(worker.get("/readyz").unwrap().0, 503);
    let waiting = worker.lines_with("Kafka does not answer yet");
    let message = waiting[0]["message"].as_str().unwrap();
    assert!(message.contains("Connection refused"), "{message}");
    forward(kafka, scene.bootstrap.clone()).await;

    worker.ready().await;
    scene.settled().await;
    until_statuses(&scene, (0..20).map(|n| (n, "first"))).await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_name_is_not_found_is_named_and_a_signal_ends_the_wait() {
    let scene = Scene::new("nameless", 1).await;
    let mut worker = scene.worker(&[(BOOTSTRAP_SERVERS, "no-such-broker.invalid:9092")]);
    worker.logs("Kafka does not answer yet").await;
    let waiting = worker.lines_with("Kafka does not answer yet");
    let message = waiting[0]["message"].as_str().unwrap();
    assert!(message.contains("no-such-broker.invalid:9092"), "{message}");
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_yet_is_named_and_waited_for() {
    let scene = Scene::new("absent", 1).await;
    scene.produce(&states(0..10, "first", 0));
    let later = format!("{}.later", scene.topic);
    let both = format!("{},{later}", scene.topic);
    let mut worker = scene.worker(&[("DYFF_WORKFLOWS_SINK__TOPICS", &both)]);
    worker.logs("waiting for a topic").await;
    let line = &worker.lines_with("waiting for a topic")[0];
    assert_eq!(
        (&line["level"], &line["code"]),
        (&"WARN".into(), &"WS-212".into())
    );
    let told = format!("the topic {later} does not exist");
    // the message has the variable too, for a name that is misspelt
    for says in [told.as_str(), "DYFF_WORKFLOWS_SINK__TOPICS"] {
        let message = line["message"].as_str().expect("a message");
        assert!(message.contains(says), "{message}");
    }
    until("the probe says so", || async {
        let (status, why) = worker.get("/readyz").unwrap_or_default();
        status == 503 && why.contains(&told)
    })
    .await;
    assert_eq!(worker.get("/livez").expect("an answer").0, 200);
    assert_eq!(scene.checkpoints().await, [].into());
    assert_eq!(scene.entities().await, [].into(), "nothing is begun");

    let created = topics().await.create(&later, 1, &[]).await;
    created.expect("created");
    worker.ready().await;
    until_statuses(&scene, (0..10).map(|n| (n, "first"))).await;
    assert_eq!(worker.lines_with("waiting for a topic").len(), 1);
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

/// The worker was there first: `latest` is for what was there before it.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_records_of_a_topic_that_was_waited_for_are_applied_whatever_the_start() {
    let world = world().await;
    let (kafka, mongo) = (&world.kafka.bootstrap(), &world.mongo.uri());
    let scene = Scene::on("awaited", kafka, mongo).await;
    let mut worker = scene.worker(&[("DYFF_WORKFLOWS_SINK__START", "latest")]);
    worker.logs("waiting for a topic").await;
    let created = topics().await.create(&scene.topic, 1, &[]).await;
    created.expect("created");
    scene.produce(&states(0..10, "first", 0));
    worker.ready().await;
    until_statuses(&scene, (0..10).map(|n| (n, "first"))).await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_wait_for_a_topic() {
    let scene = Scene::new("never", 1).await;
    let mut worker = scene.worker(&[("DYFF_WORKFLOWS_SINK__TOPICS", "never.misspelt")]);
    worker.logs("the topic never.misspelt does not exist").await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
