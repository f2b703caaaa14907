//! A password that changes while the service runs: no record is lost or applied twice, no partition
//! moves, nothing restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use local_stack::{Mongo, MongoOptions, Toxiproxy, mongo};
use mongodb::Client;
use tempfile::TempDir;
use test_support::credentials::{CREDENTIALS_DIR, Credentials, PASSWORD, PASSWORD_NEXT};
use test_support::entities::Entities;
use test_support::history::History;
use test_support::load::Load;
use test_support::scene::{CONNECTION_STRING, Scene};
use test_support::wait::until;
use test_support::worker::Worker;

use crate::drain::expected;

const DATABASE: &str = "DYFF_WORKFLOWS_SINK__MONGODB__DATABASE";
const SWAPS: &str = "workflows_sink_credential_swaps_total";

/// A scene with authentication behind a proxy, seen with an administrator's eyes.
async fn scene(name: &str) -> (Scene, Mongo) {
    let toxiproxy = tokio::task::spawn_blocking(Toxiproxy::install).await;
    let options = MongoOptions {
        auth: true,
        proxies: Some(toxiproxy.expect("no panic").expect("toxiproxy")),
        ..MongoOptions::default()
    };
    let (mut scene, mongo) = Scene::apart(name, 4, options).await;
    let admin = mongo.direct(0).await.expect("an admin");
    scene.database = admin.database(mongo::DATABASE);
    (scene, mongo)
}

