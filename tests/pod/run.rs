//! A pod from nothing to records in MongoDB, and a rotation while it works.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::doc;
use local_stack::{Kafka, KafkaOptions, Kubernetes, Mongo, MongoOptions, mongo, port};
use serde_json::json;
use test_support::datastore::{
    SYSTEM_USERS, UserAdmin, create_system_users, create_user_admin, publish_system_secret,
};
use test_support::history::History;
use test_support::load::Load;
use test_support::scene::Scene;
use test_support::wait::until;

use crate::observability::every_panel_has_an_answer;
use crate::pod::{Alone, Pod, run_job};
use crate::shipped::{Shipped, cluster};

/// A `mongod --auth` as the operator leaves it: its own users and the small user admin, and none of
/// ours. With the system users' passwords.
async fn mongo() -> (Mongo, BTreeMap<String, String>, UserAdmin) {
    let options = MongoOptions {
        auth: true,
        ..MongoOptions::default()
    };
    let mongo = Mongo::start(options).await.expect("a replica set");
    let admin = mongo.admin().await.expect("an admin");
    let ours = doc! { "dropUser": mongo::USER };
    admin
        .database(mongo::USER_DATABASE)
        .run_command(ours)
        .await
        .expect("dropped");
    let system = create_system_users(&mongo).await;
    let user_admin = create_user_admin(&admin, str::to_owned).await;
    (mongo, system, user_admin)
}

/// The Secret that the operator makes of the small user admin: a password, and no name.
async fn publish_small_secret(kubernetes: &Kubernetes, user_admin: &UserAdmin) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": user_admin.secret, "namespace": "mongodb" },
        "stringData": { &user_admin.key: user_admin.password },
    });
    let applied = kubernetes.apply(&secret.to_string()).await;
    applied.expect("a Secret of the operator's");
}

