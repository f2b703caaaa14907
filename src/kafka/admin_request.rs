//! One request of librdkafka's admin API, for what the safe API does not have: sent, waited for,
//! and read.
#![allow(unsafe_code)]

use std::ptr;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka_sys as sys;

/// What a request is sent with.
pub(super) struct AdminRequest {
    /// The client's handle.
    pub(super) handle: *mut sys::rd_kafka_t,
    /// The request's options, which the call copies.
    pub(super) options: *mut sys::rd_kafka_AdminOptions_t,
    /// Where the answer arrives.
    pub(super) queue: *mut sys::rd_kafka_queue_t,
}

/// How much longer than the request the answer is waited for: what goes to several brokers begins
/// its timeout at each later, and the answer has those that did answer.
const BEYOND_MS: i32 = 1_000;

/// Sends one request of kind `op` on the client's own connections, and reads its answer. Blocks for
/// up to `timeout` and a second; `None` where no answer came by then, or where `read` finds none in
/// it.
///
/// # Safety
/// `send` must enqueue one request of kind `op` for the queue that it is given, and `read` must
/// read the answer to such a request; neither may keep a pointer.
pub(super) unsafe fn ask<C: ClientContext, T>(
    client: &Client<C>,
    op: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(&AdminRequest),
    read: impl FnOnce(*mut sys::rd_kafka_event_t) -> Option<T>,
) -> Option<T> {
    let timeout_ms = i32::try_from(timeout.as_millis()).expect("a timeout of less than 24 days");
    let handle = client.native_ptr();
    // SAFETY: `client` owns a live handle for the whole call. Everything created here is destroyed
    // here, once, after its last use: the options once the request is enqueued (librdkafka copies
    // them), the event after it was read, the queue last. The request cannot outlive the queue:
    // librdkafka drops replies for a destroyed queue. The event is checked before use.
    unsafe {
        let queue = sys::rd_kafka_queue_new(handle);
        let options = sys::rd_kafka_AdminOptions_new(handle, op);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        let request = AdminRequest {
            handle,
            options,
            queue,
        };
        send(&request);
        sys::rd_kafka_AdminOptions_destroy(options);
        let event = sys::rd_kafka_queue_poll(queue, timeout_ms + BEYOND_MS);
        let mut answer = None;
        if !event.is_null() {
            answer = read(event);
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}
