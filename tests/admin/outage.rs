//! Servers that are unavailable, slow, or change roles in the midst of it.

use std::time::Duration;

use bson::doc;
use local_stack::kubernetes::{Kubernetes, KubernetesOptions};
use local_stack::{Mongo, MongoOptions, Topology, Toxiproxy};
use serde_json::json;
use test_support::datastore::{create_system_users, publish_system_secret};
use test_support::fail_point::FailPoint;
use test_support::wait::{DEADLINE, until};

use crate::gate::{Gate, Moment, ended};
use crate::process::{INTERVAL, Sidecar, published, start};
use crate::scene::{PASSWORD, ROTATE, SINK, SINK_SECRET, Scene, URI};
use crate::world::world;

const PROVISION: [&str; 3] = ["provision", "--user", SINK];
async fn mongo(topology: Topology) -> Mongo {
    let options = MongoOptions {
        auth: true,
        topology,
        ..MongoOptions::default()
    };
    Mongo::start(options).await.expect("a replica set")
}

/// A scene on the shared API server, with a MongoDB of its own.
async fn on_mongo(name: &str, mongo: &Mongo) -> Scene {
    let passwords = create_system_users(mongo).await;
    let scene = Scene::on(name, &world().await.kubernetes, mongo).await;
    scene.hide(passwords.values().cloned());
    scene.with(&[
        (
            "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_USER",
            "userAdmin",
        ),
        (
            "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_PASSWORD",
            &passwords["USER_ADMIN"],
        ),
        (INTERVAL, "1"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_down_or_slow_delays_and_undoes_nothing() {
    let proxied = KubernetesOptions {
        proxy: Some(Toxiproxy::install().unwrap()),
    };
    let (kubernetes, world) = tokio::join!(Kubernetes::start(proxied), world());
    let mut kubernetes = kubernetes.unwrap();
    publish_system_secret(&kubernetes, &world.cluster_passwords).await;
    let scene = Scene::on("api_server_away", &kubernetes, &world.mongo).await;
    scene.hide(world.cluster_passwords.values().cloned());
    let scene = scene.with(&[(INTERVAL, "1")]);

    let proxy = kubernetes.proxy().unwrap().clone();
    proxy
        .latency(Duration::from_millis(300), Duration::from_millis(50))
        .unwrap();
    scene.provision().await;
    proxy.heal().unwrap();
    scene.is_right().await;

    let volume = scene.directory.path().join("volume");
    let sidecar = Sidecar::start(&scene, &["--publish", volume.to_str().unwrap()]);
    sidecar.started().await;
    let shown = published(&volume);
    kubernetes.kill().unwrap();
    sidecar.logs("does not match the table; retrying", 1).await;
    assert_eq!(
        published(&volume),
        shown,
        "the service goes on with what it has"
    );
    assert_eq!(sidecar.get("/livez").unwrap().0, 200);
    until("the failures are counted", || async {
        sidecar.metric("errors_total", "\"away\"") >= Some(1.0)
    })
    .await;
    // a command that is run now waits
    let mut rotation = start(&scene, &ROTATE);
    let log = rotation.log();
    let printed = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the command tries again", || async {
        printed().contains("\"retrying\"")
    })
    .await;
    kubernetes.restart().await.unwrap();
    let ended = rotation.wait(DEADLINE).await.expect("it ends");
    scene.keep(&printed());
    assert_eq!(ended.code(), Some(0), "{}", printed());
    until("the new password is published", || async {
        published(&volume).get(PASSWORD) == scene.value(PASSWORD).await.as_ref()
            && published(&volume)[PASSWORD] != shown[PASSWORD]
    })
    .await;
    assert_eq!(sidecar.stop(&scene).await, Some(0));
    scene.is_right().await;
}

/// Whether a line of the API server's metrics counts one.
fn is_a_watch_of_one_secret(line: &str) -> bool {
    let labels = [
        r#"resource="secrets""#,
        r#"scope="resource""#,
        r#"verb="WATCH""#,
    ];
    line.starts_with("apiserver_longrunning_requests{")
        && labels.iter().all(|label| line.contains(label))
        && !line.ends_with(" 0")
}

/// A restarted API server knows no version of an object that was not written since.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_a_version_that_is_no_longer_known_begins_again_without_a_look() {
    let (kubernetes, world) =
        tokio::join!(Kubernetes::start(KubernetesOptions::default()), world());
    let mut kubernetes = kubernetes.unwrap();
    publish_system_secret(&kubernetes, &world.cluster_passwords).await;
    let scene = Scene::on("watch_gone", &kubernetes, &world.mongo).await;
    scene.hide(world.cluster_passwords.values().cloned());
    let scene = scene.with(&[(INTERVAL, "86400")]);
    let sidecar = Sidecar::start(&scene, &[]);
    sidecar.started().await;
    let looked = || sidecar.metric("last_success_timestamp_seconds", SINK);
    until("a look", || async { looked().is_some_and(|at| at > 0.0) }).await;
    for n in 0..10 {
        let name = format!("later-{n}");
        let later = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } });
        kubernetes.apply(&later.to_string()).await.expect("a write");
    }
    let before = looked();
    kubernetes.kill().unwrap();
    kubernetes.restart().await.unwrap();
    until("the Secret is watched again", || async {
        let metrics = kubernetes
            .kubectl(&["get", "--raw", "/metrics"], None)
            .await;
        metrics.is_ok_and(|metrics| metrics.lines().any(is_a_watch_of_one_secret))
    })
    .await;
    scene.done(&["quick-check", "--user", SINK]).await;
    assert_eq!(looked(), before, "{}", sidecar.log());
    scene.edit(json!({ "data": { URI: null } })).await;
    until("the Secret is mended", || async {
        scene.value(URI).await.is_some()
    })
    .await;
    assert_eq!(sidecar.stop(&scene).await, Some(0));
    scene.is_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_that_is_down_is_waited_for() {
    let mut mongo = mongo(Topology::ReplicaSet(1)).await;
    let scene = on_mongo("mongodb_down", &mongo).await;
    mongo.kill(0).unwrap();
    let volume = scene.directory.path().join("volume");
    let sidecar = Sidecar::start(&scene, &["--publish", volume.to_str().unwrap()]);
    sidecar.logs("not match the table", 1).await;
    let (status, why) = sidecar.get("/startupz").unwrap();
    assert!(status == 503 && why.contains("MongoDB"), "{why}");
    assert_eq!(sidecar.get("/livez").unwrap().0, 200);
    mongo.restart(0).await.unwrap();
    sidecar.started().await;
    scene.is_right().await;

    // a pod that starts while MongoDB is unavailable gets what the Secret holds all the same
    assert_eq!(sidecar.stop(&scene).await, Some(0));
    std::fs::remove_dir_all(&volume).unwrap();
    mongo.kill(0).unwrap();
    let sidecar = Sidecar::start(&scene, &["--publish", volume.to_str().unwrap()]);
    until("it is published", || async {
        published(&volume).contains_key(PASSWORD)
    })
    .await;
    mongo.restart(0).await.unwrap();
    sidecar.started().await;
    assert_eq!(sidecar.stop(&scene).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_is_lost_is_made_once() {
    let mongo = mongo(Topology::ReplicaSet(1)).await;
    let scene = on_mongo("answer_lost", &mongo).await;
    let mut fail_point = FailPoint::of(&scene.mongo_admin);
    let fails = |commands: &[&str], how: bson::Document| {
        let mut data = doc! { "failCommands": commands, "appName": "workflows-sink-admin" };
        data.extend(how);
        data
    };
    let stepping_down = || doc! { "errorCode": 189 };
    for how in [
        stepping_down(),
        doc! { "closeConnection": true },
        doc! { "writeConcernError": { "code": 64, "errmsg": "waiting" } },
    ] {
        fail_point
            .set(doc! { "times": 1 }, fails(&["createUser"], how.clone()))
            .await;
        scene.provision().await;
        scene.is_right().await;
        let old = scene.password().await;
        fail_point
            .set(doc! { "times": 1 }, fails(&["updateUser"], how))
            .await;
        scene.rotate().await;
        assert!(!scene.authenticates(&old).await);
        scene.users(doc! { "dropUser": SINK }).await;
    }
    fail_point.off().await;
    assert!(scene.secret(SINK_SECRET).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_steps_down_in_the_midst_is_followed() {
    let mut mongo = mongo(Topology::ReplicaSet(3)).await;
    let scene = on_mongo("step_down", &mongo).await;
    let primary = mongo.primary().await.unwrap();
    // its primary steps down when the next password is staged and not in force
    scene.done(&PROVISION).await;
    let old = scene.password().await;
    let gate = Gate::new(&scene, Some((0, Moment::After))).await;
    let direct = gate.start_on(&scene, &ROTATE, &scene.mongo_uri);
    gate.reached().await;
    let step_down = doc! { "replSetStepDown": 60, "secondaryCatchUpPeriodSecs": 10 };
    let _ = mongo
        .direct(primary)
        .await
        .unwrap()
        .database("admin")
        .run_command(step_down)
        .await;
    gate.release();
    assert_eq!(ended(&scene, direct).await, Some(0));
    assert_ne!(mongo.primary().await.unwrap(), primary);
    scene.is_right().await;
    assert!(!scene.authenticates(&old).await);

    // and it is killed while a sidecar looks after the user
    let sidecar = Sidecar::start(&scene, &[]);
    sidecar.started().await;
    let primary = mongo.primary().await.unwrap();
    mongo.kill(primary).unwrap();
    scene.done(&ROTATE).await;
    scene.is_right().await;
    assert_eq!(sidecar.stop(&scene).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_access_control_is_reported() {
    let mongo = Mongo::start(MongoOptions::default())
        .await
        .expect("a replica set");
    let scene = on_mongo("no_access_control", &mongo).await;
    let (code, out, error) = scene.run(&PROVISION).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(error.contains("is MongoDB started with --auth?"), "{error}");
    assert!(out.contains("created") && out.contains("failed"), "{out}");
}
