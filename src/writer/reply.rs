//! The server's reply to a write command: with `ok: 1` alone, its writes may still have failed.
//! Pure.

use bson::{Bson, Document};

use crate::database::values::number;

/// What an `update` or `delete` reply says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// How many documents matched or, for a delete, were removed; upserted ones count.
    pub n: u64,
    /// How many documents were changed.
    pub modified: u64,
    /// The documents that upserts created, as the server lists them.
    pub upserted: Vec<Bson>,
    /// The first write that failed.
    pub write_error: Option<WriteError>,
    /// The server's code, where the write concern was not reached; 0 where it gives none.
    pub write_concern_error: Option<i32>,
}

/// One entry of `writeErrors`.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteError {
    /// Which write of the command; `usize::MAX` where the server does not say.
    pub index: usize,
    /// The server's code; 0 where it gives none.
    pub code: i32,
    /// The server's message.
    pub message: String,
    /// What the server says beside it, such as the rules of a validator that are not met.
    pub info: Option<Document>,
    /// Whether the duplicate key was that of `_id` alone.
    pub on_id: bool,
}

impl Reply {
    /// How many documents were changed or created.
    pub fn changed(&self) -> u64 {
        self.modified + self.upserted.len() as u64
    }

    /// Reads a reply whose `ok` the driver has checked. Counts that are absent or of another type
    /// are zero: a reply that reports nothing has done nothing. An error is never overlooked,
    /// whatever it looks like.
    pub fn read(mut reply: Document) -> Reply {
        Reply {
            n: count(reply.get("n")),
            modified: count(reply.get("nModified")),
            upserted: match reply.remove("upserted") {
                Some(Bson::Array(upserted)) => upserted,
                _ => Vec::new(),
            },
            write_error: match reply.get("writeErrors") {
                None => None,
                Some(Bson::Array(errors)) => errors.first().map(write_error),
                Some(_) => Some(unreadable()),
            },
            write_concern_error: reply
                .get("writeConcernError")
                .map(|error| error.as_document().map_or(0, code)),
        }
    }
}

/// An error that cannot be read is still an error, but of no write.
fn unreadable() -> WriteError {
    WriteError {
        index: usize::MAX,
        code: 0,
        message: "an unreadable entry of writeErrors".into(),
        info: None,
        on_id: false,
    }
}

fn write_error(error: &Bson) -> WriteError {
    let Bson::Document(error) = error else {
        return unreadable();
    };
    let pattern = error.get_document("keyPattern").ok();
    WriteError {
        index: (number(error.get("index")).and_then(|index| usize::try_from(index).ok()))
            .unwrap_or(usize::MAX),
        code: code(error),
        message: error.get_str("errmsg").unwrap_or_default().to_owned(),
        info: error.get_document("errInfo").ok().cloned(),
        on_id: pattern.is_some_and(|pattern| pattern.keys().eq(["_id"])),
    }
}

fn code(error: &Document) -> i32 {
    number(error.get("code")).map_or(0, |code| i32::try_from(code).unwrap_or(0))
}

