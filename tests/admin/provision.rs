//! From an empty cluster, and from what people and scripts left.

use std::collections::BTreeSet;

use bson::doc;
use serde_json::{Value, json};

use crate::scene::{NEXT, PASSWORD, SINK, SINK_SECRET, Scene, URI, names};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cluster_gets_every_user_and_secret_in_one_go() {
    let scene = Scene::new("empty").await;
    let report = scene.json(&["provision"]).await;
    let users: Vec<_> = report
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["user"].as_str().unwrap())
        .collect();
    assert_eq!(users, ["auth-backend", "query-backend", SINK]);
    for user in report.as_array().unwrap() {
        assert_eq!(names(user), ["SecretCreated", "UserCreated"]);
    }
    let proven = |user: usize| {
        let shown = report[user]["proven"].as_array().unwrap().iter();
        shown
            .map(|text| text.as_str().unwrap().to_owned())
            .collect::<BTreeSet<_>>()
    };
    let (reader, writer) = (proven(1), proven(2));
    let database = &scene.database;
    assert!(reader.contains(&format!("reads {database}")));
    assert!(reader.contains(&format!("may not write {database}")));
    assert!(
        writer.contains(&format!("writes {database}")) && writer.contains("may not read users")
    );
    scene.is_right().await;
    let password = scene.password().await;
    assert_eq!((password.len(), password.ends_with('=')), (44, true));
    // the proof left nothing behind
    let left = scene
        .mongo_admin
        .database(database)
        .list_collection_names()
        .await
        .unwrap();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_changes_nothing_not_even_a_resource_version() {
    let scene = Scene::new("again").await;
    scene.done(&["provision"]).await;
    let secrets = ["auth-backend-mongodb", "query-backend-mongodb", SINK_SECRET];
    let state = async || {
        let mut versions = Vec::new();
        for name in secrets {
            let secret = scene.secret(name).await.unwrap();
            versions.push(secret.metadata.resource_version.unwrap());
        }
        let users = scene
            .users(doc! { "usersInfo": 1, "showCredentials": true })
            .await;
        (versions, users.get_array("users").unwrap().clone())
    };
    let before = state().await;
    for arguments in [
        &["provision"][..],
        &["provision", "--prune-roles"],
        &["provision", "--dry-run"],
    ] {
        let report = scene.json(arguments).await;
        for user in report.as_array().unwrap() {
            assert_eq!(names(user), Vec::<String>::new());
        }
        let text = scene.done(arguments).await;
        assert_eq!(text.matches("unchanged").count(), 6, "{text}");
    }
    assert_eq!(state().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_the_plan_and_does_nothing() {
    let scene = Scene::new("dry").await;
    let text = scene
        .done(&["provision", "--dry-run", "--user", SINK])
        .await;
    assert_eq!(text.matches("would be created").count(), 2, "{text}");
    assert!(scene.secret(SINK_SECRET).await.is_none() && scene.account().await.is_none());
    scene.provision().await;
    let other = doc! { "role": "read", "db": "elsewhere" };
    scene
        .users(doc! { "grantRolesToUser": SINK, "roles": [other] })
        .await;
    let version = scene.version().await;
    let plan = scene
        .json(&["provision", "--dry-run", "--prune-roles", "--user", SINK])
        .await;
    assert_eq!(names(&plan[0]), ["RolesRevoked"]);
    assert_eq!(scene.version().await, version);
    assert_eq!(scene.account().await.unwrap().0.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_there_is_kept() {
    let scene = Scene::new("kept").await;
    // what the scripts made: the password alone
    scene
        .create_secret(&[(PASSWORD, "made-by-a-script"), ("OTHER", "kept-too")])
        .await;
    assert_eq!(scene.provision().await, ["SecretMended", "UserCreated"]);
    assert_eq!(scene.password().await, "made-by-a-script");
    assert_eq!(scene.value("OTHER").await.as_deref(), Some("kept-too"));
    scene.is_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_stands_only_in_a_uri_is_kept() {
    let scene = Scene::new("in_uri").await;
    let uri = "mongodb://workflows-sink:p%40ss-in-a-uri@somewhere/workflows?authSource=users";
    scene.create_secret(&[(URI, uri)]).await;
    scene.hide(["p%40ss-in-a-uri".to_owned()]);
    assert_eq!(scene.provision().await, ["SecretMended", "UserCreated"]);
    assert_eq!(scene.password().await, "p@ss-in-a-uri");
    scene.is_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_was_made_by_hand_is_brought_to_the_table() {
    let scene = Scene::new("by_hand").await;
    let roles = [
        doc! { "role": "read", "db": &scene.database },
        doc! { "role": "dbAdmin", "db": "elsewhere" },
    ];
    let user = doc! { "createUser": SINK, "pwd": "made-by-hand", "roles": roles.to_vec(), "mechanisms": ["SCRAM-SHA-1"] };
    scene.users(user).await;
    scene.create_secret(&[(PASSWORD, "made-by-hand")]).await;
    let steps = scene.provision().await;
    assert_eq!(steps, ["SecretMended", "RolesGranted", "MechanismSet"]);
    assert_eq!(scene.password().await, "made-by-hand");
    let database = &scene.database;
    let (roles, mechanisms) = scene.account().await.unwrap();
    assert_eq!(
        roles,
        [
            "dbAdmin on elsewhere".to_owned(),
            format!("read on {database}"),
            format!("readWrite on {database}")
        ]
    );
    assert_eq!(mechanisms, ["SCRAM-SHA-256"]);

    let text = scene.done(&["provision", "--user", SINK]).await;
    assert!(
        text.contains("beyond the table: dbAdmin on elsewhere, read on"),
        "{text}"
    );
    let report = scene
        .json(&["provision", "--user", SINK, "--prune-roles"])
        .await;
    assert_eq!(names(&report[0]), ["RolesRevoked"]);
    assert_eq!(report[0]["extra_roles"], Value::Array(vec![]));
    scene
        .edit(json!({ "stringData": { URI: "mongodb://elsewhere/" } }))
        .await;
    let text = scene.done(&["provision", "--user", SINK]).await;
    assert!(
        text.contains(&format!("changed: {URI} set as configured")),
        "{text}"
    );
    scene.is_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_a_person_changed_is_said_to_have_been_another() {
    let scene = Scene::new("changed_by_hand").await;
    scene.provision().await;
    // as people do it, which allows every mechanism
    scene
        .users(doc! { "updateUser": SINK, "pwd": "behind-its-back" })
        .await;
    assert_eq!(scene.account().await.unwrap().1.len(), 2);
    let said = "password set to the Secret's, which it was not; SCRAM-SHA-256 alone";
    let plan = scene
        .done(&["provision", "--user", SINK, "--dry-run"])
        .await;
    assert!(
        plan.contains(&format!("would be changed: {said}")),
        "{plan}"
    );
    let text = scene.done(&["provision", "--user", SINK]).await;
    assert!(text.contains(&format!("changed: {said}")), "{text}");
    scene.is_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_filled_secret_is_filled() {
    let scene = Scene::new("half").await;
    scene
        .create_secret(&[(URI, "mongodb://wrong/"), (PASSWORD, ""), (NEXT, "")])
        .await;
    assert_eq!(scene.provision().await, ["SecretMended", "UserCreated"]);
    scene.is_right().await;
    assert_eq!(scene.provision().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_reads_what_to_change() {
    let scene = Scene::new("refused").await;
    let (code, _, error) = scene.run(&["provision", "--user", "nobody"]).await;
    assert_eq!(code, Some(78), "{error}");
    assert!(
        error.contains("it has auth-backend, query-backend, workflows-sink"),
        "{error}"
    );

    let elsewhere = [("DYFF_WORKFLOWS_SINK_ADMIN__NAMESPACE", "default")];
    let scene = scene.with(&elsewhere);
    let (code, out, error) = scene.run(&["provision", "--user", SINK]).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains("forbidden") && error.contains("docs/admin.md"),
        "{out}{error}"
    );

    let namespace = scene.namespace.clone();
    let scene = scene.with(&[
        ("DYFF_WORKFLOWS_SINK_ADMIN__NAMESPACE", namespace.as_str()),
        (
            "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_USER",
            "userAdmin",
        ),
        (
            "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_PASSWORD",
            "not-the-password",
        ),
    ]);
    let (code, _, error) = scene.run(&["provision", "--user", SINK]).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains("does not authenticate the user admin userAdmin"),
        "{error}"
    );
    scene.hide(["not-the-password".to_owned()]);
}
