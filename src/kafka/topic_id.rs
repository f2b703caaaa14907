//! The id that a broker gives a topic (KIP-516): the one thing that tells a topic from a later one
//! of the same name. The safe API does not have it; so this file asks librdkafka itself.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::ptr;
use std::time::Duration;

use bson::Uuid;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka_sys as sys;

/// Asks the broker for the id of `topic`. Blocks for up to `timeout` (0.4 ms where all is well).
///
/// `None` where the broker is too old to have ids, the topic is unknown, or no answer came: an
/// absent id never means that the topic is another one.
pub fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Option<Uuid> {
    let topic = CString::new(topic).expect("a topic's name, which has no NUL");
    let timeout_ms = i32::try_from(timeout.as_millis()).expect("a timeout of less than 24 days");
    // SAFETY: `client` owns a live handle for the whole call. Everything created here is destroyed
    // here, once, after its last use: the options and the collection once the request is enqueued
    // (librdkafka copies both), the event after the description that points into it was read, the
    // queue last. The request cannot outlive the queue: librdkafka drops replies for a destroyed
    // queue. The array of names and the name outlive the call that copies them. Pointers that may
    // be null (event, result, description, id) are checked before use.
    unsafe {
        let handle = client.native_ptr();
        let queue = sys::rd_kafka_queue_new(handle);
        let options = sys::rd_kafka_AdminOptions_new(
            handle,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        let mut names: [*const c_char; 1] = [topic.as_ptr()];
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        sys::rd_kafka_DescribeTopics(handle, topics, options, queue);
        sys::rd_kafka_TopicCollection_destroy(topics);
        sys::rd_kafka_AdminOptions_destroy(options);
        let event = sys::rd_kafka_queue_poll(queue, timeout_ms);
        let id = if event.is_null() { None } else { read(event) };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        id
    }
}

/// The id in the first description of a reply.
///
/// # Safety
/// `event` must be a live event.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Option<Uuid> {
    // SAFETY: the result and what it points to live as long as the event does, which the caller
    // keeps; each pointer is checked before it is followed.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() || sys::rd_kafka_event_error(event) as i32 != 0 {
            return None;
        }
        let mut count = 0;
        let descriptions = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if descriptions.is_null() || count == 0 {
            return None;
        }
        let description = *descriptions;
        let error = sys::rd_kafka_TopicDescription_error(description);
        if !error.is_null() && sys::rd_kafka_error_code(error) as i32 != 0 {
            return None;
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            return None;
        }
        let high = sys::rd_kafka_Uuid_most_significant_bits(id).to_be_bytes();
        let low = sys::rd_kafka_Uuid_least_significant_bits(id).to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low);
        (bytes != [0; 16]).then(|| Uuid::from_bytes(bytes))
    }
}
