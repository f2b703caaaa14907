//! `admin quick-check`: whom MongoDB authenticates.

use std::io::Write;

use anyhow::bail;
use mongodb::bson::{Document, doc};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::admin::config::Credentials;
use crate::admin::look::{Scene, operator_keys};
use crate::admin::table::SecretName;
use crate::admin::users::{ADMIN_DATABASE, Cluster, failure, roles_in};
use crate::admin::{Failure, list};
use crate::commands::{print_json, print_table};

/// The users that the MongoDB operator creates, as its Secret spells them.
const CLUSTER_USERS: [&str; 5] = [
    "DATABASE_ADMIN",
    "CLUSTER_ADMIN",
    "CLUSTER_MONITOR",
    "USER_ADMIN",
    "BACKUP",
];

/// A user, and the result of its login.
struct Checked {
    user: String,
    database: String,
    secret: String,
    result: &'static str,
    detail: String,
}

pub(super) async fn execute(
    scene: Scene<'_>,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let cluster = Cluster::new(&scene.config.uri).await?;
    let mut checked = Vec::new();
    let operator = &scene.config.operator_secret;
    for name in CLUSTER_USERS {
        let found = cluster_user(scene, operator, name).await;
        let [fallback, _] = operator_keys(name);
        checked.push(check(scene, &cluster, operator, &fallback, ADMIN_DATABASE, found).await);
    }
    let database = &scene.config.table.auth_database;
    for user in &scene.config.table.users {
        let held = scene.store.get(&user.secret).await;
        let found = held.map(|held| {
            Some(Credentials {
                user: user.name.clone(),
                password: held?.text(&user.keys.password)?,
            })
        });
        checked.push(check(scene, &cluster, &user.secret, &user.name, database, found).await);
    }
    match json {
        true => print_json(out, &checked.iter().map(as_json).collect())?,
        false => {
            let header = ["user", "authSource", "Secret", "login", "roles"];
            print_table(out, &header, &[], checked.iter().map(as_row))?;
        }
    }
    out.flush()?;
    let bad = checked.iter().filter(|row| row.result != "ok").count();
    if bad > 0 {
        bail!("{bad} of {} users are not authenticated", checked.len());
    }
    Ok(())
}

fn as_json(row: &Checked) -> Value {
    json!({
        "user": row.user, "database": row.database, "secret": row.secret,
        "login": row.result, "detail": row.detail,
    })
}

fn as_row(row: &Checked) -> Vec<String> {
    let result = row.result.to_owned();
    [&row.user, &row.database, &row.secret, &result, &row.detail]
        .map(String::clone)
        .to_vec()
}

async fn cluster_user(
    scene: Scene<'_>,
    secret: &SecretName,
    name: &str,
) -> Result<Option<Credentials>, Failure> {
    let held = scene.store.get(secret).await?;
    let [user, password] = operator_keys(name);
    Ok(held.and_then(|held| {
        Some(Credentials {
            user: held.text(&user)?.expose_secret().to_owned(),
            password: held.text(&password)?,
        })
    }))
}

async fn check(
    scene: Scene<'_>,
    cluster: &Cluster,
    secret: &SecretName,
    name: &str,
    database: &str,
    found: Result<Option<Credentials>, Failure>,
) -> Checked {
    let user = match &found {
        Ok(Some(credentials)) => credentials.user.clone(),
        _ => name.to_owned(),
    };
    let (result, detail) = match found {
        Ok(Some(credentials)) => login(cluster, &credentials, database).await,
        Ok(None) => (
            "absent",
            "the Secret does not hold name and password".to_owned(),
        ),
        Err(failure) => ("unknown", failure.to_string()),
    };
    Checked {
        user,
        database: database.to_owned(),
        secret: scene.store.shown(secret),
        result,
        detail,
    }
}

async fn login(
    cluster: &Cluster,
    credentials: &Credentials,
    database: &str,
) -> (&'static str, String) {
    let session = match cluster.login(credentials, database).await {
        Ok(Some(session)) => session,
        Ok(None) => return ("refused", "name or password is invalid".to_owned()),
        Err(failure) => return ("unknown", failure.to_string()),
    };
    let status = session
        .ask(ADMIN_DATABASE, doc! { "connectionStatus": 1 })
        .await;
    session.close().await;
    match status {
        Ok(status) => ("ok", roles(&status)),
        Err(error) => ("ok", format!("not known: {}", failure(error))),
    }
}

/// The roles of who is logged in, from the answer to `connectionStatus`.
fn roles(status: &Document) -> String {
    match status.get_document("authInfo") {
        Ok(info) => list(roles_in(info, "authenticatedUserRoles")),
        Err(_) => "not known".to_owned(),
    }
}
