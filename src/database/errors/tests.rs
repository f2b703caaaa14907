use std::collections::HashSet;
use std::io;

use bson::{Document, doc};
use mongodb::ClientSession;
use mongodb::error::{CommandError, UNKNOWN_TRANSACTION_COMMIT_RESULT};

use super::*;

mod may_pass;
mod server;

/// A command error as the driver makes it of a reply.
fn command(code: i32) -> Error {
    let reply = doc! { "ok": 0, "code": code, "codeName": "Name", "errmsg": "text" };
    ErrorKind::Command(bson::deserialize_from_document::<CommandError>(reply).unwrap()).into()
}

fn write_failure(kind: &str, error: Document) -> Error {
    ErrorKind::Write(bson::deserialize_from_document(doc! { kind: error }).unwrap()).into()
}

fn write_concern(code: i32, labels: &[&str]) -> Error {
    let error = doc! { "code": code, "codeName": "Name", "errmsg": "text", "errorLabels": labels };
    write_failure("WriteConcernError", error)
}

#[test]
fn every_transient_code_has_one_cause_and_rejects_no_document() {
    let mut seen = HashSet::new();
    for (cause, codes) in TRANSIENT {
        for code in *codes {
            assert!(seen.insert(code), "{code} is listed twice");
            let transient = Verdict::Transient(*cause);
            assert_eq!(of_error(&command(*code)), transient, "command {code}");
            assert_eq!(
                of_error(&write_concern(*code, &[])),
                transient,
                "write concern {code}"
            );
            assert_eq!(of_write(*code, false), transient, "write {code}");
            assert_eq!(of_command(*code, true), transient, "labelled {code}");
        }
    }
    assert!(DOCUMENT.iter().all(|code| !seen.contains(code)));
    assert!(!seen.contains(&DUPLICATE_KEY));
}

/// What the server's `error_codes.yml` puts into the categories NetworkError, NetworkTimeoutError,
/// Interruption, NotPrimaryError, StaleShardVersionError, NeedRetargettingError, WriteConcernError,
/// ShutdownError, ExceededTimeLimitError, SnapshotError, RetriableError and SystemOverloadedError.
/// Not listed: what only one shard answers another, and what only commands answer that this service
/// never sends.
const TRANSIENT_BY_CATEGORY: &[i32] = &[
    6, 7, 24, 50, 64, 75, 79, 89, 91, 100, 134, 150, 189, 202, 237, 239, 246, 250, 262, 272, 279,
    281, 282, 290, 317, 333, 355, 358, 384, 402, 406, 407, 412, 433, 449, 450, 453, 462, 9001,
    10107, 11600, 11601, 11602, 13388, 13435, 13436, 46841, 50915, 91331, 10045600,
];

#[test]
fn what_the_server_calls_transient_is_transient() {
    for code in TRANSIENT_BY_CATEGORY {
        assert!(
            matches!(of_write(*code, false), Verdict::Transient(_)),
            "{code}"
        );
        let known = cause_of_code(*code).is_some();
        assert!(
            known,
            "{code} is transient as a command only because it is unknown"
        );
    }
}

#[test]
fn each_code_has_the_cause_that_an_operator_would_look_for() {
    for (code, cause) in [
        (6, Cause::Network),          // HostUnreachable
        (89, Cause::Network),         // NetworkTimeout
        (9001, Cause::Network),       // SocketException
        (91, Cause::Election),        // ShutdownInProgress
        (189, Cause::Election),       // PrimarySteppedDown
        (10107, Cause::Election),     // NotWritablePrimary
        (11600, Cause::Election),     // InterruptedAtShutdown
        (11602, Cause::Election),     // InterruptedDueToReplStateChange
        (13435, Cause::Election),     // NotPrimaryNoSecondaryOk
        (24, Cause::Timeout),         // LockTimeout
        (50, Cause::Timeout),         // MaxTimeMSExpired
        (262, Cause::Timeout),        // ExceededTimeLimit
        (290, Cause::Timeout),        // TransactionExceededLifetimeLimitSeconds
        (112, Cause::Conflict),       // WriteConflict
        (246, Cause::Conflict),       // SnapshotUnavailable
        (251, Cause::Conflict),       // NoSuchTransaction
        (256, Cause::Conflict),       // TransactionCommitted
        (11601, Cause::Conflict),     // Interrupted, as by killSessions
        (13388, Cause::Conflict),     // StaleConfig
        (365, Cause::Overload),       // TemporarilyUnavailable
        (388, Cause::Overload),       // TransactionTooLargeForCache
        (462, Cause::Overload),       // IngressRequestRateLimitExceeded
        (14031, Cause::Overload),     // OutOfDiskSpace
        (64, Cause::WriteConcern),    // WriteConcernTimeout
        (100, Cause::WriteConcern),   // UnsatisfiableWriteConcern
        (13, Cause::Authorization),   // Unauthorized
        (18, Cause::Authentication),  // AuthenticationFailed
        (391, Cause::Authentication), // ReauthenticationRequired
        (1, Cause::Other),            // InternalError
        (371, Cause::Other),          // UserWritesBlocked
        (61, Cause::Other),           // ShardKeyNotFound
        (283, Cause::Other),          // WouldChangeOwningShard
    ] {
        assert_eq!(
            of_error(&command(code)),
            Verdict::Transient(cause),
            "{code}"
        );
    }
}

