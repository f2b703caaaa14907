//! `admin quick-check`: whom MongoDB authenticates.

use std::io::{self, Write};

use anyhow::bail;
use futures_util::future::join_all;
use mongodb::bson::{Document, doc};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::admin::cause::{Cause, told_once};
use crate::admin::config::Credentials;
use crate::admin::list;
use crate::admin::look::{Scene, is_user, operator_keys};
use crate::admin::secrets::Held;
use crate::admin::table::{SecretName, User};
use crate::admin::users::{ADMIN_DATABASE, Cluster, failure, roles_in};
use crate::commands::{or_dash, print_json, print_table};

/// The users that the MongoDB operator creates, as its Secret spells them.
const CLUSTER_USERS: [&str; 5] = [
    "DATABASE_ADMIN",
    "CLUSTER_ADMIN",
    "CLUSTER_MONITOR",
    "USER_ADMIN",
    "BACKUP",
];

/// Who is checked.
pub(super) struct Whom {
    /// Users of the table.
    pub(super) users: Vec<User>,
    /// Whether they were asked for by name: then none may be absent, nor is a cluster user checked.
    pub(super) are_named: bool,
}

/// The result of a login.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    Ok,
    /// MongoDB does not take name and password.
    Refused,
    /// The Secret is there, and has no password.
    Incomplete,
    /// There is no Secret of this user: it was never provisioned here.
    Absent,
    /// It could not be tried.
    Unknown,
}

impl Login {
    fn as_str(self) -> &'static str {
        match self {
            Login::Ok => "ok",
            Login::Refused => "refused",
            Login::Incomplete => "incomplete",
            Login::Absent => "absent",
            Login::Unknown => "unknown",
        }
    }
}

/// A user, and the result of its login.
struct Checked<'a> {
    user: String,
    database: &'a str,
    /// `None`: name and password are in the environment.
    secret: Option<&'a SecretName>,
    login: Login,
    detail: String,
}

pub(super) async fn execute(
    scene: Scene<'_>,
    whom: &Whom,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let cluster = Cluster::new(&scene.config.uri).await?;
    let mut checked = Vec::new();
    if !whom.are_named {
        checked.extend(user_admin(scene, &cluster).await);
        checked.extend(cluster_users(scene, &cluster).await);
    }
    let users = (whom.users.iter()).map(|user| table_user(scene, &cluster, user));
    checked.extend(join_all(users).await);
    match json {
        true => {
            let rows = checked.iter().map(|row| as_json(row, shown(scene, row)));
            print_json(out, &rows.collect())?;
        }
        false => print_rows(&checked, |row| shown(scene, row), out)?,
    }
    let may_be_absent = scene.store.is_directory() && !whom.are_named;
    let faults = faults(&checked, may_be_absent);
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(())
}

