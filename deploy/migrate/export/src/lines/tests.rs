use std::io::{BufReader, Read, repeat};

use super::*;

#[test]
fn a_line_that_is_too_long_is_not_kept() {
    let length = 4 * ENTITY_BYTES_MAX as u64;
    let mut lines = read_lines(BufReader::new(repeat(b'x').take(length)), "-");
    let (_, found) = lines.next().unwrap();
    assert!(matches!(found, Err(Fault::Oversize)));
    assert!(lines.text.capacity() < 2 * ENTITY_BYTES_MAX);
    assert!(lines.next().is_none());
}