#[test]
fn what_is_about_shards_rejects_no_document() {
    for code in [
        61,  // ShardKeyNotFound
        105, // IncompatibleShardingMetadata
        118, // NamespaceNotSharded
        137, // IncompatibleShardingConfigVersion
        154, // InconsistentShardIdentity
        193, // NoShardingEnabled
        227, // CannotImplicitlyCreateCollection
        283, // WouldChangeOwningShard
        360, // PlacementVersionRefreshCanceled
        366, // WouldChangeOwningShardDeletedNoDocument
        431, // ChunkMetadataInconsistency
    ] {
        let verdict = Verdict::Transient(Cause::Other);
        assert_eq!(of_write(code, false), verdict, "{code}");
    }
}

#[test]
fn a_refused_document_is_rejected() {
    for code in [
        2,     // BadValue
        52,    // DollarPrefixedFieldName
        66,    // ImmutableField
        121,   // DocumentValidationFailure
        171,   // CannotIndexParallelArrays
        17419, // the document after the update is too large
        17420, // the document to upsert is too large
        16755, // a geometry that cannot be indexed
        17280, // KeyTooLong
        99_999,
    ] {
        assert_eq!(
            of_write(code, false),
            Verdict::Permanent(Subject::Record),
            "{code}"
        );
    }
    let refused = doc! { "code": 121, "errmsg": "Document failed validation" };
    assert_eq!(
        of_error(&write_failure("WriteError", refused)),
        Verdict::Permanent(Subject::Record)
    );
}

#[test]
fn a_duplicate_key_is_the_documents_fault_unless_it_is_the_id() {
    assert_eq!(of_write(11000, false), Verdict::Permanent(Subject::Record));
    assert_eq!(of_write(11000, true), Verdict::Transient(Cause::Conflict));
}

#[test]
fn an_answer_without_a_code_rejects_nothing() {
    assert_eq!(of_write(0, false), Verdict::Transient(Cause::Other));
}

#[test]
fn a_whole_command_is_refused_for_a_document_only_by_the_codes_that_say_so() {
    for code in DOCUMENT {
        assert_eq!(
            of_error(&command(*code)),
            Verdict::Permanent(Subject::Record),
            "{code}"
        );
        assert_eq!(
            of_write(*code, false),
            Verdict::Permanent(Subject::Record),
            "{code}"
        );
    }
    // CommandNotFound, an assertion of the server, and unknown codes: none of them names a
    // document.
    for code in [59, 20, 5_107_200, 999_999_999] {
        assert_eq!(
            of_error(&command(code)),
            Verdict::Transient(Cause::Other),
            "{code}"
        );
        assert_eq!(
            of_command(code, true),
            Verdict::Transient(Cause::Conflict),
            "{code}"
        );
    }
}

#[test]
fn an_unknown_write_concern_error_is_one_all_the_same() {
    assert_eq!(
        of_error(&write_concern(99_999, &[])),
        Verdict::Transient(Cause::WriteConcern)
    );
}

