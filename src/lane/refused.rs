//! Topics that the brokers do not let this user read: a right that was taken away.

use crate::record::Partition;
use crate::telemetry::code::Code;
use crate::telemetry::health::Health;

/// Notes whether the brokers let this user read a partition, and logs it where that is another
/// answer for the topic: all its lanes meet the same.
pub(super) fn note(health: &Health, partition: &Partition, is_refused: bool) {
    let topic = &partition.topic;
    if !health.note_refused(topic, partition.number, is_refused) {
        return;
    }
    if is_refused {
        tracing::warn!(
            code = %Code::TopicRefused,
            "Kafka does not let this user read the topic {topic}: grant Read on it; what was read \
             is applied, and the rest waits"
        );
    } else {
        tracing::info!("the topic {topic} may be read again, or is another worker's");
    }
}
