//! `admin secret get|set`.

use serde_json::json;

use crate::scene::{PASSWORD, SINK, SINK_SECRET, Scene};

fn set<'a>(key: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [
        &["secret", "set", "--secret", SINK_SECRET, "--key", key],
        rest,
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_set_and_no_other_is_touched() {
    let scene = Scene::new("secret_set").await;
    let report = scene.done(&set("A", &["--value", "one-value"])).await;
    assert!(report.contains("A added"), "{report}");
    scene.done(&set("B", &["--random-bytes", "32"])).await;
    let (code, report, error) = scene
        .run_with(&set("C", &["--value-file", "-"]), "from standard input\n")
        .await;
    assert_eq!(
        (code, report.contains("C added")),
        (Some(0), true),
        "{error}"
    );
    let random = scene.value("B").await.unwrap();
    assert_eq!((random.len(), random.ends_with('=')), (44, true));
    assert_eq!(scene.value("C").await.unwrap(), "from standard input");
    scene
        .edit(json!({ "stringData": { "D": "of a person" } }))
        .await;

    let version = scene.version().await;
    let report = scene.done(&set("A", &["--value", "one-value"])).await;
    assert!(
        report.contains("A unchanged") && scene.version().await == version,
        "{report}"
    );
    scene.done(&set("A", &["--value", "another-value"])).await;
    for (key, value) in [("A", "another-value"), ("B", &random), ("D", "of a person")] {
        assert_eq!(scene.value(key).await.as_deref(), Some(value));
    }
    // what provisioning wrote stays, and what was set here stays when it is provisioned
    scene.provision().await;
    scene.done(&set("A", &["--value", "a-third-value"])).await;
    scene.is_right().await;
    assert_eq!(scene.provision().await, Vec::<String>::new());
    scene.done(&["rotate", "--user", SINK]).await;
    assert_eq!(scene.value("A").await.as_deref(), Some("a-third-value"));
    scene.is_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_shown_decoded_and_what_is_absent_is_named() {
    let scene = Scene::new("secret_get").await;
    scene.create_secret(&[(PASSWORD, "a-value-to-show")]).await;
    let get = async |namespace: &str, secret: &str, key: &str| {
        let arguments = [
            "secret",
            "get",
            "--namespace",
            namespace,
            "--secret",
            secret,
            "--key",
            key,
        ];
        scene.run_with(&arguments, "").await
    };
    let own = scene.namespace.as_str();
    let (code, out, _) = get(own, SINK_SECRET, PASSWORD).await;
    assert_eq!((code, out.as_str()), (Some(0), "a-value-to-show"));
    let (code, out, _) = get(
        "mongodb",
        "dyff-datastore-secrets",
        "MONGODB_USER_ADMIN_USER",
    )
    .await;
    assert_eq!((code, out.as_str()), (Some(0), "userAdmin"));
    for (secret, key, says) in [
        (SINK_SECRET, "NOTHING", "has no key \"NOTHING\""),
        ("query-backend-mongodb", PASSWORD, "there is no Secret"),
        ("not-mine", PASSWORD, "forbidden"),
    ] {
        let (code, out, error) = get(own, secret, key).await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{error}");
        assert!(error.contains(says), "{error}");
    }
}
