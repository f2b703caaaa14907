//! librdkafka's error codes: which are permanent, and what they are called. Pure.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The code of an error; `Unknown` for one that is not librdkafka's own.
pub(super) fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    let code = error.rdkafka_error_code();
    code.unwrap_or(RDKafkaErrorCode::Unknown)
}

/// Whether an error needs a person, who changes the client's configuration or its user's rights;
/// else it is transient: a broker is unavailable.
pub(super) fn is_permanent(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
    )
}

/// Whether an error is about the records that came, and not about the way to them.
pub(super) fn is_unreadable(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::BadCompression
                | RDKafkaErrorCode::NotImplemented
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::Underflow
        )
    )
}

/// A short name for a code, for the label of a metric.
pub(super) fn code_name(code: RDKafkaErrorCode) -> &'static str {
    match code {
        RDKafkaErrorCode::AllBrokersDown => "all_brokers_down",
        RDKafkaErrorCode::BrokerTransportFailure => "transport",
        RDKafkaErrorCode::Resolve => "resolve",
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            "authentication"
        }
        RDKafkaErrorCode::SSL => "ssl",
        RDKafkaErrorCode::PollExceeded => "max_poll_exceeded",
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
            "unknown_topic"
        }
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed => {
            "authorization"
        }
        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
            "offset_out_of_range"
        }
        RDKafkaErrorCode::Fatal => "fatal",
        _ => "other",
    }
}
