//! What to do about an error of the driver or the server: a table. Pure.
//!
//! The rule behind it: only what speaks of a document may cost that document its place; whatever
//! else goes wrong passes, and is tried again. An unknown code of one write is the server's word
//! about that write; an unknown code of a whole command is not.

use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, WriteFailure};

/// What an error means for what was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes: again, without limit, with backoff.
    Retry(Cause),
    /// The server refuses the document itself, however often it is sent.
    Reject,
    /// Neither time nor another batch will help: the process must end.
    Fatal,
}

/// Why something is tried again; the `reason` label of `retries_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection, or one that broke.
    Network,
    /// No primary, or one that is stepping down, starting or shutting down.
    Election,
    /// Too slow: a time limit of ours or of the server's was reached.
    Timeout,
    /// The transaction met another one, or is no longer there.
    Conflict,
    /// The server has no room: cache, memory, disk or admission.
    Overload,
    /// Written, but not to a majority.
    WriteConcern,
    /// Not let in, or not allowed: a password may be rotating.
    Authentication,
    /// Anything else that speaks of no document.
    Other,
}

impl Cause {
    /// Every cause, for metrics that start at zero.
    pub const ALL: [Cause; 8] = [
        Cause::Network,
        Cause::Election,
        Cause::Timeout,
        Cause::Conflict,
        Cause::Overload,
        Cause::WriteConcern,
        Cause::Authentication,
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
            Cause::Other => "other",
        }
    }

    /// Whether MongoDB as a whole does not take writes, rather than this batch.
    pub fn is_an_outage(self) -> bool {
        !matches!(self, Cause::Conflict | Cause::Timeout)
    }

    /// Whether a smaller batch may get through where this one did not.
    pub fn calls_for_less(self) -> bool {
        matches!(self, Cause::Timeout | Cause::Conflict | Cause::Overload)
    }
}

/// The server's codes for what passes, by cause. From `error_codes.yml` of the server: everything
/// there that is retriable, an interruption, a stale shard version or a sign of pressure, and what
/// speaks of the server's state rather than of a document.
#[rustfmt::skip]
const PASSING: &[(Cause, &[i32])] = &[
    (Cause::Network, &[
        6, 7, 89, 141, 145, 230, 231, 279, 317, 384, 398, 9001, 56846,
    ]),
    (Cause::Election, &[
        91, 94, 133, 134, 149, 189, 216, 303, 308, 333, 372, 10058, 10107, 11600, 11602, 13435, 13436,
    ]),
    (Cause::Timeout, &[
        24, 46, 50, 202, 262, 290, 407,
    ]),
    (Cause::Conflict, &[
        63, 70, 82, 107, 112, 117, 150, 175, 203, 206, 215, 217, 225, 228, 237, 239, 246, 249, 250, 251, 256, 267, 272,
        281, 282, 314, 319, 338, 342, 343, 355, 356, 358, 363, 374, 375, 406, 412, 413, 414, 453, 11601, 12586, 12587,
        13388, 46841, 50915,
    ]),
    (Cause::Overload, &[
        146, 208, 257, 261, 264, 365, 388, 402, 433, 449, 450, 462, 14031,
    ]),
    (Cause::WriteConcern, &[
        64, 75, 79, 100,
    ]),
    (Cause::Authentication, &[
        11, 13, 18, 31, 33, 214, 334, 337, 390, 391, 392, 404,
    ]),
    (Cause::Other, &[
        0, 1, 8, 77, 90, 263, 301, 310, 371, 8000, 91331, 10045600,
    ]),
];

/// Codes by which a whole command is refused for what a document in it is.
const DOCUMENT: &[i32] = &[15, 22, 378, 10334, 17280, 17419, 17420];

const DUPLICATE_KEY: i32 = 11000;
const NO_SUCH_TRANSACTION: i32 = 251;

#[cfg(test)]
mod tests;

fn cause_of_code(code: i32) -> Option<Cause> {
    PASSING
        .iter()
        .find(|(_, codes)| codes.contains(&code))
        .map(|(cause, _)| *cause)
}

/// The verdict over a command that failed as a whole.
///
/// Never looks at labels alone: after a refused write inside a transaction the following commit
/// answers 251 *with* `TransientTransactionError`, so a writer that went by the label would send
/// the same document for ever. The writer asks [`of_write`] first.
pub fn of_error(error: &Error) -> Verdict {
    let transient = error.contains_label(TRANSIENT_TRANSACTION_ERROR);
    match error.kind.as_ref() {
        ErrorKind::Command(command) => of_command(command.code, transient),
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
            Verdict::Retry(cause_of_code(concern.code).unwrap_or(Cause::WriteConcern))
        }
        ErrorKind::Write(WriteFailure::WriteError(write)) => of_write(write.code, false),
        ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::TimedOut => {
            Verdict::Retry(Cause::Timeout)
        }
        ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. } => Verdict::Retry(Cause::Network),
        ErrorKind::ServerSelection { .. } => Verdict::Retry(Cause::Election),
        ErrorKind::Authentication { .. } | ErrorKind::Shutdown => {
            Verdict::Retry(Cause::Authentication)
        }
        ErrorKind::SessionsNotSupported | ErrorKind::IncompatibleServer { .. } => Verdict::Fatal,
        _ => Verdict::Retry(Cause::Other),
    }
}

/// The verdict over a command that the server answered with `code`.
pub fn of_command(code: i32, transient_label: bool) -> Verdict {
    match cause_of_code(code) {
        Some(cause) => Verdict::Retry(cause),
        None if transient_label => Verdict::Retry(Cause::Conflict),
        None if DOCUMENT.contains(&code) => Verdict::Reject,
        None => Verdict::Retry(Cause::Other),
    }
}

/// The verdict over one entry of `writeErrors`. `on_id` says that a duplicate key was that of `_id`:
/// two upserts raced, and the next try finds the document.
pub fn of_write(code: i32, on_id: bool) -> Verdict {
    match cause_of_code(code) {
        Some(cause) => Verdict::Retry(cause),
        None if code == DUPLICATE_KEY && on_id => Verdict::Retry(Cause::Conflict),
        None => Verdict::Reject,
    }
}

/// The server's code for a command that it refused.
pub(crate) fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

/// What a log may say of an error. The server's message is left out: it may quote the command with
/// the documents in it, and 13 (Unauthorized) always does.
pub fn shown(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => format!("{} (code {})", command.code_name, command.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
            format!("{} (code {})", concern.code_name, concern.code)
        }
        ErrorKind::Write(WriteFailure::WriteError(write)) => format!("write error {}", write.code),
        kind => kind.to_string(),
    }
}

/// Whether a commit's answer leaves open what became of it, so that it is to be sent again. Never
/// for 251, however it is labelled: that transaction may have been committed and its record reaped
/// since, and only the checkpoint can tell.
pub fn commit_is_unknown(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Command(command) if command.code == NO_SUCH_TRANSACTION => false,
        _ => error.contains_label(mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT),
    }
}