/// What is wrong, each thing once with the users that it concerns.
fn faults(checked: &[Checked<'_>], may_be_absent: bool) -> Vec<String> {
    let of = |login: Login| {
        let found: Vec<&Checked<'_>> = checked.iter().filter(|row| row.login == login).collect();
        let names = list(found.iter().map(|row| &row.user));
        (found.len(), names)
    };
    let all = checked.len();
    let with_secrets = (checked.iter()).filter(|row| row.secret.is_some()).count();
    let mut faults = Vec::new();
    for (login, what) in [
        (Login::Refused, "not authenticated"),
        (Login::Incomplete, "without a password in the Secret"),
        (Login::Absent, "absent, as never provisioned"),
    ] {
        let (count, names) = of(login);
        let is_fault = login != Login::Absent || !may_be_absent || count == with_secrets;
        if count > 0 && is_fault {
            faults.push(format!("{what}: {count} of {all} users ({names})"));
        }
    }
    let unknown = checked.iter().filter(|row| row.login == Login::Unknown);
    let causes = unknown.map(|row| {
        let cause = match row.secret {
            Some(secret) => Cause::new(&secret.name, &row.detail),
            None => Cause::everybodys(&row.detail),
        };
        (row.user.as_str(), cause)
    });
    let told = told_once(causes).into_iter();
    faults.extend(told.map(|(names, why)| format!("not known ({names}): {why}")));
    faults
}

/// What messages call the Secret of a user, if it has one.
fn shown(scene: Scene<'_>, row: &Checked<'_>) -> Option<String> {
    Some(scene.store.shown(row.secret?))
}

/// `secret`: what messages call its Secret.
fn as_json(row: &Checked<'_>, secret: Option<String>) -> Value {
    json!({
        "user": row.user, "database": row.database, "secret": secret,
        "login": row.login.as_str(), "detail": row.detail,
    })
}

/// `secret`: what messages call the Secret of a row.
fn print_rows<'a>(
    checked: &[Checked<'a>],
    secret: impl Fn(&Checked<'a>) -> Option<String>,
    out: &mut impl Write,
) -> io::Result<()> {
    let rows = checked.iter().map(|row| {
        // why something is not known is told once for all users, in the error
        let detail = Some(&row.detail).filter(|_| row.login != Login::Unknown);
        vec![
            row.user.clone(),
            row.database.to_owned(),
            secret(row).unwrap_or_else(|| "(environment)".to_owned()),
            row.login.as_str().to_owned(),
            or_dash(detail),
        ]
    });
    let header = ["user", "authSource", "Secret", "login", "roles"];
    print_table(out, &header, &[], rows)
}

/// The user admin that the environment names, if it does.
async fn user_admin<'a>(scene: Scene<'a>, cluster: &Cluster) -> Option<Checked<'a>> {
    let known = scene.config.user_admin.given()?;
    let (login, detail) = log_in(cluster, known, ADMIN_DATABASE).await;
    Some(Checked {
        user: known.user.clone(),
        database: ADMIN_DATABASE,
        secret: None,
        login,
        detail,
    })
}

/// Those of the operator's Secret, which nobody needs where the environment names the user admin.
async fn cluster_users<'a>(scene: Scene<'a>, cluster: &Cluster) -> Vec<Checked<'a>> {
    let secret = &scene.config.operator_secret;
    let found = scene.store.get(secret).await;
    if matches!(found, Ok(None)) && scene.config.user_admin.given().is_some() {
        return Vec::new();
    }
    let found = &found;
    let checked = CLUSTER_USERS.map(async |name| {
        let keys = operator_keys(name);
        let (user, (login, detail)) = match found {
            Err(failure) => (None, (Login::Unknown, failure.to_string())),
            Ok(held) => match held.as_ref().and_then(|held| credentials(held, &keys)) {
                Some(known) => (
                    Some(known.user.clone()),
                    log_in(cluster, &known, ADMIN_DATABASE).await,
                ),
                None => (
                    None,
                    (
                        Login::Absent,
                        format!("there is no {} in the Secret", keys[1]),
                    ),
                ),
            },
        };
        let [fallback, _] = keys;
        Checked {
            user: user.unwrap_or(fallback),
            database: ADMIN_DATABASE,
            secret: Some(secret),
            login,
            detail,
        }
    });
    join_all(checked).await
}

fn credentials(held: &Held, [user, password]: &[String; 2]) -> Option<Credentials> {
    Some(Credentials {
        user: held.text(user)?.expose_secret().to_owned(),
        password: held.text(password)?,
    })
}

async fn table_user<'a>(scene: Scene<'a>, cluster: &Cluster, user: &'a User) -> Checked<'a> {
    let database = &scene.config.table.auth_database;
    let (login, detail) = match scene.store.get(&user.secret).await {
        Err(failure) => (Login::Unknown, failure.to_string()),
        Ok(None) => (Login::Absent, "there is no Secret".to_owned()),
        Ok(Some(held)) => match held.text(&user.keys.password) {
            None => {
                let key = &user.keys.password;
                (Login::Incomplete, format!("the Secret has no {key}"))
            }
            Some(password) => {
                let name = user.name.clone();
                let known = Credentials {
                    user: name,
                    password,
                };
                log_in(cluster, &known, database).await
            }
        },
    };
    let is_gone = login == Login::Refused && is_user(scene, user).await == Some(false);
    Checked {
        user: user.name.clone(),
        database,
        secret: Some(&user.secret),
        login,
        detail: match is_gone {
            true => "MongoDB has no such user".to_owned(),
            false => detail,
        },
    }
}

