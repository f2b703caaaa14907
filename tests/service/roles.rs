//! A role that is revoked and granted again is waited for, as an outage is.

use bson::doc;
use local_stack::{Mongo, MongoOptions, mongo};
use test_support::entities::Entities;
use test_support::history::History;
use test_support::scene::{CONNECTION_STRING, Scene};
use test_support::wait::until;
use test_support::worker::Worker;

use crate::drain::expected;

const DATABASE: &str = "DYFF_WORKFLOWS_SINK__MONGODB__DATABASE";

/// Takes from the service's user what it may do with the database, or gives it back.
async fn change_role(mongo: &Mongo, command: &str) {
    let role = doc! { "role": "readWrite", "db": mongo::DATABASE };
    let change =
        doc! { command: mongo::USER, "roles": [role], "writeConcern": { "w": "majority" } };
    let admin = mongo.admin().await.expect("an admin");
    let users = admin.database(mongo::USER_DATABASE);
    users.run_command(change).await.expect("changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_role_is_waited_for_and_nothing_is_lost() {
    let options = MongoOptions {
        auth: true,
        ..MongoOptions::default()
    };
    let (mut scene, mongo) = Scene::apart("roles", 4, options).await;
    // Seen with an administrator's eyes, whatever the service's user may do.
    let admin = mongo.admin().await.expect("an admin");
    scene.database = admin.database(mongo::DATABASE);
    let history = History::watch(&scene).await;
    let mut worker = scene.worker(&[
        (CONNECTION_STRING, &mongo.uri()),
        (DATABASE, mongo::DATABASE),
    ]);
    let mut entities = Entities::new(17, 100);
    let mut records = entities.states(300);
    scene.produce(&records);
    scene.settled().await;
    worker.ready().await;

    change_role(&mongo, "revokeRolesFromUser").await;
    let before = (scene.entities().await, scene.checkpoints().await);
    let states = entities.states(300);
    scene.produce(&states);
    records.extend(states);
    worker.logs("MongoDB does not accept writes").await;
    until("the worker says that it is not ready", || async {
        !worker.is_ready()
    })
    .await;
    // A ping needs no role: those that are answered meanwhile do not make it ready.
    let tries =
        |worker: &Worker| worker.metric("workflows_sink_retries_total", "\"authorization\"");
    let earlier = tries(&worker);
    until("it has tried a few times more", || async {
        assert!(!worker.is_ready(), "{}", worker.log());
        assert_eq!(worker.get("/livez").map(|(status, _)| status), Some(200));
        tries(&worker) > earlier.map(|earlier| earlier + 8.0)
    })
    .await;
    assert_eq!(worker.assigned(), 4, "its partitions are kept");
    assert_eq!(before, (scene.entities().await, scene.checkpoints().await));

    change_role(&mongo, "grantRolesToUser").await;
    scene.settled().await;
    worker.ready().await;
    assert_eq!(scene.entities().await, expected(&records));
    assert!(scene.dead_letters().await.is_empty());
    history.prove(&scene).await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
