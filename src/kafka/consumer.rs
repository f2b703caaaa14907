//! The consumer that the service reads with, and the one that takes its place where nothing else
//! helps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use rdkafka::error::KafkaResult;

use super::{Consumer, Context};
use crate::config::kafka::client_config;

/// How long leaving the group may take once every lane has ended.
pub(super) const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

/// Where the consumer in use is found; empty before there is one.
pub(super) type Shared = Arc<RwLock<Option<Arc<Consumer>>>>;

/// Creates a consumer from librdkafka's `properties`. It joins no group before it subscribes.
///
/// # Errors
/// librdkafka's, which accepts not all of them.
pub(super) fn create(
    properties: &BTreeMap<String, String>,
    context: Context,
) -> KafkaResult<Consumer> {
    client_config(properties).create_with_context(context)
}

/// Lets everybody use this consumer from now on.
pub(super) fn put_in_use(consumer: Consumer, shared: &Shared) -> Arc<Consumer> {
    let consumer = Arc::new(consumer);
    *shared.write() = Some(Arc::clone(&consumer));
    consumer
}

/// Leaves the group, so that others take over within milliseconds. Every lane should have ended.
pub(super) fn leave(consumer: &Arc<Consumer>) {
    let until = Instant::now() + LEAVE_DEADLINE;
    if let Err(error) = consumer.close_queue() {
        tracing::debug!(%error, "the group could not be left");
        return;
    }
    while !consumer.closed() && Instant::now() < until {
        let _ = consumer.poll(Duration::from_millis(5));
    }
}
