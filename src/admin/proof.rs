//! Proves a login's roles by what it may do and what it may not. Nothing here leaves a trace.

use mongodb::{
    bson::{Document, doc},
    error::Error,
};

use super::Failure;
use super::table::{Role, User};
use super::users::{Session, failure};
use crate::database::errors::code;

/// A collection that does not exist.
const NOWHERE: &str = "workflows_sink_admin_probe";

const UNAUTHORIZED: i32 = 13;

/// Whether a role lets its holder write documents; `None`: a role that is not proven.
fn may_write(role: &Role) -> Option<bool> {
    match role.role.as_str() {
        "read" => Some(false),
        "readWrite" => Some(true),
        _ => None,
    }
}

/// Tries what each role allows and what it does not. With `has_extra_roles`, rights beyond the
/// table are no fault. Returns what the login has shown, for people.
///
/// # Errors
/// [`Failure::Permanent`] where it may do less or more than the table says.
pub async fn prove(
    session: &Session,
    user: &User,
    auth_database: &str,
    has_extra_roles: bool,
) -> Result<Vec<String>, Failure> {
    let mut shown = Vec::new();
    let proven = || {
        user.roles
            .iter()
            .filter_map(|role| Some((role, may_write(role)?)))
    };
    for (role, writes) in proven() {
        let db = &role.db;
        expect(session, db, find(NOWHERE), true, "read").await?;
        shown.push(format!("reads {db}"));
        let others_write = (proven()).any(|(other, writes)| writes && other.db == *db);
        if writes {
            expect(session, db, write(), true, "write").await?;
            shown.push(format!("writes {db}"));
        } else if !others_write && !has_extra_roles {
            expect(session, db, write(), false, "write").await?;
            shown.push(format!("may not write {db}"));
        }
    }
    if !has_extra_roles {
        expect(
            session,
            "admin",
            find("system.users"),
            false,
            "read the users of",
        )
        .await?;
        shown.push("may not read users".to_owned());
        if user.roles.iter().all(|role| role.db != auth_database) {
            expect(session, auth_database, write(), false, "write").await?;
            shown.push(format!("may not write {auth_database}"));
        }
    }
    Ok(shown)
}

fn find(collection: &str) -> Document {
    doc! { "find": collection, "limit": 1, "singleBatch": true }
}

/// Matches nothing and creates nothing, but needs the right to write.
fn write() -> Document {
    let nothing = doc! { "q": { "_id": NOWHERE }, "u": { "$set": { "x": 1 } }, "upsert": false };
    doc! { "update": NOWHERE, "updates": [nothing] }
}

async fn expect(
    session: &Session,
    database: &str,
    command: Document,
    may: bool,
    what: &str,
) -> Result<(), Failure> {
    match (session.ask(database, command).await, may) {
        (Ok(_), true) => Ok(()),
        (Ok(_), false) => Err(Failure::Permanent(format!(
            "it may {what} {database}, which no role of the table allows: \
             is MongoDB started with --auth?"
        ))),
        (Err(error), false) if is_unauthorized(&error) => Ok(()),
        (Err(error), true) if is_unauthorized(&error) => Err(Failure::Permanent(format!(
            "it may not {what} {database}, though its roles say so"
        ))),
        (Err(error), _) => Err(failure(error)),
    }
}

fn is_unauthorized(error: &Error) -> bool {
    code(error) == Some(UNAUTHORIZED)
}
