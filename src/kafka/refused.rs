//! Topics that the brokers do not let this user read: a right that was taken away.

use crate::telemetry::code::Code;
use crate::telemetry::health::Health;

/// Notes whether the brokers let this user read a topic, as a `partition` meets it or, without one,
/// as they describe it; logs it where that is another answer for the topic.
pub fn note(health: &Health, topic: &str, partition: Option<i32>, is_refused: bool) {
    if !health.note_refused(topic, partition, is_refused) {
        return;
    }
    if is_refused {
        tracing::warn!(
            code = %Code::TopicRefused,
            "Kafka does not let this user read the topic {topic}: grant Read on it; what was under \
             way is read again once that is done"
        );
    } else {
        tracing::info!("the topic {topic} may be read again");
    }
}
