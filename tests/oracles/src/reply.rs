//! Whatever a server answers, an error in it is never read as success.

use bson::{Bson, Document, RawDocument};
use workflows_sink::writer::reply::Reply;

/// A reply: BSON, or after `{` extended JSON, which mutates into more that is valid.
pub fn holds(data: &[u8]) {
    let reply = if data.first() == Some(&b'{') {
        let Ok(reply) = serde_json::from_slice::<Document>(data) else {
            return;
        };
        reply
    } else {
        let Ok(Ok(reply)) = RawDocument::from_bytes(data).map(Document::try_from) else {
            return;
        };
        reply
    };
    let read = Reply::read(reply.clone());
    let errors = match reply.get("writeErrors") {
        None => false,
        Some(Bson::Array(errors)) => !errors.is_empty(),
        Some(_) => true,
    };
    assert_eq!(read.write_error.is_some(), errors, "{reply}");
    assert_eq!(
        read.write_concern_error.is_some(),
        reply.contains_key("writeConcernError"),
        "{reply}"
    );
    let counts = [("n", read.n), ("nModified", read.modified)];
    for (name, count) in counts {
        let claimed = match reply.get(name) {
            Some(Bson::Int32(n)) => f64::from(*n),
            Some(Bson::Int64(n)) => *n as f64,
            Some(Bson::Double(n)) => *n,
            _ => 0.0,
        };
        assert!(count == 0 || count as f64 <= claimed, "{reply}");
    }
    let upserted = reply.get_array("upserted").map_or(0, Vec::len);
    assert_eq!(read.upserted.len(), upserted);
    assert_eq!(read, Reply::read(reply.clone()));
}
