//! `admin serve`: what a pod has from it.

use std::os::unix::fs::PermissionsExt as _;

use test_support::wait::until;

use crate::process::{INTERVAL, Sidecar, published};
use crate::scene::{DATABASE, PASSWORD, SINK, Scene, URI};

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_pod_finds_its_credentials_when_the_startup_probe_says_yes() {
    let scene = Scene::new("fresh_pod").await;
    let volume = scene.directory.path().join("volume");
    let sidecar = Sidecar::start(&scene, &["--publish", volume.to_str().unwrap()]);
    sidecar.started().await;
    scene.is_right().await;
    let shown = published(&volume);
    let keys: Vec<&str> = shown.keys().map(String::as_str).collect();
    assert_eq!(keys, [PASSWORD, URI, DATABASE]);
    assert_eq!(shown[PASSWORD], scene.password().await);
    for key in keys {
        let mode = std::fs::metadata(volume.join(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o440, "for the pod's group, and nobody else");
        assert_eq!(
            std::fs::read_link(volume.join(key)).unwrap(),
            std::path::Path::new("..data").join(key)
        );
    }
    for probe in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(sidecar.get(probe).unwrap().0, 200, "{probe}");
    }
    assert!(
        sidecar
            .metric("last_success_timestamp_seconds", SINK)
            .unwrap()
            > 1.7e9
    );
    assert!(
        sidecar
            .metric("password_changed_timestamp_seconds", SINK)
            .unwrap()
            > 1.7e9
    );
    assert_eq!(sidecar.metric("steps_total", "\"UserCreated\""), Some(1.0));
    assert_eq!(sidecar.metric("drift", SINK), Some(0.0));
    let mut reasons: Vec<String> = scene
        .events()
        .await
        .into_iter()
        .map(|(_, reason, _)| reason)
        .collect();
    reasons.sort();
    assert_eq!(reasons, ["SecretCreated", "UserCreated"]);
    assert_eq!(sidecar.stop(&scene).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_from_elsewhere_is_published_without_waiting_for_the_interval() {
    let scene = Scene::new("published").await;
    let scene = scene.with(&[(INTERVAL, "86400")]);
    let volume = scene.directory.path().join("volume");
    let sidecar = Sidecar::start(&scene, &["--publish", volume.to_str().unwrap()]);
    sidecar.started().await;
    let old = published(&volume)[PASSWORD].clone();
    scene.done(&["rotate", "--user", SINK]).await;
    until("the new password is published", || async {
        let shown = published(&volume);
        shown.len() == 3 && shown[PASSWORD] == scene.password().await
    })
    .await;
    assert!(!scene.authenticates(&old).await);
    assert_eq!(sidecar.stop(&scene).await, Some(0));
    scene.is_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_for_more_than_one_user_is_refused() {
    let scene = Scene::new("two_users").await;
    let (code, _, error) = scene.run(&["serve", "--publish", "/nowhere"]).await;
    assert_eq!(code, Some(78), "{error}");
    assert!(error.contains("name it with --user"), "{error}");
    scene.hide(["nothing-was-made".to_owned()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cause_that_users_have_in_common_is_told_of_the_first() {
    let nowhere = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300";
    let scene = Scene::new("sidecar_told_once").await.with(&[(
        "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING",
        nowhere,
    )]);
    let sidecar = Sidecar::start(&scene, &["--user", "query-backend"]);
    sidecar.logs("as another does not; retrying", 1).await;
    sidecar.logs("does not match the table; retrying", 1).await;
    let names = "query-backend, workflows-sink: MongoDB: ";
    until("the probe names both", || async {
        let (status, why) = sidecar.get("/startupz").unwrap_or_default();
        status == 503 && why.contains(names) && why.matches("MongoDB: ").count() == 1
    })
    .await;
    let log = sidecar.log();
    let told = log
        .lines()
        .filter(|line| line.contains("\"WARN\"") && line.contains("MongoDB: "));
    assert_eq!(told.count(), 1, "{log}");
    assert_eq!(sidecar.stop(&scene).await, Some(0));
}
