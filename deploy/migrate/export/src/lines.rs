//! Entities of JSON, one a line.

use std::io::{self, BufRead, ErrorKind};
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::json::Json;
use crate::{ENTITY_BYTES_MAX, Entity, Fault, Place, plain, rest};

/// The mark that some programs write at the beginning of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The entities of a text of JSON lines, and its faults.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    file: Arc<str>,
    line: u64,
    text: Vec<u8>,
    ended: bool,
}

/// Reads JSON, one entity a line, that is not compressed. `file` is its name in each place.
///
/// Lines of blanks are no entities and no faults. Each line is of the REST API's form or of the
/// plain one.
pub fn read_lines<R: BufRead>(input: R, file: &str) -> Lines<R> {
    Lines {
        input,
        file: file.into(),
        line: 0,
        text: vec![],
        ended: false,
    }
}

/// Reads the entity of one line. If its key is an object it is a `v1.Entity`, and otherwise a plain
/// one. If it has both `__key__` and `key`, then `__key__` is its key and `key` a property.
///
/// # Errors
///
/// A [`Fault`] that is not of a file but of the line.
pub fn decode_line(line: &[u8]) -> Result<Entity, Fault> {
    if line.len() > ENTITY_BYTES_MAX {
        return Err(Fault::Oversize);
    }
    let text = std::str::from_utf8(line).map_err(|_| Fault::NotJson { column: 0 })?;
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| Fault::NotJson {
        column: error.column(),
    })?;
    let not_entity = |why: &str| Fault::NotEntity { why: why.into() };
    let Json::Object(mut members) = Json::parse(raw).map_err(not_entity)? else {
        return Err(not_entity("no object"));
    };
    let key = members.take("__key__").or_else(|| members.take("key"));
    let key = key.ok_or_else(|| not_entity("no member key or __key__"))?;
    match Json::parse(key).map_err(not_entity)? {
        Json::Object(key) => rest::entity(members, key),
        Json::Text(text) => plain::entity(members, plain::key_of_text(&text)?),
        Json::Array(list) => plain::entity(members, plain::key_of_list(list)?),
        _ => Err(not_entity("a key that is neither text, list nor object")),
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = (Place, Result<Entity, Fault>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            self.text.clear();
            let read = match read_line(&mut self.input, &mut self.text) {
                Ok(Line::End) => {
                    self.ended = true;
                    return None;
                }
                Ok(Line::Whole) => Ok(()),
                Ok(Line::Oversize) => Err(Fault::Oversize),
                Err(error) => {
                    self.ended = true;
                    Err(Fault::Io(error))
                }
            };
            self.line += 1;
            let mut text = self.text.as_slice();
            if self.line == 1 {
                text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
            }
            if read.is_ok() && text.trim_ascii().is_empty() {
                continue;
            }
            let place = Place {
                file: Arc::clone(&self.file),
                record: self.line,
            };
            return Some((place, read.and_then(|()| decode_line(text))));
        }
        None
    }
}

enum Line {
    Whole,
    Oversize,
    End,
}

/// One line without its end. One that is too long is read to its end, but not kept.
fn read_line(input: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<Line> {
    let mut oversize = false;
    let mut any = false;
    loop {
        let bytes = match input.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        any |= !bytes.is_empty();
        oversize |= text.len() + part.len() > ENTITY_BYTES_MAX;
        if !oversize {
            text.extend_from_slice(part);
        }
        let last = end.is_some() || bytes.is_empty();
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if last {
            return Ok(match (any, oversize) {
                (false, _) => Line::End,
                (true, true) => Line::Oversize,
                (true, false) => Line::Whole,
            });
        }
    }
}

#[cfg(test)]
mod tests;
