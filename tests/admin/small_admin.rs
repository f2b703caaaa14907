//! The user admin that `deploy/mongodb` declares: it suffices for all that `admin` does, and
//! everything beyond is refused.

use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::{ClientOptions, Credential};
use test_support::datastore::{SYSTEM_USERS, UserAdmin, create_user_admin};

use crate::scene::{PASSWORD, SINK, Scene};
use crate::world::login;

const UNAUTHORIZED: i32 = 13;

/// A scene whose commands log in as the small user admin.
async fn scene(name: &str) -> (Scene, UserAdmin) {
    let scene = Scene::new(name).await;
    let named = |shipped: &str| match shipped {
        "users" => scene.auth_database.clone(),
        "workflows" => scene.database.clone(),
        "accounts" => format!("{}_accounts", scene.database),
        role_or_user => format!("{role_or_user}-{name}"),
    };
    let admin = create_user_admin(&scene.mongo_admin, named).await;
    scene.hide([admin.password.clone()]);
    let scene = scene.with(&[
        (
            "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_USER",
            &admin.name,
        ),
        (
            "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_PASSWORD",
            &admin.password,
        ),
    ]);
    (scene, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_small_user_admin_may_do_all_that_admin_does() {
    let (scene, _) = scene("small").await;
    // UserCreated, of all three
    scene.done(&["provision"]).await;
    scene.is_right().await;
    assert_eq!(scene.provision().await, Vec::<String>::new());

    let own = doc! { "role": "readWrite", "db": &scene.database };
    scene
        .users(doc! { "revokeRolesFromUser": SINK, "roles": [&own] })
        .await;
    assert_eq!(scene.provision().await, ["RolesGranted"]);
    let password = scene.password().await;
    let mechanisms = ["SCRAM-SHA-1", "SCRAM-SHA-256"].to_vec();
    scene
        .users(doc! { "updateUser": SINK, "pwd": &password, "mechanisms": mechanisms })
        .await;
    assert_eq!(scene.provision().await, ["MechanismSet"]);
    scene
        .users(
            doc! { "updateUser": SINK, "pwd": "behind-its-back", "mechanisms": ["SCRAM-SHA-256"] },
        )
        .await;
    assert_eq!(scene.provision().await, ["PasswordRestored"]);
    let more = doc! { "role": "dbAdmin", "db": &scene.database };
    scene
        .users(doc! { "grantRolesToUser": SINK, "roles": [more] })
        .await;
    scene
        .done(&["provision", "--user", SINK, "--prune-roles"])
        .await;
    scene.is_right().await;
    scene.rotate().await;
    scene
        .done(&["quick-check", "--user", SINK, "--user", "auth-backend"])
        .await;
    assert_ne!(
        scene.value(PASSWORD).await,
        Some(password),
        "it was rotated"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_another_database_is_not_the_small_user_admins_to_revoke() {
    let (scene, _) = scene("small_elsewhere").await;
    scene.provision().await;
    let elsewhere = doc! { "role": "read", "db": "elsewhere" };
    scene
        .users(doc! { "grantRolesToUser": SINK, "roles": [elsewhere] })
        .await;
    let text = scene.done(&["provision", "--user", SINK]).await;
    assert!(
        text.contains("beyond the table: read on elsewhere"),
        "{text}"
    );
    let prune = ["provision", "--user", SINK, "--prune-roles"];
    let (code, out, error) = scene.run(&prune).await;
    assert_eq!(code, Some(1), "{out}{error}");
    assert!(error.contains("Unauthorized"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_small_user_admin_is_refused_everything_else() {
    let (scene, admin) = scene("small_refused").await;
    scene.done(&["provision"]).await;
    let mut options = ClientOptions::parse(&scene.mongo_uri).await.expect("hosts");
    let credential = Credential::builder()
        .username(admin.name.clone())
        .password(admin.password.clone())
        .source("admin".to_owned());
    options.credential = Some(credential.build());
    let client = Client::with_options(options).expect("a client");
    let refused = async |database: &str, command: Document| {
        let answer = client.database(database).run_command(command.clone()).await;
        let error = answer.expect_err("refused");
        let mongodb::error::ErrorKind::Command(told) = error.kind.as_ref() else {
            panic!("{command}: {error}")
        };
        assert_eq!(told.code, UNAUTHORIZED, "{command}: {error}");
    };

    let root = doc! { "role": "root", "db": "admin" };
    let users = scene.auth_database.as_str();
    let another = doc! { "createUser": "another", "pwd": "p", "roles": [&root] };
    for database in ["admin", users] {
        refused(database, another.clone()).await;
    }
    let everywhere = doc! { "role": "readWriteAnyDatabase", "db": "admin" };
    for more in [&root, &everywhere] {
        refused(users, doc! { "grantRolesToUser": SINK, "roles": [more] }).await;
        let own = doc! { "grantRolesToUser": &admin.name, "roles": [more] };
        refused("admin", own).await;
    }
    for (_, user, _) in SYSTEM_USERS {
        refused("admin", doc! { "updateUser": user, "pwd": "mine-now" }).await;
        refused("admin", doc! { "usersInfo": user }).await;
    }
    refused("admin", doc! { "updateUser": "admin", "pwd": "mine-now" }).await;
    refused(users, doc! { "dropUser": SINK }).await;
    refused(users, doc! { "dropAllUsersFromDatabase": 1 }).await;
    let all = doc! { "resource": { "anyResource": true }, "actions": ["anyAction"] };
    let role = doc! { "createRole": "mine", "privileges": [all], "roles": [] };
    refused(users, role).await;
    for database in [scene.database.as_str(), users, "admin"] {
        refused(database, doc! { "dropDatabase": 1 }).await;
        refused(database, doc! { "find": "system.users" }).await;
        let insert = doc! { "insert": "evaluations", "documents": [{ "_id": 1 }] };
        refused(database, insert).await;
    }
    refused(
        "admin",
        doc! { "listDatabases": 1, "nameOnly": false, "authorizedDatabases": false },
    )
    .await;
    refused("admin", doc! { "shutdown": 1 }).await;

    let user_admin = &crate::world::world().await.cluster_passwords["USER_ADMIN"];
    let (uri, name) = (&scene.mongo_uri, "userAdmin");
    assert!(
        login(uri, "admin", name, user_admin).await,
        "it is as it was"
    );
}