async fn log_in(cluster: &Cluster, known: &Credentials, database: &str) -> (Login, String) {
    let session = match cluster.login(known, database).await {
        Ok(Some(session)) => session,
        Ok(None) => return (Login::Refused, "name or password is invalid".to_owned()),
        Err(failure) => return (Login::Unknown, failure.to_string()),
    };
    let status = session
        .ask(ADMIN_DATABASE, doc! { "connectionStatus": 1 })
        .await;
    session.close().await;
    match status {
        Ok(status) => (Login::Ok, roles(&status)),
        Err(error) => (Login::Ok, format!("not known: {}", failure(error))),
    }
}

/// The roles of who is logged in, from the answer to `connectionStatus`.
fn roles(status: &Document) -> String {
    match status.get_document("authInfo") {
        Ok(info) => list(roles_in(info, "authenticatedUserRoles")),
        Err(_) => "not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::schema::assert_schema;

    #[test]
    fn each_login_is_told() {
        let secret = SecretName {
            namespace: None,
            name: "s".to_owned(),
        };
        let row = |secret, login, detail: &str| Checked {
            user: "u".to_owned(),
            database: "users",
            secret,
            login,
            detail: detail.to_owned(),
        };
        let checked = [
            row(Some(&secret), Login::Ok, "readWrite on workflows"),
            row(None, Login::Refused, "name or password is invalid"),
            row(Some(&secret), Login::Unknown, "no primary"),
        ];
        let secret = |row: &Checked<'_>| Some(format!("dyff/{}", row.secret?.name));
        let mut text = Vec::new();
        print_rows(&checked, secret, &mut text).unwrap();
        insta::assert_snapshot!("logins", String::from_utf8(text).unwrap());
        let rows: Value = checked
            .iter()
            .map(|row| as_json(row, secret(row)))
            .collect();
        assert_schema("admin quick-check", &[rows.to_string()], &[]);
    }

    #[test]
    fn nobody_but_the_user_admin_is_nobody_to_check() {
        let secret = SecretName {
            namespace: None,
            name: "s".to_owned(),
        };
        let row = |user: &str, secret, login| Checked {
            user: user.to_owned(),
            database: "users",
            secret,
            login,
            detail: String::new(),
        };
        let admin = row("admin", None, Login::Ok);
        let absent = row("a", Some(&secret), Login::Absent);
        let said = faults(&[admin, absent], true);
        assert_eq!(said, ["absent, as never provisioned: 1 of 2 users (a)"]);
    }

    #[test]
    fn who_is_absent_is_a_fault_only_where_it_was_asked_for_or_nobody_is_there() {
        use Login::{Absent, Incomplete, Ok, Refused};
        let secret = SecretName {
            namespace: None,
            name: "s".to_owned(),
        };
        let said = |logins: &[Login], may_be_absent| {
            let names = ["a", "b", "c"].iter().zip(logins);
            let checked: Vec<Checked<'_>> = names
                .map(|(name, login)| Checked {
                    user: (*name).to_owned(),
                    database: "users",
                    secret: Some(&secret),
                    login: *login,
                    detail: String::new(),
                })
                .collect();
            faults(&checked, may_be_absent).join("; ")
        };
        assert_eq!(said(&[Ok, Absent], true), "");
        let absent = "absent, as never provisioned: 1 of 2 users (b)";
        assert_eq!(said(&[Ok, Absent], false), absent);
        let nobody = "absent, as never provisioned: 2 of 2 users (a, b)";
        assert_eq!(said(&[Absent, Absent], true), nobody);
        assert_eq!(
            said(&[Refused, Incomplete, Absent], true),
            "not authenticated: 1 of 3 users (a); \
             without a password in the Secret: 1 of 3 users (b)"
        );
    }
}
