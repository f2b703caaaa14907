//! This worker's name in its group, which the safe API does not give.
#![allow(unsafe_code)]

use std::ffi::CStr;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka_sys as sys;

/// The id under which the group's coordinator lists this client as a member, as
/// `kafka-consumer-groups.sh --describe --members` shows it; `None` where it is not a member now.
/// Blocks until librdkafka's main thread has answered: well below a millisecond. It does not answer
/// once it has left the group for good, so a client that is being closed is not to be asked.
pub(super) fn member_id<C: ClientContext>(client: &Client<C>) -> Option<String> {
    // SAFETY: the client outlives the call. The result is null or a string of librdkafka's, ends in
    // a NUL, belongs to the caller, and is freed once, after it was copied.
    let id = unsafe {
        let id = sys::rd_kafka_memberid(client.native_ptr());
        if id.is_null() {
            return None;
        }
        let copied = CStr::from_ptr(id).to_string_lossy().into_owned();
        sys::rd_kafka_mem_free(client.native_ptr(), id.cast());
        copied
    };
    (!id.is_empty()).then_some(id)
}
