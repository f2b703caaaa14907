//! One request of librdkafka's admin API, for what the safe API does not have: sent, waited for,
//! and read.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr;
use std::time::{Duration, Instant};

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
const BEYOND: Duration = Duration::from_secs(1);

/// A request that was sent, until its answer is read: several can be under way at a time. On a
/// connection that waits for new records a broker answers each question only when that wait ends
/// (`fetch.wait.max.ms`), so questions that follow each other wait as many times.
pub(super) struct Asked<'c> {
    queue: *mut sys::rd_kafka_queue_t,
    /// Until when the answer is waited for.
    until: Instant,
    /// The queue is the client's.
    client: PhantomData<&'c sys::rd_kafka_t>,
}

/// Sends one request of kind `op` on the client's own connections. Does not block.
///
/// # Safety
/// `send` must enqueue one request of kind `op` for the queue that it is given, and keep no
/// pointer.
pub(super) unsafe fn send<C: ClientContext>(
    client: &Client<C>,
    op: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(&AdminRequest),
) -> Asked<'_> {
    let handle = client.native_ptr();
    // SAFETY: `client` owns a live handle for the whole call, and outlives what is returned. The
    // options are destroyed once the request is enqueued (librdkafka copies them), the queue when
    // what is returned is dropped.
    let queue = unsafe {
        let queue = sys::rd_kafka_queue_new(handle);
        let options = sys::rd_kafka_AdminOptions_new(handle, op);
        let timeout_ms = in_ms(timeout);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        let request = AdminRequest {
            handle,
            options,
            queue,
        };
        send(&request);
        sys::rd_kafka_AdminOptions_destroy(options);
        queue
    };
    Asked {
        queue,
        until: Instant::now() + timeout + BEYOND,
        client: PhantomData,
    }
}

impl Asked<'_> {
    /// Waits for the answer and reads it. Blocks until the request's timeout and a second have
    /// passed since it was sent; `None` where no answer came by then, or where `read` finds none in
    /// it.
    ///
    /// # Safety
    /// `read` must read the answer to such a request as was sent, and keep no pointer.
    pub(super) unsafe fn answer<T>(
        self,
        read: impl FnOnce(*mut sys::rd_kafka_event_t) -> Option<T>,
    ) -> Option<T> {
        let wait_ms = in_ms(self.until.saturating_duration_since(Instant::now()));
        // SAFETY: the queue lives until `self` is dropped. The event is checked before use, and
        // destroyed once, after it was read.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.queue, wait_ms);
            if event.is_null() {
                return None;
            }
            let answer = read(event);
            sys::rd_kafka_event_destroy(event);
            answer
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        // SAFETY: it was made in `send`, and nothing uses it afterwards. The request cannot outlive
        // it: librdkafka drops replies for a destroyed queue.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) }
    }
}

fn in_ms(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).expect("a timeout of less than 24 days")
}
