use super::frames::checksum;
use super::*;

/// The published check of CRC-32C is that of `123456789`. LevelDB turns it by 15 bits and adds
/// 0xa282ead8.
#[test]
fn a_checksum_is_leveldbs() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(checksum(b'1', b"23456789"), 0xc78a_b0e5);
}

#[test]
fn an_empty_file_has_no_entities_and_no_faults() {
    assert!(read_log(&b""[..], "output-0").next().is_none());
}

#[test]
fn a_place_names_file_and_record() {
    let mut log = read_log(&b"12345678"[..], "output-0");
    let (place, fault) = log.next().unwrap();
    assert_eq!(place.to_string(), "output-0 record 1");
    let text = fault.unwrap_err().to_string();
    assert_eq!(
        text,
        "bytes 0 to 8 are damaged: a fragment of no known type; copy the file anew from the bucket \
         and compare its checksum"
    );
    assert!(log.next().is_none());
}
