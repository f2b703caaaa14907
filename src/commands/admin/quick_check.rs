//! `admin quick-check`: who is let in.

use std::io::Write;

use anyhow::bail;
use mongodb::bson::{Document, doc};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::admin::Failure;
use crate::admin::config::Credentials;
use crate::admin::look::Scene;
use crate::admin::table::SecretName;
use crate::admin::users::{ADMIN_DATABASE, Cluster};
use crate::commands::{print_json, print_table};

/// The users that the MongoDB operator makes, as its Secret spells them.
const CLUSTER_USERS: [&str; 5] = [
    "DATABASE_ADMIN",
    "CLUSTER_ADMIN",
    "CLUSTER_MONITOR",
    "USER_ADMIN",
    "BACKUP",
];

/// Somebody to log in as, and what came of it.
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
        let fallback = format!("MONGODB_{name}_USER");
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
        true => {
            let rows = checked.iter().map(|row| {
                json!({
                    "user": row.user, "database": row.database, "secret": row.secret,
                    "login": row.result, "detail": row.detail,
                })
            });
            print_json(out, &rows.collect())?;
        }
        false => {
            let rows = checked.iter().map(|row| {
                let Checked {
                    user,
                    database,
                    secret,
                    result,
                    detail,
                } = row;
                [user, database, secret, &(*result).to_owned(), detail]
                    .map(String::clone)
                    .to_vec()
            });
            let header = ["user", "authSource", "Secret", "login", "roles"];
            print_table(out, &header, &[], rows)?;
        }
    }
    out.flush()?;
    let bad = checked.iter().filter(|row| row.result != "ok").count();
    if bad > 0 {
        bail!("{bad} of {} users are not let in", checked.len());
    }
    Ok(())
}

async fn cluster_user(
    scene: Scene<'_>,
    secret: &SecretName,
    name: &str,
) -> Result<Option<Credentials>, Failure> {
    let held = scene.store.get(secret).await?;
    Ok(held.and_then(|held| {
        Some(Credentials {
            user: held
                .text(&format!("MONGODB_{name}_USER"))?
                .expose_secret()
                .to_owned(),
            password: held.text(&format!("MONGODB_{name}_PASSWORD"))?,
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
        Ok(None) => return ("refused", "name or password are not right".to_owned()),
        Err(failure) => return ("unknown", failure.to_string()),
    };
    let status = session
        .ask(ADMIN_DATABASE, doc! { "connectionStatus": 1 })
        .await;
    session.close().await;
    (
        "ok",
        status.map(|status| roles(&status)).unwrap_or_default(),
    )
}

fn roles(status: &Document) -> String {
    let roles = status
        .get_document("authInfo")
        .and_then(|info| info.get_array("authenticatedUserRoles"));
    let role = |role: &Document| {
        Some(format!(
            "{} on {}",
            role.get_str("role").ok()?,
            role.get_str("db").ok()?
        ))
    };
    let roles = roles.map(Vec::as_slice).unwrap_or_default();
    let roles: Vec<String> = (roles.iter())
        .filter_map(|found| role(found.as_document()?))
        .collect();
    roles.join(", ")
}
