//! Leader epochs (KIP-101), which the safe API does not have: that of a message, and those in a
//! list of partitions.
#![allow(unsafe_code)]

use std::ffi::CString;

use rdkafka::TopicPartitionList;
use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;

use crate::record::Partition;

/// The epoch of the leader that wrote `message`; `None` where the broker told none.
pub(super) fn of_message(message: &BorrowedMessage<'_>) -> Option<i32> {
    // SAFETY: the message is alive for the whole call, which only reads it.
    known(unsafe { sys::rd_kafka_message_leader_epoch(message.ptr()) })
}

/// The epoch that stands beside the offset of `partition` in `list`, if one does.
pub(super) fn in_list(list: &TopicPartitionList, partition: &Partition) -> Option<i32> {
    let element = element(list, partition)?;
    // SAFETY: the element is one of the list, which is alive for the whole call.
    known(unsafe { sys::rd_kafka_topic_partition_get_leader_epoch(element) })
}

/// Sets the epoch beside the offset of `partition` in `list`, if it has that partition.
pub(super) fn set_in_list(list: &mut TopicPartitionList, partition: &Partition, epoch: i32) {
    if let Some(element) = element(list, partition) {
        // SAFETY: the element is one of the list, which nobody else has meanwhile.
        unsafe { sys::rd_kafka_topic_partition_set_leader_epoch(element, epoch) };
    }
}

fn element(
    list: &TopicPartitionList,
    partition: &Partition,
) -> Option<*mut sys::rd_kafka_topic_partition_t> {
    let topic = CString::new(&*partition.topic).ok()?;
    // SAFETY: list and name are alive for the whole call, which keeps neither.
    let element = unsafe {
        sys::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition.number)
    };
    (!element.is_null()).then_some(element)
}

/// librdkafka has -1 for an epoch that is not known.
fn known(epoch: i32) -> Option<i32> {
    (epoch >= 0).then_some(epoch)
}
