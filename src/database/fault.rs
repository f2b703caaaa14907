//! What an error at start means: permanent until a person changes something, or transient. Pure.

use mongodb::{
    bson::Document,
    error::{Error, ErrorKind},
    options::ClientOptions,
};

use super::errors::{Cause, LABELS, Verdict, code, of_error};
use crate::config::mongodb::srv_record;
use crate::config::reference::{CONNECTION_STRING, DATABASE, PASSWORD};

/// The wire version of MongoDB 5.0.
const WIRE_VERSION_MIN: i32 = 13;

/// Why the service cannot start yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not pass by itself; the text says what to change.
    Permanent(String),
    /// The password is invalid, or not valid yet, while it is rotated.
    Unauthenticated(String),
    /// The password is refused, and may be valid soon: it is rotated, perhaps.
    Rotating(String),
    /// It may pass by itself.
    Transient(String),
}

/// The user that the service logs in as, for messages.
#[derive(Clone, Debug)]
pub(super) struct User {
    name: Option<String>,
    source: String,
}

impl User {
    /// The one that `options` name.
    pub(super) fn of(options: &ClientOptions) -> User {
        let credential = options.credential.as_ref();
        User {
            name: credential.and_then(|credential| credential.username.clone()),
            source: (credential.and_then(|credential| credential.source.clone()))
                .unwrap_or_else(|| "admin".to_owned()),
        }
    }

    /// One that no option names.
    pub(super) fn unknown() -> User {
        User {
            name: None,
            source: "admin".to_owned(),
        }
    }

    /// What an error of the driver or the server means at start.
    pub(super) fn fault(&self, error: &Error) -> Fault {
        const AUTHENTICATION: [i32; 5] = [11, 18, 331, 334, 8000];
        const UNAUTHORIZED: i32 = 13;
        const DATABASE_DIFFERS_IN_CASE: i32 = 13297;
        let refused = match error.kind.as_ref() {
            ErrorKind::Authentication { message, .. } => Some(message.as_str()),
            ErrorKind::Command(command) if AUTHENTICATION.contains(&command.code) => {
                Some(command.message.as_str())
            }
            // What the driver met on each server.
            ErrorKind::ServerSelection { message, .. }
                if of_error(error) == Verdict::Transient(Cause::Authentication) =>
            {
                Some(message.as_str())
            }
            _ => None,
        };
        if let Some(reason) = refused {
            return Fault::Unauthenticated(format!(
                "MongoDB does not authenticate the user {} (authSource {}): {reason}; \
                 check user, password and authSource in {} and {}",
                self.name.as_deref().unwrap_or("(none)"),
                self.source,
                CONNECTION_STRING.name,
                PASSWORD.name,
            ));
        }
        if code(error) == Some(UNAUTHORIZED) {
            return Fault::Permanent(match &self.name {
                Some(_) => format!("MongoDB: {}", text(error)),
                None => format!(
                    "MongoDB requires a user: put its name and `@` before the host in {}, \
                     and its password in {}",
                    CONNECTION_STRING.name, PASSWORD.name
                ),
            });
        }
        if code(error) == Some(DATABASE_DIFFERS_IN_CASE) {
            return of_case(None);
        }
        if let ErrorKind::IncompatibleServer { message, .. } = error.kind.as_ref() {
            return Fault::Permanent(format!("this MongoDB cannot be used: {message}"));
        }
        of_tls(error).unwrap_or_else(|| Fault::Transient(text(error)))
    }

    /// The message for `missing` privileges, with the command that grants them.
    pub(super) fn lacks(&self, missing: &str, database: &str) -> String {
        let (name, source) = (self.name.as_deref().unwrap_or("(none)"), &self.source);
        format!(
            "the user {name} of {source} may not {missing}: grant the role with \
             db.getSiblingDB(\"{source}\").grantRolesToUser(\"{name}\", \
             [{{ role: \"readWrite\", db: \"{database}\" }}])"
        )
    }
}

