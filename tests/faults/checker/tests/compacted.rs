//! A topic that is compacted while it is read, and what is found of it.

use bson::{Document, Uuid, doc};

use crate::checker::compacted::{Compacted, PREFIX, compacted};
use crate::checker::{CHECKPOINTS, Rule};

fn id() -> String {
    format!("{PREFIX}1")
}

fn event(collection: &str, id: impl Into<bson::Bson>, after: Document, number: i64) -> Document {
    doc! {
        "operationType": "insert",
        "ns": { "coll": collection },
        "documentKey": { "_id": id.into() },
        "fullDocument": after,
        "lsid": { "id": Uuid::from_bytes([7; 16]) },
        "txnNumber": number,
    }
}

/// One entity at revisions 2 and 5 of five: the others were compacted away.
fn good() -> Compacted {
    let state = |revision: i64| doc! { "revision": revision, "echo": revision };
    let place = |to: i64| doc! { "next_offset": to };
    let key = doc! { "group": "group", "topic": "compacted", "partition": 1 };
    Compacted {
        topic: "compacted".to_owned(),
        produced: [(id(), 5)].into(),
        records: 5,
        ends: [(0, 0), (1, 5)].into(),
        events: vec![
            event("models", id(), state(2), 1),
            event(CHECKPOINTS, key.clone(), place(2), 1),
            event(CHECKPOINTS, key, place(5), 2),
            event("models", id(), state(5), 2),
        ],
    }
}

fn fields(compacted: &mut Compacted, event: usize) -> &mut Document {
    compacted.events[event]
        .get_document_mut("fullDocument")
        .unwrap()
}

#[test]
fn an_entity_that_skips_revisions_and_ends_at_its_last_one_is_accepted() {
    let found = compacted(&good());
    assert!(found.is_empty(), "{}", found[0]);
    let mut taken = Compacted {
        topic: "compacted".to_owned(),
        ..Compacted::default()
    };
    let other = event("models", "another", doc! {}, 3);
    let events = [good().events, vec![other.clone()]].concat();
    assert_eq!(taken.take_events(events), [other]);
    assert_eq!(taken.events, good().events);
}

#[test]
fn whatever_else_it_does_is_found() {
    type Wrong = (Rule, fn(&mut Compacted));
    let wrong: [Wrong; 9] = [
        (Rule::Documents, |c| c.produced.extend([(id(), 6)])),
        (Rule::Documents, |c| c.produced.extend([(id(), 4)])),
        (Rule::Documents, |c| drop(c.events.pop())),
        (Rule::Order, |c| c.events.reverse()),
        (Rule::Order, |c| drop(fields(c, 3).insert("echo", 4_i64))),
        (Rule::Order, |c| drop(c.events[3].remove("fullDocument"))),
        (Rule::Transaction, |c| {
            drop(c.events[3].insert("txnNumber", 3_i64))
        }),
        (Rule::Transaction, |c| {
            drop(fields(c, 2).insert("next_offset", 1_i64))
        }),
        (Rule::Checkpoints, |c| {
            drop(fields(c, 2).insert("next_offset", 4_i64))
        }),
    ];
    for (index, (rule, wrong)) in wrong.into_iter().enumerate() {
        let mut evidence = good();
        wrong(&mut evidence);
        let found = compacted(&evidence);
        assert!(
            found.iter().any(|found| found.rule == rule),
            "{index}: {found:?}"
        );
    }
}
