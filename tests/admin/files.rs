//! `--secrets-dir`: the same without Kubernetes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bson::doc;
use serde_json::Value;
use test_support::wait::until;

use crate::process::{INTERVAL, Sidecar, published};
use crate::scene::{DATABASE, NEXT, PASSWORD, SINK, SINK_SECRET, Scene, URI, names};
use crate::world::world;

/// A scene that knows no cluster, and the directory of its Secrets.
pub async fn without_kubernetes(name: &str) -> (Scene, PathBuf) {
    let password = world().await.cluster_passwords["USER_ADMIN"].clone();
    let mut scene = Scene::new(name).await.with(&[
        (
            "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_USER",
            "userAdmin",
        ),
        (
            "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_PASSWORD",
            &password,
        ),
    ]);
    scene.environment.remove("KUBECONFIG");
    let secrets = scene.directory.path().join("secrets");
    (scene, secrets)
}

/// `arguments` on the directory, which must succeed, with what they print as JSON.
async fn json(scene: &Scene, secrets: &std::path::Path, arguments: &[&str]) -> Value {
    let place = ["--secrets-dir", secrets.to_str().unwrap()];
    let report = scene.json(&[arguments, &place].concat()).await;
    scene.hide(published(&secrets.join(SINK_SECRET)).remove(PASSWORD));
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_provisioned_and_rotated_with_secrets_in_files() {
    let (scene, secrets) = without_kubernetes("files").await;
    let sink = secrets.join(SINK_SECRET);
    let report = json(&scene, &secrets, &["provision"]).await;
    assert_eq!(names(&report[2]), ["SecretCreated", "UserCreated"]);
    let first = published(&sink);
    let keys: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(keys, [PASSWORD, URI, DATABASE]);
    assert!(scene.authenticates(&first[PASSWORD]).await);
    for key in keys {
        let mode = std::fs::metadata(sink.join(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let state = || std::fs::read_link(sink.join("..data")).unwrap();
    let before = state();
    for user in json(&scene, &secrets, &["provision"])
        .await
        .as_array()
        .unwrap()
    {
        assert_eq!(names(user), Vec::<String>::new());
    }
    assert_eq!(state(), before, "a second run writes nothing");

    json(&scene, &secrets, &["rotate", "--user", SINK]).await;
    let second = published(&sink);
    assert!(!second.contains_key(NEXT) && scene.authenticates(&second[PASSWORD]).await);
    assert!(
        !scene.authenticates(&first[PASSWORD]).await,
        "the old password is refused"
    );
    let status = json(&scene, &secrets, &["rotate", "--user", SINK, "--status"]).await;
    assert_eq!(status["stage"], "none");

    // a rotation that was left between any two steps
    std::fs::write(sink.join("..data").join(NEXT), "staged-by-nobody").unwrap();
    assert_eq!(
        names(&json(&scene, &secrets, &["provision", "--user", SINK]).await[0]),
        ["PasswordChanged", "PasswordPromoted"]
    );
    assert!(scene.authenticates("staged-by-nobody").await);

    let place = ["--secrets-dir", secrets.to_str().unwrap()];
    let key = ["--secret", SINK_SECRET, "--key", PASSWORD];
    let get = [&["secret", "get"], &key[..], &place].concat();
    assert_eq!(scene.run_with(&get, "").await.1, "staged-by-nobody");
    let set = [&["secret", "set", "--random-bytes", "32"], &key[..], &place].concat();
    scene.done(&set).await;
    let repaired = json(&scene, &secrets, &["provision", "--user", SINK]).await;
    assert_eq!(names(&repaired[0]), ["PasswordRestored"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_looks_after_secrets_in_files_too() {
    let (scene, secrets) = without_kubernetes("files_sidecar").await;
    let scene = scene.with(&[(INTERVAL, "86400")]);
    let volume = scene.directory.path().join("volume");
    let arguments = [
        "--secrets-dir",
        secrets.to_str().unwrap(),
        "--publish",
        volume.to_str().unwrap(),
    ];
    let sidecar = Sidecar::start(&scene, &arguments);
    sidecar.started().await;
    let first = published(&volume)[PASSWORD].clone();
    assert!(scene.authenticates(&first).await);
    std::fs::remove_dir_all(secrets.join(SINK_SECRET)).unwrap();
    until("there is another password", || async {
        let shown = published(&volume)
            .remove(PASSWORD)
            .expect("one is always published");
        shown != first && scene.authenticates(&shown).await
    })
    .await;
    scene.hide([first, published(&volume)[PASSWORD].clone()]);
    assert_eq!(sidecar.stop(&scene).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_commands_on_files_end_in_one_password() {
    let (scene, secrets) = without_kubernetes("files_race").await;
    let place = ["--user", SINK, "--secrets-dir", secrets.to_str().unwrap()];
    let (provision, rotate) = (
        [&["provision"], &place[..]].concat(),
        [&["rotate"], &place[..]].concat(),
    );
    for _ in 0..2 {
        let (one, other, third) = tokio::join!(
            scene.run(&provision),
            scene.run(&provision),
            scene.run(&rotate)
        );
        for (code, out, error) in [one, other, third] {
            assert_eq!(code, Some(0), "{out}{error}");
        }
        let shown = published(&secrets.join(SINK_SECRET));
        assert!(!shown.contains_key(NEXT) && scene.authenticates(&shown[PASSWORD]).await);
        scene.hide([shown[PASSWORD].clone()]);
    }
    let users = scene.users(doc! { "usersInfo": 1 }).await;
    assert_eq!(users.get_array("users").unwrap().len(), 1);
}