/// The scene of the manifests' topic and group, seen with an administrator's eyes.
async fn scene(kafka: &Kafka, mongo: &Mongo, topic: &str) -> Scene {
    let mut scene = Scene::on("pod", &kafka.bootstrap(), &mongo.admin_uri()).await;
    scene.topic = topic.to_owned();
    scene.group = "dyff.system.mongodb.sink".to_owned();
    scene.database = scene.database.client().database(mongo::DATABASE);
    let topics = kafka.topics().expect("an admin client");
    topics.create(topic, 4, &[]).await.expect("a topic");
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_pod_makes_its_own_user_and_secret_and_a_rotation_costs_it_no_record() {
    let (kubernetes, kafka, mongo) =
        tokio::join!(cluster(), Kafka::start(KafkaOptions::default()), mongo());
    let (kafka, (mongo, system, user_admin)) = (kafka.expect("a broker"), mongo);
    let mut shipped = Shipped::render(&kubernetes).await;
    let uri = format!("mongodb://{}/?replicaSet=rs0", mongo.host(0));
    let address = || format!("127.0.0.1:{}", port::free().expect("a port"));
    // What is elsewhere in a test; all else is as shipped.
    shipped.set(&[
        ("DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS", &kafka.bootstrap()),
        ("DYFF_WORKFLOWS_SINK__LISTEN_ADDRESS", &address()),
        ("DYFF_WORKFLOWS_SINK_ADMIN__LISTEN_ADDRESS", &address()),
        (
            "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING",
            &uri,
        ),
    ]);
    kubernetes.apply(&shipped.list()).await.expect("applied");
    publish_system_secret(&kubernetes, &system).await;
    publish_small_secret(&kubernetes, &user_admin).await;
    let topic = shipped
        .setting("DYFF_KAFKA__TOPICS__WORKFLOWS_STATE")
        .to_owned();
    let scene = Arc::new(scene(&kafka, &mongo, &topic).await);
    let history = History::watch(&scene).await;
    let load = Load::start(&scene, 37);

    let users = async || {
        let users = scene.database.client().database(mongo::USER_DATABASE);
        let found = users
            .run_command(doc! { "usersInfo": 1 })
            .await
            .expect("users");
        found.get_array("users").expect("users").len()
    };
    let secret = [
        "get",
        "secret",
        "workflows-sink-mongodb",
        "--output",
        "jsonpath={.data}",
    ];
    assert_eq!(users().await, 0);
    assert!(
        kubernetes.kubectl(&secret, None).await.is_err(),
        "no Secret yet"
    );
    let mut pod = Pod::start(&shipped, &kubernetes, async || {
        assert_eq!(users().await, 1, "the user is there before the sink starts");
        kubernetes
            .kubectl(&secret, None)
            .await
            .expect("and its Secret");
    })
    .await;
    for container in ["admin", "sink"] {
        let container = shipped.container(container);
        assert!(pod.probes(container, "livenessProbe"));
    }
    pod.sink.ready().await;
    assert!(pod.probes(shipped.container("sink"), "readinessProbe"));
    scene.applies_the_log().await;

    let before = kubernetes.kubectl(&secret, None).await.expect("a Secret");
    let rebalances = pod.sink.metric("workflows_sink_rebalances_total", "");
    let rotated = pod
        .exec_admin(&["admin", "rotate", "--user", "workflows-sink"])
        .await;
    assert!(rotated.status.success(), "{rotated:?}");
    until("the new password is in use", || async {
        pod.sink.metric("workflows_sink_credential_swaps_total", "") >= Some(1.0)
    })
    .await;
    assert_ne!(
        kubernetes.kubectl(&secret, None).await.expect("a Secret"),
        before
    );
    scene.applies_the_log().await;

    let others = shipped.object("Deployment", "workflows-sink-users");
    let listen = [("DYFF_WORKFLOWS_SINK_ADMIN__LISTEN_ADDRESS", "127.0.0.1:0")];
    let mut others = Alone::start(others, &shipped, &kubernetes, &listen).await;
    assert_eq!(users().await, 3);
    for name in ["query-backend-mongodb", "auth-backend-mongodb"] {
        kubernetes
            .kubectl(&["get", "secret", name], None)
            .await
            .expect("a Secret");
    }
    datastore_is_checked(&kubernetes, &uri).await;

    let address = |name: &str| shipped.setting(name).to_owned();
    let (sink, admin) = (
        address("DYFF_WORKFLOWS_SINK__LISTEN_ADDRESS"),
        address("DYFF_WORKFLOWS_SINK_ADMIN__LISTEN_ADDRESS"),
    );
    every_panel_has_an_answer(&sink, &admin).await;

    let tools = shipped.object("CronJob", "workflows-sink-tools");
    let checked = run_job(tools, &shipped, &kubernetes, &[]).await;
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{checked:?}");
    assert!(
        said.contains("✓ sample"),
        "it reads Kafka and MongoDB: {said}"
    );

    let records = load.finish().await;
    scene.settled().await;
    history.prove(&scene).await;
    let in_log: i64 = scene.log_ends().await.values().sum();
    assert_eq!(records.len() as i64, in_log);
    assert_eq!(
        pod.sink.metric("workflows_sink_rebalances_total", ""),
        rebalances
    );
    assert_eq!(
        pod.sink.metric("workflows_sink_errors_total", ""),
        Some(0.0),
        "{}",
        pod.sink.log()
    );
    assert_eq!(
        pod.sink.metric("workflows_sink_fenced_total", ""),
        Some(0.0),
        "{}",
        pod.sink.log()
    );
    let data = kubernetes.kubectl(&secret, None).await.expect("a Secret");
    for worker in [&mut pod.sink, &mut pod.admin, &mut others.worker] {
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
        for secret in system.values().chain([&user_admin.password]) {
            assert!(!worker.log().contains(secret), "{}", worker.log());
        }
        for line in [&before, &data] {
            let values: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let password = values["DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD"].as_str();
            assert!(
                !worker.log().contains(password.expect("a password")),
                "{}",
                worker.log()
            );
        }
    }
}

/// `admin quick-check`, in the administrator's pod and with its account, shows every user.
async fn datastore_is_checked(kubernetes: &Kubernetes, uri: &str) {
    let datastore = Shipped::of(kubernetes, "mongodb/overlays/dyff").await;
    // The operator's own kind is not known to this server.
    let known = datastore.without("PerconaServerMongoDB");
    kubernetes.apply(&known.list()).await.expect("applied");
    let check = datastore.object("CronJob", "mongodb-admin");
    let there = ("DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING", uri);
    let checked = run_job(check, &datastore, kubernetes, &[there]).await;
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{checked:?}");
    let ours = ["workflows-sink", "query-backend", "auth-backend"];
    for user in SYSTEM_USERS.map(|(_, name, _)| name).iter().chain(&ours) {
        assert!(said.contains(user), "{said}");
    }
    assert_eq!(said.matches(" ok ").count(), 8, "{said}");
}
