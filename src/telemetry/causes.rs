//! An error and its causes as one line. Pure.

/// An error with its causes, one behind the other; those that it quotes already are left out, as
/// most of the Kafka client's do.
pub fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        let kafka = KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure);
        let error = anyhow!(kafka.clone()).context("the group cannot be described");
        assert_eq!(
            told(&error),
            format!("the group cannot be described: {kafka}")
        );
        assert_eq!(told(&anyhow!("inner").context("outer")), "outer: inner");
        assert_eq!(told(&anyhow!("alone")), "alone");
    }
}