fn environment(mongo: &Mongo) -> [(&'static str, String); 2] {
    [
        (CONNECTION_STRING, mongo.uri_without_password()),
        (DATABASE, mongo::DATABASE.to_owned()),
    ]
}

async fn change_password(mongo: &Mongo, password: &str) {
    let change =
        doc! { "updateUser": mongo::USER, "pwd": password, "writeConcern": { "w": "majority" } };
    let admin = mongo.direct(0).await.expect("an admin");
    let users = admin.database(mongo::USER_DATABASE);
    users.run_command(change).await.expect("changed");
}

/// Ends all connections, so that the next ones have to log in.
fn break_connections(mongo: &Mongo) {
    let proxy = mongo.proxy(0).expect("a proxy");
    proxy.reset(Duration::ZERO).expect("reset");
    proxy.heal().expect("healed");
}

/// The connections on which the service's user is logged in.
async fn connections(mongo: &Mongo) -> BTreeSet<String> {
    let admin = mongo.direct(0).await.expect("an admin");
    let look = doc! { "$currentOp": { "allUsers": true, "idleConnections": true } };
    // What the operations are may be anything, and need not be readable.
    let fields = doc! { "$project": { "connectionId": 1, "effectiveUsers": 1 } };
    let found = (admin.database("admin").aggregate([look, fields]).await).expect("operations");
    let found: Vec<Document> = found.try_collect().await.expect("operations");
    let ours = |operation: &&Document| {
        let users = operation.get_array("effectiveUsers").ok();
        let users = users
            .into_iter()
            .flatten()
            .filter_map(|user| user.as_document());
        users
            .filter_map(|user| user.get_str("user").ok())
            .any(|user| user == mongo::USER)
    };
    let ours = found.iter().filter(ours);
    ours.filter_map(|operation| Some(operation.get("connectionId")?.to_string()))
        .collect()
}

async fn swapped(worker: &Worker, times: f64) {
    until(&format!("{times} changed passwords are in use"), || async {
        worker.metric(SWAPS, "") == Some(times)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_rotates_under_load_costs_no_record_and_no_restart_in_whatever_order_it_changes()
 {
    let (scene, mongo) = scene("rotation").await;
    let scene = Arc::new(scene);
    let old = mongo.password().expect("a password");
    let mut files = Credentials::new(&[(PASSWORD, old)]);
    let history = History::watch(&scene).await;
    let [uri, database] = environment(&mongo);
    let changes = [
        (uri.0, uri.1.as_str()),
        (database.0, &database.1),
        (CREDENTIALS_DIR, files.path()),
    ];
    let mut worker = scene.worker(&changes);
    let load = Load::start(&scene, 23);
    worker.ready().await;
    scene.applies_the_log().await;
    let rebalances = worker.metric("workflows_sink_rebalances_total", "");
    let pid = worker.server().pid();

    // As `admin rotate` does: both are published, the user is changed, the next one becomes the one
    // in force.
    files.publish(&[(PASSWORD, old), (PASSWORD_NEXT, "hunter-1")]);
    change_password(&mongo, "hunter-1").await;
    break_connections(&mongo);
    swapped(&worker, 1.0).await;
    scene.applies_the_log().await;
    files.publish(&[(PASSWORD, "hunter-1")]);

    // Only promoted: no connection had to be opened again meanwhile.
    files.publish(&[(PASSWORD, "hunter-1"), (PASSWORD_NEXT, "hunter-2")]);
    change_password(&mongo, "hunter-2").await;
    let past = connections(&mongo).await;
    files.publish(&[(PASSWORD, "hunter-2")]);
    swapped(&worker, 2.0).await;
    scene.applies_the_log().await;
    until("the old client's connections are closed", || async {
        connections(&mongo).await.is_disjoint(&past)
    })
    .await;

    // The files first, and the old connections stay up until the user is changed.
    files.publish(&[(PASSWORD, "hunter-3")]);
    worker.logs("continuing with the connection in use").await;
    scene.applies_the_log().await;
    assert_eq!(worker.metric(SWAPS, ""), Some(2.0), "{}", worker.log());
    change_password(&mongo, "hunter-3").await;
    swapped(&worker, 3.0).await;
    scene.applies_the_log().await;

    // The user first: nobody is authenticated until the files follow.
    change_password(&mongo, "hunter-4").await;
    break_connections(&mongo);
    until("its login is refused", || async {
        let refused = "reason=\"authentication\"";
        worker.metric("workflows_sink_retries_total", refused) > Some(0.0)
    })
    .await;
    files.publish(&[(PASSWORD, "hunter-4")]);
    swapped(&worker, 4.0).await;
    scene.applies_the_log().await;

    // Nonsense, and a file that cannot be read; then all is well again.
    files.publish(&[(PASSWORD, "hunter-nonsense")]);
    until("nonsense is refused", || async {
        worker.metric("workflows_sink_errors_total", "kind=\"refused\"") >= Some(2.0)
    })
    .await;
    files.spoil(PASSWORD);
    worker.logs("cannot be read").await;
    scene.applies_the_log().await;
    change_password(&mongo, "hunter-5").await;
    break_connections(&mongo);
    files.publish(&[(PASSWORD, "hunter-5")]);
    worker.logs("can be read again").await;
    swapped(&worker, 5.0).await;
    scene.applies_the_log().await;

    let records = load.finish().await;
    scene.settled().await;
    worker.ready().await;
    assert_eq!(scene.entities().await, expected(&records));
    history.prove(&scene).await;
    assert_eq!(
        worker.metric("workflows_sink_rebalances_total", ""),
        rebalances
    );
    assert_eq!(
        worker.metric("workflows_sink_fenced_total", ""),
        Some(0.0),
        "{}",
        worker.log()
    );
    assert_eq!(worker.server().pid(), pid);
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    assert!(!worker.log().contains("hunter-"), "{}", worker.log());
    assert!(!worker.log().contains(old), "{}", worker.log());
    let gone = Client::with_uri_str(mongo.uri()).await.expect("a client");
    assert!(
        gone.list_database_names().await.is_err(),
        "the first password is no longer accepted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_with_nothing_to_write_leaves_the_old_client_too() {
    let (scene, mongo) = scene("idle_rotation").await;
    let folder = TempDir::new().expect("a directory");
    let file = folder.path().join("password");
    std::fs::write(&file, mongo.password().expect("a password")).expect("written");
    let password_file = format!("{PASSWORD}_FILE");
    let [uri, database] = environment(&mongo);
    let changes = [
        (uri.0, uri.1.as_str()),
        (database.0, &database.1),
        (&password_file, file.to_str().expect("UTF-8")),
    ];
    let mut worker = scene.worker(&changes);
    let mut entities = Entities::new(29, 50);
    let mut records = entities.states(100);
    scene.produce(&records);
    scene.settled().await;

    let past = connections(&mongo).await;
    assert!(!past.is_empty());
    change_password(&mongo, "hunter-6").await;
    std::fs::write(&file, "hunter-6\n").expect("written");
    swapped(&worker, 1.0).await;
    until("the old client's connections are closed", || async {
        connections(&mongo).await.is_disjoint(&past)
    })
    .await;
    let states = entities.states(100);
    scene.produce(&states);
    records.extend(states);
    scene.settled().await;
    assert_eq!(scene.entities().await, expected(&records));
    assert_eq!(
        worker.metric("workflows_sink_fenced_total", ""),
        Some(0.0),
        "{}",
        worker.log()
    );
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_in_the_midst_of_a_rotation_finds_the_password_in_force() {
    let (scene, mongo) = scene("start_in_rotation").await;
    let right = mongo.password().expect("a password").to_owned();
    let uri = mongo.uri_without_password();
    let start = |files: &Credentials| {
        let changes: BTreeMap<_, _> = [
            (CONNECTION_STRING, ""),
            (DATABASE, ""),
            (CREDENTIALS_DIR, files.path()),
        ]
        .into();
        let changes: Vec<(&str, &str)> = changes.into_iter().collect();
        scene.worker(&changes)
    };
    let all = [
        (CONNECTION_STRING, uri.as_str()),
        (DATABASE, mongo::DATABASE),
    ];
    let records = Entities::new(31, 20).states(40);
    scene.produce(&records);
    for passwords in [
        &[(PASSWORD, "hunter-stale"), (PASSWORD_NEXT, right.as_str())][..],
        &[(PASSWORD, &right), (PASSWORD_NEXT, "hunter-to-come")],
    ] {
        let files = Credentials::new(&[&all, passwords].concat());
        let mut worker = start(&files);
        worker.ready().await;
        scene.settled().await;
        assert_eq!(worker.metric(SWAPS, ""), Some(0.0), "{}", worker.log());
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    }
    assert_eq!(scene.entities().await, expected(&records));

    let both = [(PASSWORD, "hunter-stale"), (PASSWORD_NEXT, "hunter-wrong")];
    let files = Credentials::new(&[&all, &both[..]].concat());
    let mut worker = start(&files);
    assert_eq!(worker.exit().await, Some(78), "{}", worker.log());
    assert!(!worker.log().contains("hunter"), "{}", worker.log());
    let files = Credentials::new(&all);
    let mut worker = start(&files);
    assert_eq!(worker.exit().await, Some(78), "{}", worker.log());
    assert!(worker.log().contains(PASSWORD), "{}", worker.log());
}
