//! What to do about an error of the driver or the server: a table. Pure.
//!
//! The rule behind it: only an error about a document may reject that document. Every other error
//! is transient, and the attempt is retried. An unknown code of one write is about that write; an
//! unknown code of a whole command is about no document.

use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, WriteFailure};

/// What an error means for what was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes by itself: the attempt is retried without limit, with backoff.
    Transient(Cause),
    /// It does not pass by itself: something is wrong with the subject.
    Permanent(Subject),
}

/// What a permanent error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A record: the server refuses its document, however often it is sent.
    Record,
    /// The deployment: no write to it can succeed, so the process must end.
    Deployment,
}

/// Why an attempt is retried; the `reason` label of `retries_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection, or one that broke.
    Network,
    /// No primary, or one that is stepping down, starting or shutting down.
    Election,
    /// Too slow: a time limit of ours or of the server's was reached.
    Timeout,
    /// The transaction conflicts with another one, or no longer exists.
    Conflict,
    /// The server has no room: cache, memory, disk or admission.
    Overload,
    /// Written, but not to a majority.
    WriteConcern,
    /// Not authenticated: a password may be rotating.
    Authentication,
    /// Authenticated, and not allowed to do this.
    Authorization,
    /// Anything else that is about no document.
    Other,
}

impl Cause {
    /// Every cause, so that the metric of each one starts at zero.
    pub const ALL: [Cause; 9] = [
        Cause::Network,
        Cause::Election,
        Cause::Timeout,
        Cause::Conflict,
        Cause::Overload,
        Cause::WriteConcern,
        Cause::Authentication,
        Cause::Authorization,
        Cause::Other,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Network => "network",
            Cause::Election => "election",
            Cause::Timeout => "timeout",
            Cause::Conflict => "conflict",
            Cause::Overload => "overload",
            Cause::WriteConcern => "write_concern",
            Cause::Authentication => "authentication",
            Cause::Authorization => "authorization",
            Cause::Other => "other",
        }
    }

    /// What a probe says of an `error` with this cause: whether MongoDB answers at all, and what.
    pub fn told(self, error: &str) -> String {
        match self {
            Cause::Network | Cause::Election | Cause::Timeout => {
                format!("MongoDB does not answer: {error}")
            }
            _ => format!("MongoDB accepts no writes ({}): {error}", self.as_str()),
        }
    }

    /// Whether MongoDB accepts no writes at all, rather than not this batch.
    pub fn is_an_outage(self) -> bool {
        !matches!(self, Cause::Conflict | Cause::Timeout)
    }

    /// Whether MongoDB answered at all.
    pub fn is_answer(self) -> bool {
        !matches!(self, Cause::Network | Cause::Election)
    }

    /// Whether a smaller transaction may succeed where this one failed.
    pub fn calls_for_less(self) -> bool {
        matches!(self, Cause::Timeout | Cause::Conflict | Cause::Overload)
    }
}

/// The server's codes for transient errors, by cause. From `error_codes.yml` of the server:
/// everything there that is retriable, an interruption, a stale shard version or a sign of
/// pressure, and what is about the server's state, or the shards of a cluster, rather than about a
/// document. A cluster is refused at start; should one be met all the same, no record is to pay.
#[rustfmt::skip]
const TRANSIENT: &[(Cause, &[i32])] = &[
    (Cause::Network, &[
        6, 7, 89, 141, 145, 230, 231, 279, 317, 384, 398, 9001, 56846,
    ]),
    (Cause::Election, &[
        91, 94, 133, 134, 149, 189, 216, 303, 308, 333, 372, 10058, 10107, 11600, 11602, 13435,
        13436,
    ]),
    (Cause::Timeout, &[
        24, 46, 50, 202, 262, 290, 407,
    ]),
    (Cause::Conflict, &[
        63, 70, 82, 107, 112, 117, 150, 175, 203, 206, 215, 217, 225, 228, 237, 239, 246, 249, 250,
        251, 256, 267, 272, 281, 282, 314, 319, 338, 342, 343, 355, 356, 358, 363, 374, 375, 406,
        412, 413, 414, 453, 11601, 12586, 12587, 13388, 46841, 50915,
    ]),
    (Cause::Overload, &[
        146, 208, 257, 261, 264, 365, 388, 402, 433, 449, 450, 462, 14031,
    ]),
    (Cause::WriteConcern, &[
        64, 75, 79, 100,
    ]),
    (Cause::Authentication, &[
        11, 18, 214, 334, 337, 390, 391, 392, 404,
    ]),
    (Cause::Authorization, &[
        13, 31, 33,
    ]),
    (Cause::Other, &[
        0, 1, 8, 61, 77, 90, 105, 118, 137, 154, 193, 227, 263, 283, 301, 310, 360, 366, 371, 431,
        8000, 91331, 10045600,
    ]),
];

/// The codes with which the server refuses a whole command because of a document in it.
const DOCUMENT: &[i32] = &[15, 22, 378, 10334, 17280, 17419, 17420];

const UNAUTHORIZED: i32 = 13;
const DUPLICATE_KEY: i32 = 11000;
const NO_SUCH_TRANSACTION: i32 = 251;

#[cfg(test)]
mod tests;

fn cause_of_code(code: i32) -> Option<Cause> {
    TRANSIENT
        .iter()
        .find(|(_, codes)| codes.contains(&code))
        .map(|(cause, _)| *cause)
}