#[tokio::test]
async fn errors_of_the_driver_itself_are_transient_or_end_the_process() {
    let io = |kind: io::ErrorKind| -> Error { io::Error::from(kind).into() };
    let bson = Document::from_reader(&[5_u8, 0, 0, 0][..]).unwrap_err();
    let argument = mongodb::Client::with_uri_str("not a URI")
        .await
        .unwrap_err();
    assert!(matches!(*argument.kind, ErrorKind::InvalidArgument { .. }));
    for (error, verdict) in [
        (
            io(io::ErrorKind::TimedOut),
            Verdict::Transient(Cause::Timeout),
        ),
        (
            io(io::ErrorKind::ConnectionReset),
            Verdict::Transient(Cause::Network),
        ),
        (
            io(io::ErrorKind::ConnectionRefused),
            Verdict::Transient(Cause::Network),
        ),
        (
            io(io::ErrorKind::UnexpectedEof),
            Verdict::Transient(Cause::Network),
        ),
        (
            ErrorKind::Shutdown.into(),
            Verdict::Transient(Cause::Authentication),
        ),
        (
            ErrorKind::SessionsNotSupported.into(),
            Verdict::Permanent(Subject::Deployment),
        ),
        (
            ErrorKind::MissingResumeToken.into(),
            Verdict::Transient(Cause::Other),
        ),
        (bson.into(), Verdict::Transient(Cause::Other)),
        (argument, Verdict::Transient(Cause::Other)),
        (Error::custom("mine"), Verdict::Transient(Cause::Other)),
    ] {
        assert_eq!(of_error(&error), verdict, "{error}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_waited_for() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let uri = format!("mongodb://{closed}/?serverSelectionTimeoutMS=50");
    let client = mongodb::Client::with_uri_str(uri).await.unwrap();
    let error = client
        .database("db")
        .run_command(doc! { "ping": 1 })
        .await
        .unwrap_err();
    assert!(
        matches!(*error.kind, ErrorKind::ServerSelection { .. }),
        "{error}"
    );
    assert_eq!(of_error(&error), Verdict::Transient(Cause::Network));
}

#[tokio::test]
async fn a_connection_that_breaks_is_transient() {
    let client = server::client("", |_| None).await;
    let error = client
        .database("db")
        .run_command(doc! { "ping": 1 })
        .await
        .unwrap_err();
    assert_eq!(
        of_error(&error),
        Verdict::Transient(Cause::Network),
        "{error}"
    );
}

#[tokio::test]
async fn a_password_that_is_refused_is_transient() {
    let refuse = |_: &str| {
        Some(doc! { "ok": 0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "no" })
    };
    let client = server::client("user:password@", refuse).await;
    let error = client
        .database("db")
        .run_command(doc! { "ping": 1 })
        .await
        .unwrap_err();
    assert!(
        matches!(*error.kind, ErrorKind::Authentication { .. }),
        "{error}"
    );
    assert_eq!(of_error(&error), Verdict::Transient(Cause::Authentication));
}

fn labelled(mut error: Document, labels: &[&str]) -> Document {
    error.insert("errorLabels", labels);
    error
}

/// A session in whose transaction one update was sent, and the reply to that.
async fn transaction(
    answers: server::Answers,
) -> (ClientSession, mongodb::error::Result<Document>) {
    let client = server::client("", answers).await;
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let update = doc! { "update": "models", "updates": [] };
    let reply = client
        .database("db")
        .run_command(update)
        .session(&mut session)
        .await;
    (session, reply)
}

/// If labels were trusted, the batch would be sent forever: the write is refused in a reply with
/// `ok: 1`, and the answer to the commit then carries the label of a transient error.
#[tokio::test]
async fn a_refused_write_is_found_before_the_commit_whose_answer_hides_it() {
    let (mut session, reply) = transaction(|name| {
        Some(match name {
            "commitTransaction" => doc! {
                "ok": 0, "code": 251, "codeName": "NoSuchTransaction",
                "errmsg": "Transaction 1 has been aborted.",
                "errorLabels": [TRANSIENT_TRANSACTION_ERROR],
            },
            _ => {
                let refused = doc! { "index": 0, "code": 121, "errmsg": "no" };
                doc! { "ok": 1, "n": 0, "nModified": 0, "writeErrors": [refused] }
            }
        })
    })
    .await;
    let error = crate::writer::reply::Reply::read(reply.unwrap())
        .write_error
        .unwrap();
    assert_eq!(
        of_write(error.code, error.on_id),
        Verdict::Permanent(Subject::Record)
    );
    let commit = session.commit_transaction().await.unwrap_err();
    assert!(commit.contains_label(TRANSIENT_TRANSACTION_ERROR));
    assert_eq!(of_error(&commit), Verdict::Transient(Cause::Conflict));
    assert!(
        !commit_is_unknown(&commit),
        "sent again, this commit would be refused forever"
    );
}

#[tokio::test]
async fn a_conflict_in_a_transaction_is_transient_with_its_label_and_without() {
    let (_, reply) = transaction(|_| {
        let labels = [TRANSIENT_TRANSACTION_ERROR];
        let error = doc! { "ok": 0, "code": 112, "codeName": "WriteConflict", "errmsg": "" };
        Some(labelled(error, &labels))
    })
    .await;
    let error = reply.unwrap_err();
    assert!(error.contains_label(TRANSIENT_TRANSACTION_ERROR));
    assert_eq!(of_error(&error), Verdict::Transient(Cause::Conflict));
    let (_, reply) = transaction(|_| {
        let labels = [TRANSIENT_TRANSACTION_ERROR];
        let error = doc! { "ok": 0, "code": 987_654, "errmsg": "new in some later version" };
        Some(labelled(error, &labels))
    })
    .await;
    assert_eq!(
        of_error(&reply.unwrap_err()),
        Verdict::Transient(Cause::Conflict)
    );
}

#[tokio::test]
async fn a_commit_that_may_have_landed_is_unknown() {
    let stepped_down = |name: &str| {
        let labels = ["RetryableWriteError"];
        let error = doc! { "ok": 0, "code": 189, "codeName": "PrimarySteppedDown", "errmsg": "" };
        let error = labelled(error, &labels);
        Some(if name == "update" {
            doc! { "ok": 1 }
        } else {
            error
        })
    };
    let too_slow = |name: &str| {
        let error = doc! { "ok": 0, "code": 50, "codeName": "MaxTimeMSExpired", "errmsg": "" };
        Some(if name == "update" {
            doc! { "ok": 1 }
        } else {
            error
        })
    };
    let no_majority = |name: &str| {
        let concern = doc! { "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "" };
        Some(if name == "update" {
            doc! { "ok": 1 }
        } else {
            doc! { "ok": 1, "writeConcernError": concern }
        })
    };
    let broken = |name: &str| (name == "update").then(|| doc! { "ok": 1 });
    let rows: [(server::Answers, Cause); 4] = [
        (stepped_down, Cause::Election),
        (too_slow, Cause::Timeout),
        (no_majority, Cause::WriteConcern),
        (broken, Cause::Network),
    ];
    for (answers, cause) in rows {
        let (mut session, reply) = transaction(answers).await;
        reply.unwrap();
        let error = session.commit_transaction().await.unwrap_err();
        assert!(commit_is_unknown(&error), "{error}");
        assert_eq!(of_error(&error), Verdict::Transient(cause), "{error}");
    }
}

#[test]
fn only_the_label_makes_a_commit_unknown() {
    assert!(commit_is_unknown(&write_concern(
        64,
        &[UNKNOWN_TRANSACTION_COMMIT_RESULT]
    )));
    for error in [
        command(251),
        command(112),
        command(256),
        write_concern(64, &[]),
    ] {
        assert!(!commit_is_unknown(&error), "{error}");
    }
}

#[test]
fn labels_of_causes_are_distinct() {
    let labels: HashSet<_> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
    assert_eq!(labels.len(), Cause::ALL.len());
    for (cause, _) in TRANSIENT {
        assert!(Cause::ALL.contains(cause));
    }
}

#[test]
fn the_same_topology_is_the_same_text() {
    for labels in [r#""A", "B""#, r#""B", "A""#, ""] {
        let server = format!("Error: refused, labels: {{{labels}}}, source: None");
        let text = format!("Servers: [ {{ {server} }}, {{ {server} }} ]");
        assert_eq!(
            without_labels(&text),
            "Servers: [ { Error: refused, source: None }, { Error: refused, source: None } ]"
        );
    }
    assert_eq!(without_labels("no server"), "no server");
}

#[test]
fn what_a_log_shows_of_an_error_quotes_no_command() {
    let quoting =
        "not authorized on workflows to execute command { update: \"models\", u: \"SECRET\" }";
    let reply = doc! { "code": 13, "codeName": "Unauthorized", "errmsg": quoting };
    let refused: Error = ErrorKind::Command(bson::deserialize_from_document(reply).unwrap()).into();
    assert_eq!(
        shown(&refused),
        "Unauthorized (code 13): not authorized on workflows to execute { update: \"models\" }"
    );
    let concern = write_failure(
        "WriteConcernError",
        doc! { "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "SECRET" },
    );
    assert_eq!(shown(&concern), "WriteConcernTimeout (code 64)");
    let write = write_failure(
        "WriteError",
        doc! { "code": 11000, "errmsg": "dup key: SECRET" },
    );
    assert_eq!(shown(&write), "write error 11000");
}
