//! What is logged of Kafka's client: its callbacks, and its own log.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use crate::telemetry::code::Code;

/// Logs what is assigned. Each rebalance of a group assigns, mostly nothing: that is said once, at
/// the entry into the group.
pub(super) fn log_assigned(count: usize, was_joined: bool) {
    match (count, was_joined) {
        (0, true) => {}
        (0, false) => tracing::info!("in the group, which has no partition for this worker"),
        _ => tracing::info!(count, "partitions assigned"),
    }
}

/// Logs what is revoked, and warns where that is because the group has gone on without this worker.
pub(super) fn log_revoked(count: usize, lost: bool) {
    match (count, lost) {
        (0, _) => {}
        (_, false) => tracing::info!(count, "partitions revoked"),
        (_, true) => tracing::warn!(
            code = %Code::AssignmentLost, count,
            "partitions revoked as lost: whoever has them now reads again what was under way"
        ),
    }
}

/// Logs a commit that failed. Offsets are committed for people and tools; the checkpoint does not
/// depend on them.
pub(super) fn log_commit(result: KafkaResult<()>) {
    match result.as_ref().map_err(KafkaError::rdkafka_error_code) {
        Ok(()) | Err(Some(RDKafkaErrorCode::NoOffset)) => {}
        _ => tracing::debug!(
            ?result,
            "offsets were not committed; a later commit or the checkpoint makes up for it"
        ),
    }
}

/// Logs what librdkafka logs, one level down: what matters of it comes as an error as well.
pub(super) fn forward_log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => {
            tracing::debug!(target: "librdkafka", facility, "{message}")
        }
        _ => tracing::trace!(target: "librdkafka", facility, "{message}"),
    }
}
