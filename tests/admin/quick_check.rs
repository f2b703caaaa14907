//! `admin quick-check`.

use bson::doc;

use crate::files::without_kubernetes;
use crate::process::published;
use crate::scene::{PASSWORD, SINK, SINK_SECRET, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_check_reports_who_is_authenticated_and_who_is_not() {
    let scene = Scene::new("quick_check").await;
    let (code, out, error) = scene.run(&["quick-check"]).await;
    assert_eq!(code, Some(1), "{out}{error}");
    assert!(
        error.contains(
            "absent, as never provisioned: 3 of 8 users \
             (auth-backend, query-backend, workflows-sink)"
        ),
        "{error}"
    );
    assert_eq!(out.matches(" absent ").count(), 3, "{out}");

    scene.done(&["provision"]).await;
    let rows = scene.json(&["quick-check"]).await;
    let rows = rows.as_array().unwrap();
    assert!(rows.iter().all(|row| row["login"] == "ok"), "{rows:?}");
    let roles = |user: &str| rows.iter().find(|row| row["user"] == user).unwrap()["detail"].clone();
    assert_eq!(roles("userAdmin"), "userAdminAnyDatabase on admin");
    assert_eq!(roles(SINK), format!("readWrite on {}", scene.database));

    scene
        .users(doc! { "updateUser": SINK, "pwd": "behind-its-back" })
        .await;
    let (code, out, error) = scene.run(&["quick-check"]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("name or password is invalid")
            && error.contains("not authenticated: 1 of 8 users (workflows-sink)"),
        "{out}{error}"
    );
    scene.users(doc! { "dropUser": SINK }).await;
    let (code, out, error) = scene.run(&["quick-check", "--user", SINK]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("MongoDB has no such user") && error.contains("1 of 1 users"),
        "{out}{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_the_secret_of_one_user_is_checked_for_that_user() {
    let (scene, secrets) = without_kubernetes("quick_check_files").await;
    let place = ["--secrets-dir", secrets.to_str().unwrap()];
    let check = async |users: &[&str]| scene.run(&[&["quick-check"], users, &place].concat()).await;
    let sink = ["--user", SINK];
    for users in [&[][..], &sink] {
        let (code, out, error) = check(users).await;
        assert_eq!(code, Some(1), "nothing is there to check: {out}{error}");
        assert!(error.contains("absent, as never provisioned"), "{error}");
    }
    scene
        .done(&[&["provision"], &sink[..], &place].concat())
        .await;
    scene.hide(published(&secrets.join(SINK_SECRET)).remove(PASSWORD));
    for users in [&[][..], &sink] {
        let (code, out, error) = check(users).await;
        assert_eq!(code, Some(0), "{out}{error}");
        let path = secrets.join(SINK_SECRET);
        assert!(out.contains(path.to_str().unwrap()), "{out}");
    }
    let (code, out, error) = check(&["--user", "query-backend", "--user", SINK]).await;
    assert_eq!(code, Some(1), "it was asked for: {out}{error}");
    assert!(error.contains("1 of 2 users (query-backend)"), "{error}");
    scene
        .users(doc! { "updateUser": SINK, "pwd": "behind-its-back" })
        .await;
    let (code, out, error) = check(&[]).await;
    assert_eq!(code, Some(1), "{out}{error}");
    assert!(
        error.contains("not authenticated: 1 of 4 users (workflows-sink)"),
        "{error}"
    );
    let wrong = [(
        "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_PASSWORD",
        "no",
    )];
    let (code, out, error) = scene
        .with(&wrong)
        .run(&[&["quick-check"], &place[..]].concat())
        .await;
    assert_eq!(code, Some(1), "{out}{error}");
    assert!(
        error.contains("not authenticated: 2 of 4 users (userAdmin, workflows-sink)"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_several_users_have_in_common_is_told_once() {
    let nowhere = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300";
    let away = [(
        "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING",
        nowhere,
    )];
    let scene = Scene::new("told_once").await;
    scene.done(&["provision"]).await;
    let scene = scene.with(&away);
    let names = "auth-backend, query-backend, workflows-sink";
    for arguments in [&["provision", "--dry-run"][..], &["quick-check"]] {
        let (code, out, error) = scene.run(arguments).await;
        assert_eq!(code, Some(1), "{out}{error}");
        assert_eq!(
            format!("{out}{error}").matches("MongoDB: ").count(),
            1,
            "{out}{error}"
        );
        assert!(error.contains(names), "{error}");
    }

    // without the operator's Secret there is no user admin: its path is named, not a Secret
    let (mut scene, secrets) = without_kubernetes("told_once_files").await;
    let of_user_admin = |name: &String| name.contains("MONGODB_USER_ADMIN_");
    scene.environment.retain(|name, _| !of_user_admin(name));
    let place = ["--secrets-dir", secrets.to_str().unwrap()];
    let (code, out, error) = scene.run(&[&["provision"], &place[..]].concat()).await;
    assert_eq!(code, Some(1), "{out}{error}");
    let path = secrets.join("mongodb/dyff-datastore-secrets");
    let cause = format!(
        "{names}: no user admin: there is no operator's Secret {}",
        path.display()
    );
    assert!(error.contains(&cause), "{error}");
    assert_eq!(format!("{out}{error}").matches("no user admin").count(), 1);

    // each user has a Secret of its own that cannot be read
    let scene = Scene::new("told_once_forbidden")
        .await
        .with(&[("DYFF_WORKFLOWS_SINK_ADMIN__NAMESPACE", "default")]);
    let (code, out, error) = scene.run(&["provision"]).await;
    assert_eq!(code, Some(1), "{out}{error}");
    assert_eq!(error.matches("is forbidden").count(), 1, "{error}");
    assert!(!out.contains("forbidden"), "{out}");
    assert!(error.contains(names), "{error}");
}