/// That there is a database of the configured name in other letters: `found`, where its name is
/// known.
pub(super) fn of_case(found: Option<&str>) -> Fault {
    let found = found.map_or_else(String::new, |name| format!(" ({name})"));
    Fault::Permanent(format!(
        "MongoDB has a database{found} whose name differs from {} only in upper and lower case: \
         write it as it is there",
        DATABASE.name
    ))
}

/// Whether the server can be used, by its answer to `hello`. `set` is the replica set that the URI
/// names.
pub(super) fn of_hello(hello: &Document, set: Option<&str>) -> Result<(), Fault> {
    let is_router = hello
        .get_str("msg")
        .is_ok_and(|message| message == "isdbgrid");
    match (hello.get_str("setName"), set) {
        _ if is_router => {
            return Err(Fault::Permanent(format!(
                "{} leads to a mongos of a sharded cluster, which is not supported: \
                 name a replica set",
                CONNECTION_STRING.name
            )));
        }
        (Ok(found), Some(set)) if found != set => {
            return Err(Fault::Permanent(format!(
                "the server belongs to the replica set {found}, but {} says replicaSet={set}",
                CONNECTION_STRING.name
            )));
        }
        (Ok(_), _) => {}
        (Err(_), _) if hello.get_bool("isreplicaset").unwrap_or(false) => {
            return Err(Fault::Transient(
                "the replica set is not initiated yet".to_owned(),
            ));
        }
        (Err(_), _) => {
            return Err(Fault::Permanent(format!(
                "{} leads to a standalone MongoDB server, which has no transactions: \
                 start it with --replSet and run rs.initiate(), or name a replica set",
                CONNECTION_STRING.name
            )));
        }
    }
    if hello.get_i32("maxWireVersion").unwrap_or(0) < WIRE_VERSION_MIN {
        return Err(Fault::Permanent(
            "MongoDB is older than 5.0: upgrade it".to_owned(),
        ));
    }
    Ok(())
}

/// What an error of the driver about the options of this URI means, before it has connected.
pub(super) fn of_options(error: &Error, uri: &str) -> Fault {
    match error.kind.as_ref() {
        // The driver does not say which name it looked up.
        ErrorKind::DnsResolve { message, .. } => Fault::Transient(format!(
            "the servers that {} names are looked up as {}: {message}",
            CONNECTION_STRING.name,
            srv_record(uri).as_deref().unwrap_or("an SRV record"),
        )),
        ErrorKind::InvalidArgument { message, .. }
        | ErrorKind::InvalidTlsConfig { message, .. } => {
            Fault::Permanent(format!("{}: {message}", CONNECTION_STRING.name))
        }
        _ => Fault::Transient(text(error)),
    }
}

/// The fault for a TLS handshake that fails at every attempt; `None` for another error. The driver
/// gives only its text.
pub(super) fn of_tls(error: &Error) -> Option<Fault> {
    let text = error.kind.to_string().replace('\n', " ");
    let from = text
        .find("invalid peer certificate")
        .or_else(|| text.find("received fatal alert"));
    let what = text[from?..].split(LABELS).next().unwrap_or_default();
    Some(no_tls(what))
}

/// The fault for a TLS connection that cannot be made.
pub(super) fn no_tls(what: &str) -> Fault {
    Fault::Permanent(format!(
        "no TLS connection to MongoDB: {what}; \
         check tls, tlsCAFile, tlsCertificateKeyFile and the host names in {}",
        CONNECTION_STRING.name
    ))
}

/// The fault of a URI without TLS, where the server answers to nothing else.
pub(super) fn needs_tls() -> Fault {
    Fault::Permanent(format!(
        "MongoDB answers only over TLS: set tls=true in {}, and tlsCAFile unless a public authority \
         has signed its certificate",
        CONNECTION_STRING.name
    ))
}

