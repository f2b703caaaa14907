//! `admin quick-check`.

use bson::doc;

use crate::scene::{SINK, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_check_reports_who_is_authenticated_and_who_is_not() {
    let scene = Scene::new("quick_check").await;
    let (code, out, error) = scene.run(&["quick-check"]).await;
    assert_eq!(code, Some(1), "{out}{error}");
    assert!(
        error.contains("3 of 8 users are not authenticated"),
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
        out.contains("refused") && error.contains("1 of 8"),
        "{out}{error}"
    );
}
