//! The users in MongoDB: read, created and changed as the user admin, tried by logging in. They are
//! never dropped: that would cut off who is logged in.

use std::future::IntoFuture;

use mongodb::{
    Client,
    bson::{Bson, Document, doc},
    error::{Error, ErrorKind},
    options::{ClientOptions, Credential},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::config::Credentials;
use super::plan::{Account, MECHANISM};
use super::secrets::kubernetes::MANAGER;
use super::table::{Role, User};
use super::{ANSWER_DEADLINE, CONNECT_DEADLINE, Failure};
use crate::config::mongodb::srv_record;
use crate::database::errors::{self, code};

/// Where the operator's users live.
pub const ADMIN_DATABASE: &str = "admin";

/// How long a change may take to reach a majority, in milliseconds.
const MAJORITY_MS_MAX: i32 = 10_000;

const USER_NOT_FOUND: i32 = 11;
const USER_EXISTS: i32 = 51003;

/// The cluster, where anybody can log in.
#[derive(Clone, Debug)]
pub struct Cluster {
    options: ClientOptions,
}

impl Cluster {
    /// The cluster of a URI that names no user. Looks up its hosts where the URI asks for that. The
    /// deadlines for connecting are the URI's, else `CONNECT_DEADLINE`.
    pub async fn new(uri: &str) -> Result<Cluster, Failure> {
        let parsed = tokio::time::timeout(ANSWER_DEADLINE, ClientOptions::parse(uri)).await;
        let mut options = parsed
            .map_err(|_| {
                Failure::Transient("MongoDB: the look-up of its hosts timed out".to_owned())
            })?
            .map_err(|error| of_lookup(error, uri))?;
        options.app_name = Some(MANAGER.to_owned());
        options.max_pool_size = Some(2);
        (options.server_selection_timeout).get_or_insert(CONNECT_DEADLINE);
        options.connect_timeout.get_or_insert(CONNECT_DEADLINE);
        options.credential = None;
        Ok(Cluster { options })
    }

    /// Logs in, on connections of its own. `None`: name or password is invalid.
    pub async fn login(
        &self,
        credentials: &Credentials,
        source: &str,
    ) -> Result<Option<Session>, Failure> {
        let mut options = self.options.clone();
        let credential = Credential::builder()
            .username(credentials.user.clone())
            .password(credentials.password.expose_secret().to_owned())
            .source(source.to_owned());
        options.credential = Some(credential.build());
        let session = Session {
            client: Client::with_options(options).map_err(failure)?,
        };
        match session.ask(ADMIN_DATABASE, doc! { "ping": 1 }).await {
            Ok(_) => Ok(Some(session)),
            Err(error) => {
                session.close().await;
                match is_unauthenticated(&error) {
                    true => Ok(None),
                    false => Err(failure(error)),
                }
            }
        }
    }
}

/// Somebody who is logged in.
#[derive(Debug)]
pub struct Session {
    client: Client,
}

impl Session {
    /// Runs a command and returns its answer.
    pub async fn ask(&self, database: &str, command: Document) -> Result<Document, Error> {
        let database = self.client.database(database);
        let answer = database.run_command(command).into_future();
        match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }

    /// Ends its connections.
    pub async fn close(self) {
        self.client.shutdown().immediate(true).await;
    }
}

/// The user admin.
#[derive(Debug)]
pub struct UserAdmin {
    session: Session,
    /// The database that the users live in.
    database: String,
}

impl UserAdmin {
    /// Logs the user admin in, who manages the users of `database`.
    ///
    /// # Errors
    /// [`Failure::Permanent`] where its name or password is invalid.
    pub async fn login(
        cluster: &Cluster,
        credentials: &Credentials,
        database: &str,
    ) -> Result<UserAdmin, Failure> {
        match cluster.login(credentials, ADMIN_DATABASE).await? {
            Some(session) => Ok(UserAdmin {
                session,
                database: database.to_owned(),
            }),
            None => Err(Failure::Permanent(format!(
                "MongoDB does not authenticate the user admin {} (authSource {ADMIN_DATABASE})",
                credentials.user
            ))),
        }
    }

    /// What MongoDB knows of a user; none where there is no such user.
    pub async fn account(&self, name: &str) -> Result<Option<Account>, Failure> {
        let command = doc! { "usersInfo": { "user": name, "db": &self.database } };
        let answer = (self.session.ask(&self.database, command).await).map_err(failure)?;
        let users = answer.get_array("users").map_err(|_| {
            Failure::Permanent("MongoDB: an answer to usersInfo without users".to_owned())
        })?;
        Ok(users.first().and_then(Bson::as_document).map(account))
    }

    /// Creates the user. One that exists is left as it is.
    pub async fn create(&self, user: &User, password: &SecretString) -> Result<(), Failure> {
        let command = doc! {
            "createUser": &user.name,
            "pwd": password.expose_secret(),
            "roles": roles(&user.roles),
            "mechanisms": [MECHANISM],
        };
        match self.change(command).await {
            Err(error) if code(&error) == Some(USER_EXISTS) => Ok(()),
            other => other.map_err(failure),
        }
    }

    /// Grants a user roles.
    pub async fn grant(&self, user: &User, granted: &[Role]) -> Result<(), Failure> {
        let command = doc! { "grantRolesToUser": &user.name, "roles": roles(granted) };
        self.change(command).await.map_err(failure)
    }

    /// Revokes roles of a user.
    pub async fn revoke(&self, user: &User, revoked: &[Role]) -> Result<(), Failure> {
        let command = doc! { "revokeRolesFromUser": &user.name, "roles": roles(revoked) };
        self.change(command).await.map_err(failure)
    }

    /// Sets the password, under the one mechanism. Whoever is logged in stays so.
    pub async fn set_password(&self, user: &User, password: &SecretString) -> Result<(), Failure> {
        let command = doc! {
            "updateUser": &user.name,
            "pwd": password.expose_secret(),
            "mechanisms": [MECHANISM],
        };
        self.change(command).await.map_err(failure)
    }

    async fn change(&self, mut command: Document) -> Result<(), Error> {
        command.insert(
            "writeConcern",
            doc! { "w": "majority", "wtimeout": MAJORITY_MS_MAX },
        );
        let answer = self.session.ask(&self.database, command).await?;
        match answer.get_document("writeConcernError") {
            // not on a majority yet: what the next look sees may still be rolled back
            Ok(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
            Err(_) => Ok(()),
        }
    }

    /// Ends its connections.
    pub async fn close(self) {
        self.session.close().await;
    }
}

fn account(user: &Document) -> Account {
    let mechanisms = user.get_array("mechanisms").into_iter().flatten();
    Account {
        roles: roles_in(user, "roles").collect(),
        mechanisms: (mechanisms.filter_map(|name| Some(name.as_str()?.to_owned()))).collect(),
    }
}

/// The roles that a field of an answer lists; none where there is no such field.
pub(crate) fn roles_in(answer: &Document, field: &str) -> impl Iterator<Item = Role> {
    let roles = answer.get_array(field).into_iter().flatten();
    roles.filter_map(|role| {
        let role = role.as_document()?;
        Some(Role {
            role: role.get_str("role").ok()?.to_owned(),
            db: role.get_str("db").ok()?.to_owned(),
        })
    })
}

fn roles(roles: &[Role]) -> Vec<Document> {
    (roles.iter())
        .map(|role| doc! { "role": &role.role, "db": &role.db })
        .collect()
}

/// Whether it says that name or password is invalid.
fn is_unauthenticated(error: &Error) -> bool {
    const AUTHENTICATION: [i32; 3] = [11, 18, 334];
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => true,
        ErrorKind::Command(command) => AUTHENTICATION.contains(&command.code),
        _ => false,
    }
}

/// What an error of the look-up of the servers means. The driver does not say which name it was.
fn of_lookup(error: Error, uri: &str) -> Failure {
    match (error.kind.as_ref(), srv_record(uri)) {
        (ErrorKind::DnsResolve { message, .. }, Some(record)) => Failure::Transient(format!(
            "MongoDB: its servers are looked up as {record}: {}",
            message.replace('\n', " ")
        )),
        _ => failure(error),
    }
}

/// What an error means. The server's message is left out: it may quote the command.
pub(crate) fn failure(error: Error) -> Failure {
    let text = format!("MongoDB: {}", errors::shown(&error).replace('\n', " "));
    let code = code(&error);
    match code == Some(USER_NOT_FOUND) || errors::may_pass(&error) {
        true => Failure::Transient(text),
        false => Failure::Permanent(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_from_what_the_server_knows() {
        let user = doc! {
            "user": "a", "db": "users", "mechanisms": ["SCRAM-SHA-1", MECHANISM],
            "roles": [{ "role": "read", "db": "x" }, { "role": "readWrite", "db": "y" }],
        };
        let found = account(&user);
        assert_eq!(found.mechanisms.len(), 2);
        let texts: Vec<String> = found.roles.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["read on x", "readWrite on y"]);
        assert_eq!(account(&doc! {}), Account::default());
    }
}
