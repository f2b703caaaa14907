//! The headers of a message, their names as bytes: Kafka lets a name be any bytes, and the safe API
//! panics on one that is not UTF-8.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::{ptr, slice};

use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;

use crate::record::Header;

/// The headers of `message`, in their order. A name that holds NUL ends there: librdkafka shows no
/// more of it.
///
/// `None` where librdkafka cannot read them.
pub(super) fn headers(message: &BorrowedMessage<'_>) -> Option<Vec<Header>> {
    use sys::rd_kafka_resp_err_t::{RD_KAFKA_RESP_ERR__NOENT, RD_KAFKA_RESP_ERR_NO_ERROR};
    let mut list = ptr::null_mut();
    // SAFETY: the message is alive for the whole call, and so is what it owns: the list, which is
    // parsed at the first call and freed with the message. `list` is written before it is read
    // where there was no error.
    match unsafe { sys::rd_kafka_message_headers(message.ptr(), &mut list) } {
        RD_KAFKA_RESP_ERR_NO_ERROR => {}
        RD_KAFKA_RESP_ERR__NOENT => return Some(Vec::new()),
        _ => return None,
    }
    // SAFETY: as above.
    let count = unsafe { sys::rd_kafka_header_cnt(list) };
    (0..count).map(|index| header(list, index)).collect()
}

fn header(list: *const sys::rd_kafka_headers_t, index: usize) -> Option<Header> {
    let (mut name, mut value, mut value_len) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the caller's list is alive. Where there is no error, the name ends with NUL, and the
    // value has so many bytes or is null; both belong to the list, and are copied here.
    unsafe {
        let error =
            sys::rd_kafka_header_get_all(list, index, &mut name, &mut value, &mut value_len);
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return None;
        }
        let bytes = |value| slice::from_raw_parts(value, value_len).to_vec();
        let value = (!value.is_null()).then(|| bytes(value.cast::<u8>()));
        Some((CStr::from_ptr(name).to_bytes().to_vec(), value))
    }
}
