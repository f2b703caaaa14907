//! librdkafka's error codes: which are wrong for good, and what they are called. Pure.

use rdkafka::error::RDKafkaErrorCode;

/// Whether an error of the client says that its configuration is wrong, rather than that a broker is away.
pub fn is_for_good(code: RDKafkaErrorCode) -> bool {
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

/// A short name for a code, fit for a metric label.
pub fn code_name(code: RDKafkaErrorCode) -> &'static str {
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
