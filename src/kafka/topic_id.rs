//! What a broker says of a topic: whether there is one, how many partitions it has, and its id
//! (KIP-516), which is the one thing that tells a topic from a later one of the same name.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::time::Duration;

use bson::Uuid;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::admin_request::{self, Asked};

/// What a broker says of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// How many partitions it has; 0 where there is no such topic.
    pub(super) partitions: usize,
    /// Its id; `None` where the broker is too old to have ids.
    pub(super) id: Option<Uuid>,
}

/// What a broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What it knows.
    Topic(Described),
    /// This user may not be told.
    Refused,
}

/// The question what a broker, which may be behind, knows of a topic.
pub(super) struct TopicAsked<'c>(Asked<'c>);

impl TopicAsked<'_> {
    /// Asks one broker. Does not block.
    pub(super) fn send<'c, C: ClientContext>(
        client: &'c Client<C>,
        topic: &str,
        timeout: Duration,
    ) -> TopicAsked<'c> {
        let topic = CString::new(topic).expect("a topic's name, which has no NUL");
        let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        // SAFETY: one such request is enqueued. The name and the array of names outlive the call
        // that copies them, and the collection is destroyed once, after the call that copies it.
        let asked = unsafe {
            admin_request::send(client, op, timeout, |request| {
                let mut names: [*const c_char; 1] = [topic.as_ptr()];
                let topics =
                    sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
                sys::rd_kafka_DescribeTopics(
                    request.handle,
                    topics,
                    request.options,
                    request.queue,
                );
                sys::rd_kafka_TopicCollection_destroy(topics);
            })
        };
        TopicAsked(asked)
    }

    /// The answer; `None` where none came in time.
    pub(super) fn answer(self) -> Option<Answer> {
        // SAFETY: a request for descriptions was sent.
        unsafe { self.0.answer(|event| read(event)) }
    }

    /// The topic's id.
    ///
    /// `None` where the broker is too old to have ids, the topic is unknown, or no answer came: an
    /// absent id never means that the topic is another one.
    pub(super) fn id(self) -> Option<Uuid> {
        match self.answer()? {
            Answer::Topic(described) => described.id,
            Answer::Refused => None,
        }
    }
}

/// Asks the broker for the id of `topic`. Blocks for up to `timeout` and a second (0.4 ms where all
/// is well): see [`TopicAsked::id`].
pub fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Option<Uuid> {
    TopicAsked::send(client, topic, timeout).id()
}

/// Asks one broker, which may be behind, what it knows of `topic`. Blocks for up to `timeout` and a
/// second. `None` where no answer came.
pub(super) fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Option<Answer> {
    TopicAsked::send(client, topic, timeout).answer()
}

/// The first description of a reply.
///
/// # Safety
/// `event` must be a live event.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Option<Answer> {
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
        if !error.is_null() {
            match RDKafkaErrorCode::from(sys::rd_kafka_error_code(error)) {
                RDKafkaErrorCode::NoError => {}
                RDKafkaErrorCode::UnknownTopicOrPartition => {
                    let (partitions, id) = (0, None);
                    return Some(Answer::Topic(Described { partitions, id }));
                }
                RDKafkaErrorCode::TopicAuthorizationFailed => return Some(Answer::Refused),
                _ => return None,
            }
        }
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(description, &mut partitions);
        let id = sys::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            let id = None;
            return Some(Answer::Topic(Described { partitions, id }));
        }
        let high = sys::rd_kafka_Uuid_most_significant_bits(id).to_be_bytes();
        let low = sys::rd_kafka_Uuid_least_significant_bits(id).to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low);
        let id = (bytes != [0; 16]).then(|| Uuid::from_bytes(bytes));
        Some(Answer::Topic(Described { partitions, id }))
    }
}