/// The error's text without labels and the like, on one line.
fn text(error: &Error) -> String {
    super::errors::without_labels(&error.kind.to_string()).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use mongodb::{
        bson::{self, doc},
        options::Credential,
    };

    use super::*;

    fn user() -> User {
        let credential = Credential::builder()
            .username("workflows-sink".to_owned())
            .password("hunter2".to_owned())
            .source("users".to_owned())
            .build();
        User::of(&ClientOptions::builder().credential(credential).build())
    }

    fn command(code: i32, message: &str) -> Error {
        let answer = doc! { "code": code, "codeName": "Name", "errmsg": message };
        ErrorKind::Command(bson::deserialize_from_document(answer).unwrap()).into()
    }

    fn broken(text: &str) -> Error {
        ErrorKind::Io(Arc::new(io::Error::other(text.to_owned()))).into()
    }

    /// What a person must change.
    fn to_change(fault: Fault) -> String {
        match fault {
            Fault::Permanent(why) | Fault::Unauthenticated(why) => why,
            Fault::Rotating(why) | Fault::Transient(why) => panic!("transient: {why}"),
        }
    }

    #[test]
    fn a_replica_set_of_5_0_is_accepted() {
        let member = doc! { "setName": "rs0", "maxWireVersion": 13 };
        assert_eq!(of_hello(&member, None), Ok(()));
        assert_eq!(of_hello(&member, Some("rs0")), Ok(()));
    }

    #[test]
    fn other_servers_are_refused_with_what_to_do() {
        for (hello, set, says) in [
            (
                doc! { "msg": "isdbgrid", "maxWireVersion": 17 },
                None,
                "sharded cluster",
            ),
            (
                doc! { "msg": "isdbgrid", "maxWireVersion": 9 },
                Some("rs0"),
                "sharded cluster",
            ),
            (doc! { "maxWireVersion": 17 }, None, "standalone"),
            (doc! { "maxWireVersion": 17 }, Some("rs0"), "standalone"),
            (
                doc! { "setName": "rs1", "maxWireVersion": 17 },
                Some("rs0"),
                "belongs to the replica set rs1",
            ),
            (
                doc! { "setName": "rs0", "maxWireVersion": 9 },
                None,
                "older than 5.0",
            ),
        ] {
            let why = to_change(of_hello(&hello, set).unwrap_err());
            assert!(why.contains(says), "{why}");
        }
        let uninitiated = of_hello(&doc! { "isreplicaset": true, "maxWireVersion": 17 }, None);
        assert!(
            matches!(uninitiated, Err(Fault::Transient(_))),
            "someone may be about to initiate it"
        );
    }

    #[test]
    fn a_refused_login_names_the_variables_and_no_password() {
        let why = to_change(user().fault(&command(18, "Authentication failed.")));
        assert!(
            why.contains("workflows-sink") && why.contains("authSource users"),
            "{why}"
        );
        assert!(
            why.contains(CONNECTION_STRING.name) && why.contains(PASSWORD.name),
            "{why}"
        );
        assert!(!why.contains("hunter2"));
        let why = to_change(
            User::unknown().fault(&command(13, "command create requires authentication")),
        );
        assert!(why.contains("requires a user"), "{why}");
        let lacks = user().lacks("insert on workflows.models", "workflows");
        let grant = "db.getSiblingDB(\"users\").grantRolesToUser(\"workflows-sink\", \
                     [{ role: \"readWrite\", db: \"workflows\" }])";
        assert!(lacks.contains(grant), "{lacks}");
    }

    #[test]
    fn a_certificate_that_is_refused_is_not_taken_for_an_unavailable_server() {
        let text = "Server selection timeout: Servers: [ { Address: a:1, Type: Unknown, \
                    Error: Kind: I/O error: invalid peer certificate: UnknownIssuer, \
                    labels: {} } ]";
        let why = to_change(user().fault(&broken(text)));
        assert!(
            why.starts_with(
                "no TLS connection to MongoDB: invalid peer certificate: UnknownIssuer; check tls"
            ),
            "{why}"
        );
        assert!(matches!(
            user().fault(&broken("connection refused")),
            Fault::Transient(_)
        ));
        assert!(matches!(
            user().fault(&command(91, "shutting down")),
            Fault::Transient(_)
        ));
    }
}