/// The verdict on a command that failed as a whole.
///
/// Never by labels alone: after a refused write in a transaction the server answers the commit with
/// 251 *and* the label `TransientTransactionError`, so a writer that relied on the label would send
/// the same document forever. The writer calls [`of_write`] first.
pub fn of_error(error: &Error) -> Verdict {
    let transient = error.contains_label(TRANSIENT_TRANSACTION_ERROR);
    match error.kind.as_ref() {
        ErrorKind::Command(command) => of_command(command.code, transient),
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
            Verdict::Transient(cause_of_code(concern.code).unwrap_or(Cause::WriteConcern))
        }
        ErrorKind::Write(WriteFailure::WriteError(write)) => of_write(write.code, false),
        ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::TimedOut => {
            Verdict::Transient(Cause::Timeout)
        }
        ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. } => Verdict::Transient(Cause::Network),
        ErrorKind::ServerSelection { message, .. } => Verdict::Transient(of_selection(message)),
        ErrorKind::Authentication { .. } | ErrorKind::Shutdown => {
            Verdict::Transient(Cause::Authentication)
        }
        ErrorKind::SessionsNotSupported | ErrorKind::IncompatibleServer { .. } => {
            Verdict::Permanent(Subject::Deployment)
        }
        _ => Verdict::Transient(Cause::Other),
    }
}

/// Whether a command that a person waits for may try again: unlike the service it waits for nobody
/// to mend something, so who may not log in or do this, and a code of no known cause, end it.
pub fn may_pass(error: &Error) -> bool {
    match of_error(error) {
        Verdict::Transient(Cause::Authentication | Cause::Authorization)
        | Verdict::Permanent(_) => false,
        Verdict::Transient(Cause::Other) => code(error).is_none(),
        Verdict::Transient(_) => true,
    }
}

/// Why the driver found no server that it can write to. It gives only a text, with what it knows of
/// each server: the last error, or that it is a secondary.
fn of_selection(message: &str) -> Cause {
    const REFUSED_LOGIN: [&str; 3] = [
        "SCRAM failure",
        "AuthenticationFailed",
        "Authentication failed",
    ];
    let has = |text: &str| message.contains(text);
    if REFUSED_LOGIN.into_iter().any(has) {
        Cause::Authentication
    } else if has("RsSecondary") || has("RSSecondary") || has("RsOther") {
        Cause::Election
    } else {
        Cause::Network
    }
}

/// The verdict on a command that the server answered with `code`. `transient_label` says whether
/// the answer has the label `TransientTransactionError`.
pub fn of_command(code: i32, transient_label: bool) -> Verdict {
    match cause_of_code(code) {
        Some(cause) => Verdict::Transient(cause),
        None if transient_label => Verdict::Transient(Cause::Conflict),
        None if DOCUMENT.contains(&code) => Verdict::Permanent(Subject::Record),
        None => Verdict::Transient(Cause::Other),
    }
}

/// The verdict on one entry of `writeErrors`. `on_id` says that a duplicate key was that of `_id`:
/// two upserts raced, and the next attempt finds the document.
pub fn of_write(code: i32, on_id: bool) -> Verdict {
    match cause_of_code(code) {
        Some(cause) => Verdict::Transient(cause),
        None if code == DUPLICATE_KEY && on_id => Verdict::Transient(Cause::Conflict),
        None => Verdict::Permanent(Subject::Record),
    }
}

/// The server's code for a command that it refused.
pub(crate) fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

/// The text of an error that may be logged. The server's message is left out: it may quote the
/// command with the documents in it. That of 13 (Unauthorized) always does, behind the database,
/// the command and its collection: those are kept.
pub fn shown(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => {
            let told = format!("{} (code {})", command.code_name, command.code);
            match denied(&command.message) {
                Some(denied) if command.code == UNAUTHORIZED => format!("{told}: {denied}"),
                _ => told,
            }
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
            format!("{} (code {})", concern.code_name, concern.code)
        }
        ErrorKind::Write(WriteFailure::WriteError(write)) => format!("write error {}", write.code),
        kind => without_labels(&kind.to_string()),
    }
}

/// What is not allowed, from the server's message: `not authorized on DATABASE to execute command {
/// update: "COLLECTION", …`.
fn denied(message: &str) -> Option<String> {
    const COMMAND: &str = " to execute command { ";
    let (database, command) = message
        .strip_prefix("not authorized on ")?
        .split_once(COMMAND)?;
    let (command, _) = command.split_once([',', '}'])?;
    Some(format!(
        "not authorized on {database} to execute {{ {} }}",
        command.trim_end()
    ))
}

/// What the driver puts behind each error of a topology's text.
pub(super) const LABELS: &str = ", labels: {";

/// A topology's text has the labels of each server's error, in another order each time: with them
/// the same cause would be told as several.
pub(super) fn without_labels(text: &str) -> String {
    let mut parts = text.split(LABELS);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(part.split_once('}').map_or(part, |(_, rest)| rest));
    }
    shown
}

/// Whether a commit's answer leaves its outcome open, so that it must be sent again. Never for 251,
/// whatever its labels: that transaction may have been committed and its record reaped since, and
/// only the checkpoint can tell.
pub fn commit_is_unknown(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Command(command) if command.code == NO_SUCH_TRANSACTION => false,
        _ => error.contains_label(mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT),
    }
}
