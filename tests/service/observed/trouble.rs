//! What lasts, and what somebody may have done by mistake.

use std::time::Duration;

use bson::{Uuid, doc};
use local_stack::mongo;
use local_stack::prometheus::shipped_rules_at_once;
use local_stack::{Kafka, KafkaOptions, MongoOptions};
use test_support::alerts::{fires, prometheus, until_fires, until_over};
use test_support::credentials::{CREDENTIALS_DIR, Credentials, PASSWORD};
use test_support::operator::{set_checkpoint, state, states};
use test_support::scene::{BOOTSTRAP_SERVERS, CONNECTION_STRING, SHORT_SESSION, Scene, world};
use test_support::sieve::Sieve;
use test_support::wait::until;
use test_support::worker::share;
use tokio::net::TcpListener;

use super::scrape;

/// Three looks until a partition is assigned anew, six more until there is a new consumer, with
/// ten seconds between them.
const NEW_CONSUMER_WITHIN: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_claim_what_a_worker_killed_in_an_outage_had_and_the_lag_grows() {
    let (scene, mongo) = Scene::apart("observed_claims", 2, MongoOptions::default()).await;
    let prometheus = prometheus(&shipped_rules_at_once()).await;
    let mut workers = [scene.worker(&SHORT_SESSION), scene.worker(&SHORT_SESSION)];
    share(&workers.each_ref(), 2).await;
    scene.produce(&[states(0..10, "first", 0), states(20..30, "first", 1)].concat());
    scene.settled().await;
    scrape(&prometheus, &[&workers[1]]).await;
    assert!(!fires(
        &prometheus,
        "WorkflowsSinkPartitionNotClaimed",
        None
    ));

    mongo.freeze(0).expect("frozen");
    workers[0].server().kill().expect("killed");
    until_fires(&prometheus, "WorkflowsSinkPartitionNotClaimed", None).await;
    // That of the partition that it has; it has to be seen to grow.
    for sent in 0..3_u32 {
        for partition in 0..2 {
            let from = 100 + (2 * sent + partition) * 5_000;
            scene.produce(&states(from..from + 5_000, "more", partition as i32));
        }
        let so_far = f64::from((sent + 1) * 5_000);
        until("Prometheus sees that lag", || async {
            let lag = prometheus.query("workflows_sink:lag_records:sum");
            let lag = lag.expect("an answer");
            lag.iter().any(|(_, records)| *records >= so_far)
        })
        .await;
    }
    until_fires(&prometheus, "WorkflowsSinkLagGrows", None).await;
    mongo.thaw(0).expect("thawed");
    scene.settled().await;
    until_over(&prometheus, "WorkflowsSinkPartitionNotClaimed").await;
    until_over(&prometheus, "WorkflowsSinkLagGrows").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_are_taken_away_again_and_again_alert() {
    let scene = Scene::new("observed_fenced", 1).await;
    let prometheus = prometheus(&shipped_rules_at_once()).await;
    let worker = scene.worker(&[]);
    scene.produce(&[state(0, "first", 0)]);
    scene.settled().await;
    scrape(&prometheus, &[&worker]).await;
    for n in 1..=12 {
        let another = doc! { "owner": Uuid::new(), "session": Uuid::new() };
        set_checkpoint(&scene, 0, another).await;
        scene.produce(&[state(n, "next", 0)]);
        scene.settled().await;
    }
    until_fires(&prometheus, "WorkflowsSinkFencedOften", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_file_that_is_refused_alerts_until_it_is_mended() {
    let options = MongoOptions {
        auth: true,
        ..MongoOptions::default()
    };
    let (scene, mongo) = Scene::apart("observed_password", 1, options).await;
    let password = mongo.password().expect("a password");
    let mut files = Credentials::new(&[(PASSWORD, password)]);
    let uri = mongo.uri_without_password();
    let settings = [
        (CONNECTION_STRING, uri.as_str()),
        ("DYFF_WORKFLOWS_SINK__MONGODB__DATABASE", mongo::DATABASE),
        (CREDENTIALS_DIR, files.path()),
    ];
    let worker = scene.worker(&settings);
    worker.ready().await;
    let prometheus = prometheus(&shipped_rules_at_once()).await;
    scrape(&prometheus, &[&worker]).await;
    let mongodb = Some(("server", "mongodb"));
    assert!(!fires(&prometheus, "WorkflowsSinkCredentialsRefused", None));

    files.publish(&[(PASSWORD, "not the user's")]);
    until_fires(&prometheus, "WorkflowsSinkCredentialsRefused", mongodb).await;
    files.publish(&[(PASSWORD, password)]);
    until_over(&prometheus, "WorkflowsSinkCredentialsRefused").await;

    files.spoil(PASSWORD);
    until_fires(&prometheus, "WorkflowsSinkCredentialsRefused", mongodb).await;
    files.publish(&[(PASSWORD, password)]);
    until_over(&prometheus, "WorkflowsSinkCredentialsRefused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_never_fetches_alerts_and_a_new_client_fetches_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let relay = listener.local_addr().expect("bound").port();
    let options = KafkaOptions {
        relay: Some(relay),
        ..KafkaOptions::default()
    };
    let kafka = Kafka::start(options).await.expect("a broker");
    let behind = kafka.behind_relay().expect("a listener");
    let sieve = Sieve::start(listener, behind);
    let uri = world().await.mongo.uri();
    let scene = Scene::on("observed_fetch", &kafka.bootstrap(), &uri).await;
    let topics = kafka.topics().expect("an admin client");
    topics.create(&scene.topic, 2, &[]).await.expect("a topic");
    scene.produce(&[states(0..10, "first", 0), states(20..30, "first", 1)].concat());
    let worker = scene.worker(&[(BOOTSTRAP_SERVERS, &sieve.bootstrap())]);
    scene.settled().await;
    let prometheus = prometheus(&shipped_rules_at_once()).await;
    scrape(&prometheus, &[&worker]).await;

    sieve.withhold();
    scene.produce(&states(0..10, "second", 0));
    until_fires(&prometheus, "WorkflowsSinkFetchStalled", None).await;
    assert!(sieve.withheld() > 0);
    let log = worker.log();
    let told = log.lines().filter(|line| line.contains("WS-203"));
    let told: Vec<&str> = told.collect();
    assert_eq!(told.len(), 1, "{log}");
    for said in [
        "assigning the partition anew",
        "\"next_offset\":10",
        "\"log_end\":20",
    ] {
        assert!(told[0].contains(said), "{said}: {}", told[0]);
    }
    let at = scene.checkpoints().await[&0];
    assert_eq!(at, 10, "assigning it anew does not help here");
    scene.settled_within(NEW_CONSUMER_WITHIN).await;
    let log = worker.log();
    assert!(log.contains("whatever was tried"), "{log}");
    assert!(log.contains("assigning it anew did not help"), "{log}");
}
