//! A rotation: without a gap for who is logged in, and with an end for the old password.

use bson::doc;

use crate::gate::{Gate, Moment, ended, killed};
use crate::process::INTERVAL;
use crate::scene::{NEXT, PASSWORD, ROTATE, SINK, SINK_SECRET, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_is_the_only_one_and_who_is_logged_in_stays_so() {
    let scene = Scene::new("rotated").await;
    scene.provision().await;
    let old = scene.password().await;
    let (_, rest) = scene.mongo_uri.split_once("://").unwrap();
    let uri = format!(
        "mongodb://{SINK}:{old}@{rest}&authSource={}&maxPoolSize=1",
        scene.auth_database
    );
    let service = mongodb::Client::with_uri_str(uri)
        .await
        .unwrap()
        .database(&scene.database);
    service
        .run_command(doc! { "insert": "c", "documents": [{ "_id": 1 }] })
        .await
        .unwrap();

    scene.rotate().await;
    let new = scene.password().await;
    assert!(new != old && !scene.authenticates(&old).await && scene.authenticates(&new).await);
    service
        .run_command(doc! { "insert": "c", "documents": [{ "_id": 2 }] })
        .await
        .unwrap();

    let text = scene.done(&ROTATE).await;
    assert!(
        text.contains("workflows-sink: rotated; proven: reads"),
        "{text}"
    );
    assert_ne!(scene.password().await, new);
    let secret = scene.secret(SINK_SECRET).await.unwrap();
    let stamped = &secret.metadata.annotations.unwrap()["workflows-sink-admin/password-changed-at"];
    let status = scene.json(&["rotate", "--user", SINK, "--status"]).await;
    let since = status["password_since"].as_str().unwrap();
    let whole = since.strip_suffix('Z').unwrap();
    assert!(stamped.starts_with(whole), "{since} {stamped}");
    assert_eq!(since.len(), "2026-01-31T12:00:00.000Z".len(), "{since}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_where_a_rotation_was_left() {
    let scene = Scene::new("status").await;
    let stage = async || {
        let report = scene.json(&["rotate", "--user", SINK, "--status"]).await;
        report["stage"].as_str().unwrap().to_owned()
    };
    assert_eq!(stage().await, "absent");
    scene.provision().await;
    assert_eq!(stage().await, "none");
    for (effect, left) in [(1, "staged"), (2, "changed")] {
        let gate = Gate::new(&scene, Some((effect, Moment::After))).await;
        let child = gate.start(&scene, &ROTATE);
        gate.reached().await;
        killed(&scene, child).await;
        let version = scene.version().await;
        assert_eq!(stage().await, left);
        assert_eq!(scene.version().await, version, "looking changes nothing");
        let text = scene.done(&["rotate", "--user", SINK, "--status"]).await;
        assert!(text.contains("rotate continues"), "{text}");
        scene.done(&ROTATE).await;
        assert_eq!(stage().await, "none");
        scene.is_right().await;
    }
    scene
        .users(doc! { "updateUser": SINK, "pwd": "behind-its-back" })
        .await;
    assert_eq!(stage().await, "refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_from_nothing_provisions_with_a_new_password() {
    let scene = Scene::new("rotated_from_nothing").await;
    let report = scene.json(&ROTATE).await;
    assert_eq!(
        report["steps"].as_array().unwrap(),
        &["SecretCreated", "UserCreated"]
    );
    scene.is_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_password_that_a_person_wrote_is_taken_and_does_not_stay() {
    let scene = Scene::new("next_by_hand").await;
    scene.provision().await;
    scene
        .edit(serde_json::json!({ "stringData": { NEXT: "chosen-by-a-person" } }))
        .await;
    assert_eq!(
        scene.provision().await,
        ["PasswordChanged", "PasswordPromoted"]
    );
    assert_eq!(scene.password().await, "chosen-by-a-person");
    scene.is_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sidecar_publishes_the_next_password_before_it_is_in_force() {
    let scene = Scene::new("published_first").await;
    let scene = scene.with(&[
        (INTERVAL, "1"),
        ("DYFF_WORKFLOWS_SINK_ADMIN__ROTATE_EVERY_SECONDS", "1"),
    ]);
    scene.provision().await;
    let old = scene.password().await;
    let volume = scene.directory.path().join("volume");
    // the connection string, the next password, and then the user's password
    let gate = Gate::new(&scene, Some((2, Moment::Before))).await;
    let arguments = [
        "serve",
        "--user",
        SINK,
        "--publish",
        volume.to_str().unwrap(),
    ];
    let sidecar = gate.start(&scene, &arguments);
    gate.reached().await;
    let shown = crate::process::published(&volume);
    assert_eq!(shown[PASSWORD], old);
    assert_eq!(Some(&shown[NEXT]), scene.value(NEXT).await.as_ref());
    assert!(scene.authenticates(&old).await && !scene.authenticates(&shown[NEXT]).await);
    let next = shown[NEXT].clone();
    gate.release();
    test_support::wait::until("the next password is the current one", || async {
        crate::process::published(&volume).get(PASSWORD) == Some(&next)
    })
    .await;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(sidecar.id().unwrap() as i32).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert_eq!(ended(&scene, sidecar).await, Some(0));
    scene.hide([old, next]);
}
