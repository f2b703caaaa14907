//! What people do to users and Secrets behind the sidecar's back.

use bson::doc;
use serde_json::json;
use test_support::wait::until;

use crate::process::{INTERVAL, Sidecar, published};
use crate::scene::{NEXT, PASSWORD, SINK, SINK_SECRET, Scene, URI};

async fn repaired(sidecar: &Sidecar, step: &str) {
    until(&format!("{step} is counted"), || async {
        sidecar
            .metric("steps_total", &format!("\"{step}\""))
            .is_some_and(|count| count >= 1.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_secret_is_repaired_at_once() {
    let scene = Scene::new("drift_of_secret")
        .await
        .with(&[(INTERVAL, "86400")]);
    scene.provision().await;
    let volume = scene.directory.path().join("volume");
    let sidecar = Sidecar::start(&scene, &["--publish", volume.to_str().unwrap()]);
    sidecar.started().await;

    // edited
    scene
        .edit(json!({ "stringData": { URI: "mongodb://elsewhere/" } }))
        .await;
    repaired(&sidecar, "SecretMended").await;
    // a password of a person's becomes the user's
    scene
        .edit(json!({ "stringData": { PASSWORD: "chosen-by-a-person" } }))
        .await;
    repaired(&sidecar, "PasswordRestored").await;
    assert_eq!(scene.password().await, "chosen-by-a-person");
    // half emptied: with no password known, a new one
    scene
        .edit(json!({ "data": { PASSWORD: null, URI: null } }))
        .await;
    until("there is a password again", || async {
        scene
            .value(PASSWORD)
            .await
            .is_some_and(|password| password != "chosen-by-a-person")
    })
    .await;
    // deleted
    let password = scene.password().await;
    scene.delete_secret().await;
    until("there is a Secret again", || async {
        scene
            .value(PASSWORD)
            .await
            .is_some_and(|now| now != password)
    })
    .await;
    repaired(&sidecar, "SecretCreated").await;
    let now = scene.password().await;
    until("it is published", || async {
        published(&volume).get(PASSWORD) == Some(&now)
    })
    .await;
    until("it is the user's", || scene.authenticates(&now)).await;
    sidecar.logs("drift repaired", 4).await;
    assert_eq!(sidecar.stop(&scene).await, Some(0));
    scene.is_right().await;
    scene.hide([password]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_user_is_repaired_at_the_next_look() {
    let scene = Scene::new("drift_of_user").await.with(&[(INTERVAL, "1")]);
    scene.provision().await;
    let (version, password) = (scene.version().await, scene.password().await);
    let sidecar = Sidecar::start(&scene, &[]);
    sidecar.started().await;

    let role = doc! { "role": "readWrite", "db": &scene.database };
    scene
        .users(doc! { "revokeRolesFromUser": SINK, "roles": [&role] })
        .await;
    repaired(&sidecar, "RolesGranted").await;
    scene
        .users(
            doc! { "updateUser": SINK, "pwd": "behind-its-back", "mechanisms": ["SCRAM-SHA-256"] },
        )
        .await;
    repaired(&sidecar, "PasswordRestored").await;
    scene.users(doc! { "updateUser": SINK, "pwd": &password, "mechanisms": ["SCRAM-SHA-1", "SCRAM-SHA-256"] }).await;
    repaired(&sidecar, "MechanismSet").await;
    scene.users(doc! { "dropUser": SINK }).await;
    repaired(&sidecar, "UserCreated").await;
    // a surplus is reported, not revoked
    scene
        .users(doc! { "grantRolesToUser": SINK, "roles": [{ "role": "read", "db": "elsewhere" }] })
        .await;
    until("drift is reported", || async {
        sidecar.metric("drift", SINK) == Some(1.0)
    })
    .await;
    sidecar.logs("roles beyond the table", 1).await;
    assert_eq!(scene.account().await.unwrap().0.len(), 2);
    until("an Event reports it", || async {
        (scene.events().await.iter())
            .any(|(kind, reason, _)| kind == "Warning" && reason == "RolesBeyondTable")
    })
    .await;
    assert_eq!(sidecar.get("/readyz").unwrap().0, 200);
    assert_eq!(sidecar.stop(&scene).await, Some(0));
    assert_eq!(
        scene.version().await,
        version,
        "the Secret was right all the time"
    );

    let pruning = Sidecar::start(&scene, &["--prune-roles"]);
    pruning.started().await;
    repaired(&pruning, "RolesRevoked").await;
    assert_eq!(pruning.stop(&scene).await, Some(0));
    scene.is_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_secret_is_used_as_it_is_and_what_it_lacks_is_reported() {
    let scene = Scene::new("immutable").await.with(&[(INTERVAL, "86400")]);
    scene.provision().await;
    scene.edit(json!({ "immutable": true })).await;
    assert_eq!(scene.provision().await, Vec::<String>::new());
    let (code, _, error) = scene.run(&["rotate", "--user", SINK]).await;
    assert_eq!(code, Some(1));
    assert!(
        error.contains("is immutable") && error.contains("delete it"),
        "{error}"
    );
    scene.is_right().await;

    scene.delete_secret().await;
    scene
        .create_secret(&[(PASSWORD, "immutable-password"), (NEXT, "never-promoted")])
        .await;
    scene.edit(json!({ "immutable": true })).await;
    let sidecar = Sidecar::start(&scene, &[]);
    until("an Event says why not", || async {
        let events = scene.events().await;
        events.iter().any(|(kind, reason, note)| {
            kind == "Warning" && reason == "NotAsTable" && note.contains("is immutable")
        })
    })
    .await;
    assert_eq!(sidecar.metric("drift", SINK), Some(1.0));
    let (status, why) = sidecar.get("/startupz").unwrap();
    assert!(status == 503 && why.contains("is immutable"), "{why}");
    assert_eq!(sidecar.get("/livez").unwrap().0, 200);
    scene.delete_secret().await;
    sidecar.started().await;
    assert_eq!(sidecar.metric("drift", SINK), Some(0.0));
    assert_eq!(sidecar.stop(&scene).await, Some(0));
    scene.is_right().await;
    assert!(scene.secret(SINK_SECRET).await.unwrap().immutable.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cause_that_users_have_in_common_is_in_the_event_of_one() {
    let scene = Scene::new("one_event").await.with(&[
        (
            "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_USER",
            "userAdmin",
        ),
        (
            "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_PASSWORD",
            "not-the-password",
        ),
    ]);
    let others = ["--user", "auth-backend", "--user", "query-backend"];
    let sidecar = Sidecar::start(&scene, &others);
    until("each Secret has its Event", || async {
        scene.events().await.len() == 3
    })
    .await;
    let events = scene.events().await;
    let with = |text: &str| {
        events
            .iter()
            .filter(|(.., note)| note.contains(text))
            .count()
    };
    assert!(
        with("does not authenticate the user admin") == 1 && with("for the same cause as") == 2,
        "{events:?}"
    );
    assert_eq!(sidecar.stop(&scene).await, Some(0));
}
