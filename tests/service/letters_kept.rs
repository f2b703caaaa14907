//! How long dead letters are kept, and what their indexes need.

use bson::{Document, doc};
use local_stack::{Mongo, MongoOptions, mongo};
use test_support::operator::{poison, states};
use test_support::scene::{CONNECTION_STRING, Scene};
use test_support::wait::{until, until_is};
use test_support::worker::run;
use workflows_sink::writer::dead_letter;

const DATABASE: &str = "DYFF_WORKFLOWS_SINK__MONGODB__DATABASE";
const CLOSED_TTL_SECONDS: &str = "DYFF_WORKFLOWS_SINK__DEAD_LETTERS_CLOSED_TTL_SECONDS";
const NOT_MADE: &str = "the indexes of the dead letters were not made or changed";

/// The letters that there are, by partition: how each stands.
async fn letters(scene: &Scene) -> Vec<(i32, String)> {
    let mut found: Vec<(i32, String)> = (scene.dead_letters().await.iter())
        .map(|letter| {
            let id = letter.get_document("_id").expect("an _id");
            let state = letter.get_str("state").expect("a state").to_owned();
            (id.get_i32("partition").expect("a number"), state)
        })
        .collect();
    found.sort();
    found
}

fn of(expected: &[(i32, &str)]) -> Vec<(i32, String)> {
    let owned = |(partition, state): &(i32, &str)| (*partition, (*state).to_owned());
    expected.iter().map(owned).collect()
}

/// Gives the letters of a partition up.
async fn discard(scene: &Scene, partition: &str) {
    let words = ["dead-letters", "discard", "--why", "a test", "--yes"];
    let words = [&words[..], &["--partition", partition]].concat();
    let (code, _, err) = run(&scene.environment(), &words).await;
    assert_eq!(code, Some(0), "{err}");
}

async fn indexes(scene: &Scene) -> Vec<String> {
    let letters = scene
        .database
        .collection::<Document>(dead_letter::COLLECTION);
    letters.list_index_names().await.expect("names")
}

/// Waits until the server has looked twice for documents whose time is over.
async fn expired(mongo: &Mongo) {
    let client = mongo.client().await.expect("a client");
    let admin = client.database("admin");
    let passes = async || {
        let status = admin.run_command(doc! { "serverStatus": 1 }).await;
        let status = status.expect("a status");
        let ttl = status
            .get_document("metrics")
            .and_then(|metrics| metrics.get_document("ttl"));
        ttl.and_then(|ttl| ttl.get_i64("passes")).expect("passes")
    };
    let before = passes().await;
    until("what is over has gone", || async {
        passes().await >= before + 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_letters_go_after_their_time_and_open_ones_stay() {
    let options = MongoOptions {
        parameters: vec!["ttlMonitorSleepSecs=1".to_owned()],
        ..MongoOptions::default()
    };
    let (scene, mongo) = Scene::apart("letters_kept", 2, options).await;
    scene.produce(&[poison(0), poison(0), poison(1)]);
    let mut worker = scene.worker(&[(CLOSED_TTL_SECONDS, "1")]);
    until_is("the letters", 3, || async { letters(&scene).await.len() }).await;
    assert!(
        indexes(&scene)
            .await
            .contains(&"workflows_sink_closed".to_owned())
    );
    expired(&mongo).await;
    let open = (1, "open");
    assert_eq!(letters(&scene).await, of(&[(0, "open"), (0, "open"), open]));

    discard(&scene, "0").await;
    until_is("the letters", of(&[open]), || letters(&scene)).await;
    expired(&mongo).await;
    assert_eq!(letters(&scene).await, of(&[open]));
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    // Without the setting they are kept for ever, those of before too.
    let mut worker = scene.worker(&[]);
    until("closed letters are kept", || async {
        !indexes(&scene)
            .await
            .contains(&"workflows_sink_closed".to_owned())
    })
    .await;
    discard(&scene, "1").await;
    expired(&mongo).await;
    assert_eq!(letters(&scene).await, of(&[(1, "discarded")]));
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_make_no_index_is_told_so_once_and_all_else_works() {
    let options = MongoOptions {
        auth: true,
        ..MongoOptions::default()
    };
    let (mut scene, mongo) = Scene::apart("no_indexes", 1, options).await;
    let admin = mongo.admin().await.expect("an admin");
    scene.database = admin.database(mongo::DATABASE);
    let actions = [
        "find",
        "insert",
        "update",
        "remove",
        "listIndexes",
        "listCollections",
        "createCollection",
    ];
    let resource = doc! { "db": mongo::DATABASE, "collection": "" };
    let role = doc! {
        "createRole": "without_indexes", "roles": [],
        "privileges": [{ "resource": resource, "actions": actions.to_vec() }],
    };
    let created = admin.database("admin").run_command(role).await;
    created.expect("a role");
    let users = admin.database(mongo::USER_DATABASE);
    let role = doc! { "role": "without_indexes", "db": "admin" };
    let update = doc! { "updateUser": mongo::USER, "roles": [role] };
    users.run_command(update).await.expect("changed");

    let uri = mongo.uri();
    let settings = [
        (CONNECTION_STRING, uri.as_str()),
        (DATABASE, mongo::DATABASE),
        (CLOSED_TTL_SECONDS, "60"),
    ];
    scene.produce(&[poison(0)]);
    scene.produce(&states(0..5, "first", 0));
    for _ in 0..2 {
        let mut worker = scene.worker(&settings);
        worker.ready().await;
        scene.settled().await;
        worker.logs(NOT_MADE).await;
        assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
        let told = worker.lines_with(NOT_MADE);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            (&told[0]["level"], &told[0]["code"]),
            (&"WARN".into(), &"WS-104".into())
        );
        let error = told[0]["error"].as_str().expect("an error");
        let command = "to execute { createIndexes: \"workflows_sink_dead_letters\" }";
        assert!(
            error.starts_with("Unauthorized (code 13): not authorized on ")
                && error.ends_with(command),
            "{error}"
        );
        assert_eq!(worker.count("ERROR", ""), 0, "{}", worker.log());
    }
    assert_eq!(letters(&scene).await, of(&[(0, "open")]));
    assert_eq!(scene.entities().await.len(), 5);
    assert_eq!(indexes(&scene).await, ["_id_"]);
    let environment = scene.environment_with(&settings);
    let (code, list, err) = run(&environment, &["dead-letters", "list"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(list.contains("malformed_value"), "{list}");
}