/// A count; 0 for what is none.
fn count(value: Option<&Bson>) -> u64 {
    number(value).map_or(0, |count| u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use bson::{Bson, bson, doc};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reply_of_a_server_is_read() {
        let reply = doc! {
            "n": 3,
            "nModified": 1,
            "upserted": [{ "index": 0, "_id": "a" }, { "index": 2, "_id": "b" }],
            "ok": 1.0,
        };
        let expected = Reply {
            n: 3,
            modified: 1,
            upserted: vec![
                bson!({ "index": 0, "_id": "a" }),
                bson!({ "index": 2, "_id": "b" }),
            ],
            write_error: None,
            write_concern_error: None,
        };
        let read = Reply::read(reply);
        assert_eq!((read.changed(), &read), (3, &expected));
    }

    #[test]
    fn numbers_of_every_kind_are_numbers() {
        for three in [Bson::Int32(3), Bson::Int64(3), Bson::Double(3.0)] {
            let reply = Reply::read(doc! { "n": three.clone(), "nModified": three });
            assert_eq!((reply.n, reply.modified), (3, 3));
        }
        for none in [
            bson!(-1),
            bson!(-1_i64),
            bson!(-1.0),
            bson!(f64::NAN),
            bson!("3"),
            Bson::Null,
        ] {
            assert_eq!(Reply::read(doc! { "n": none }), Reply::default());
        }
    }

    #[test]
    fn a_reply_that_reports_nothing_has_done_nothing() {
        assert_eq!(Reply::read(doc! {}), Reply::default());
        assert_eq!(
            Reply::read(doc! { "ok": 1, "writeErrors": [] }),
            Reply::default()
        );
    }

    #[test]
    fn the_first_write_error_counts() {
        let reply = Reply::read(doc! {
            "n": 1,
            "nModified": 0,
            "writeErrors": [
                { "index": 7, "code": 121, "errmsg": "Document failed validation", "errInfo": {} },
                { "index": 8, "code": 2, "errmsg": "second" },
            ],
            "ok": 1.0,
        });
        let message = "Document failed validation".to_owned();
        assert_eq!(
            reply.write_error,
            Some(WriteError {
                index: 7,
                code: 121,
                message,
                info: Some(doc! {}),
                on_id: false
            })
        );
    }

    #[test]
    fn a_duplicate_of_the_id_alone_is_distinguished() {
        for (pattern, on_id) in [
            (bson!({ "_id": 1 }), true),
            (bson!({ "name": 1 }), false),
            (bson!({ "_id": 1, "name": 1 }), false),
            (bson!({}), false),
            (Bson::Null, false),
        ] {
            let mut error = doc! { "index": 0, "code": 11000, "errmsg": "E11000" };
            error.insert("keyPattern", pattern.clone());
            let error = Reply::read(doc! { "writeErrors": [error] })
                .write_error
                .unwrap();
            assert_eq!(error.on_id, on_id, "{pattern}");
        }
        let error = doc! { "index": 0, "code": 11000, "errmsg": "E11000" };
        assert!(
            !Reply::read(doc! { "writeErrors": [error] })
                .write_error
                .unwrap()
                .on_id
        );
    }

    #[test]
    fn an_error_that_cannot_be_read_is_an_error_of_no_write() {
        for errors in [
            bson!("no"),
            bson!({ "code": 121 }),
            Bson::Null,
            bson!([1]),
            bson!([{}]),
        ] {
            let error = Reply::read(doc! { "writeErrors": errors.clone() }).write_error;
            let error = error.unwrap_or_else(|| panic!("{errors} was overlooked"));
            assert_eq!((error.index, error.code), (usize::MAX, 0), "{errors}");
        }
        let far = doc! { "index": 0, "code": (1_i64 << 32) + 121 };
        assert_eq!(
            Reply::read(doc! { "writeErrors": [far] })
                .write_error
                .unwrap()
                .code,
            0
        );
    }

    #[test]
    fn a_write_concern_error_is_seen_whatever_it_looks_like() {
        for (error, code) in [
            (
                bson!({ "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting" }),
                64,
            ),
            (bson!({ "code": 64_i64 }), 64),
            (bson!({}), 0),
            (bson!("?"), 0),
        ] {
            let reply = Reply::read(doc! { "n": 1, "ok": 1, "writeConcernError": error });
            assert_eq!(reply.write_concern_error, Some(code));
        }
        assert_eq!(
            Reply::read(doc! { "n": 1, "ok": 1 }).write_concern_error,
            None
        );
    }

    /// Any value, nested a little.
    fn any_bson() -> impl Strategy<Value = Bson> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Bson::from),
            any::<i64>().prop_map(Bson::from),
            any::<f64>().prop_map(Bson::from),
            any::<bool>().prop_map(Bson::from),
            ".{0,5}".prop_map(Bson::from),
            Just(Bson::Null),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
                fields(inner).prop_map(Bson::Document),
            ]
        })
    }

    fn fields(value: impl Strategy<Value = Bson>) -> impl Strategy<Value = Document> {
        let name = prop::sample::select(vec![
            "n",
            "nModified",
            "upserted",
            "writeErrors",
            "writeConcernError",
            "index",
            "code",
            "errmsg",
            "keyPattern",
            "_id",
        ]);
        let fields = prop::collection::vec((name, value), 0..6);
        fields.prop_map(|fields| {
            fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn no_reply_makes_the_reader_panic_or_overlook_an_error(reply in fields(any_bson())) {
            let read = Reply::read(reply.clone());
            let none = Bson::Array(Vec::new());
            let has_error = reply.get("writeErrors").is_some_and(|errors| *errors != none);
            prop_assert_eq!(read.write_error.is_some(), has_error);
            let has_concern = reply.contains_key("writeConcernError");
            prop_assert_eq!(read.write_concern_error.is_some(), has_concern);
        }
    }
}
