//! The MongoDB cluster that `deploy/mongodb` describes, and what the operator makes there: its
//! system users with their Secret, and the described role and user.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use local_stack::{Kubernetes, Mongo};
use mongodb::Client;
use serde_json::{Value, json};

/// Namespace and name of the Secret of the system users.
pub const SYSTEM_SECRET: (&str, &str) = ("mongodb", "dyff-datastore-secrets");
/// The system users as the operator spells them in its Secret, with the roles that it gives them.
pub const SYSTEM_USERS: [(&str, &str, &str); 5] = [
    ("BACKUP", "backup", "backup"),
    ("DATABASE_ADMIN", "databaseAdmin", "readWriteAnyDatabase"),
    ("CLUSTER_ADMIN", "clusterAdmin", "clusterAdmin"),
    ("CLUSTER_MONITOR", "clusterMonitor", "clusterMonitor"),
    ("USER_ADMIN", "userAdmin", "userAdminAnyDatabase"),
];

/// The user that `admin` logs in as.
pub struct UserAdmin {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
    /// The Secret that holds the password, in the cluster's namespace.
    pub secret: String,
    /// The key of that Secret.
    pub key: String,
}

/// The resource that describes the cluster.
pub fn cluster() -> Value {
    let text = include_str!("../../../deploy/mongodb/cluster/cluster.yaml");
    serde_saphyr::from_str(text).expect("YAML")
}

/// Makes the one role and the one user of the resource, as the operator does; `named` gives each
/// database, role and user another name.
pub async fn create_user_admin(client: &Client, named: impl Fn(&str) -> String) -> UserAdmin {
    let cluster = cluster();
    let only = |field: &str| {
        let list = cluster["spec"][field].as_array().expect("a list");
        assert_eq!(list.len(), 1, "one of {field}");
        list[0].clone()
    };
    let (role, user) = (only("roles"), only("users"));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let privileges = role["privileges"].as_array().expect("privileges").iter();
    let privileges: Vec<Document> = privileges
        .map(|privilege| {
            let actions = privilege["actions"].as_array().expect("actions").iter();
            let db = named(&text(&privilege["resource"]["db"]));
            doc! {
                "resource": { "db": db, "collection": "" },
                "actions": actions.map(|action| Bson::String(text(action))).collect::<Vec<_>>(),
            }
        })
        .collect();
    assert_eq!(role["roles"], Value::Array(vec![]), "it inherits nothing");
    let create = doc! {
        "createRole": named(&text(&role["role"])), "privileges": privileges, "roles": [],
    };
    let database = |of: &Value| client.database(of["db"].as_str().expect("a database"));
    database(&role).run_command(create).await.expect("a role");

    let made = UserAdmin {
        name: named(&text(&user["name"])),
        password: format!("small-{}", ObjectId::new().to_hex()),
        secret: text(&user["passwordSecretRef"]["name"]),
        key: text(&user["passwordSecretRef"]["key"]),
    };
    let roles = user["roles"].as_array().expect("roles").iter();
    let roles: Vec<Document> = roles
        .map(|role| doc! { "role": named(&text(&role["name"])), "db": text(&role["db"]) })
        .collect();
    let create = doc! { "createUser": &made.name, "pwd": &made.password, "roles": roles };
    database(&user).run_command(create).await.expect("a user");
    made
}

/// Makes the system users in MongoDB, and returns their passwords by the operator's names.
pub async fn create_system_users(mongo: &Mongo) -> BTreeMap<String, String> {
    let password = |name: &str| format!("{name}-{}", ObjectId::new().to_hex());
    let passwords = SYSTEM_USERS.map(|(key, name, _)| (key.to_owned(), password(name)));
    let passwords = passwords.into();
    create_system_users_with(mongo, &passwords).await;
    passwords
}

/// Makes the system users in MongoDB, with these passwords by the operator's names.
pub async fn create_system_users_with(mongo: &Mongo, passwords: &BTreeMap<String, String>) {
    let admin = mongo.admin().await.expect("an admin").database("admin");
    for (key, name, role) in SYSTEM_USERS {
        let user = doc! { "createUser": name, "pwd": &passwords[key], "roles": [role] };
        admin.run_command(user).await.expect("a cluster user");
    }
}

/// Puts the operator's Secret there, as the operator would.
pub async fn publish_system_secret(kubernetes: &Kubernetes, passwords: &BTreeMap<String, String>) {
    let (namespace, name) = SYSTEM_SECRET;
    let mut data = serde_json::Map::new();
    for (key, user, _) in SYSTEM_USERS {
        data.insert(format!("MONGODB_{key}_USER"), user.into());
        data.insert(
            format!("MONGODB_{key}_PASSWORD"),
            passwords[key].as_str().into(),
        );
    }
    let documents = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": namespace }, "stringData": data }),
    ];
    for document in documents {
        kubernetes
            .apply(&document.to_string())
            .await
            .expect("the operator's Secret");
    }
}
