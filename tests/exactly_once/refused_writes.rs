//! A write that the server refuses costs that record its place, and no other.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use workflows_sink::database::errors::Cause;
use workflows_sink::record::entity::Reason;

use crate::support::proxy::Act;
use crate::support::{Sink, World, letter_offset, records, settle, write};

const VALIDATION: i32 = 121;
const DUPLICATE_KEY: i32 = 11000;

/// Datasets whose `n` is 1000 or more are refused.
pub async fn with_validator(name: &str) -> World {
    let world = World::new(name).await;
    let validator = doc! { "n": { "$not": { "$gte": 1000 } } };
    let modify = doc! { "collMod": "datasets", "validator": validator };
    world.database.run_command(modify).await.unwrap();
    world
}

/// Models must differ in `name`.
async fn with_unique_names(name: &str) -> World {
    let world = World::new(name).await;
    let index = doc! { "key": { "name": 1 }, "name": "unique_name", "unique": true };
    let create = doc! { "createIndexes": "models", "indexes": [index] };
    world.database.run_command(create).await.unwrap();
    world
}

/// The server's code of each dead letter, by offset.
pub async fn refused(world: &World) -> BTreeMap<i64, i32> {
    let letters = world.dead_letters().await;
    let code = |letter: &Document| {
        assert_eq!(letter.get_str("reason").unwrap(), "write_error");
        let error = letter.get_document("error").unwrap();
        assert!(!error.get_str("message").unwrap().is_empty());
        error.get_i32("code").unwrap()
    };
    letters
        .iter()
        .map(|letter| (letter_offset(letter), code(letter)))
        .collect()
}

/// How many transactions a sink has begun since it was asked last.
fn transactions(sink: &Sink) -> usize {
    let ends = ["commitTransaction", "abortTransaction"];
    let commands = sink.commands.take();
    commands
        .iter()
        .filter(|name| ends.contains(&name.as_str()))
        .count()
}

#[tokio::test]
async fn a_record_that_a_validator_refuses_is_rejected_alone() {
    let world = with_validator("validator").await;
    for sink in [world.sink().await, world.sink().await.unfolding("Dataset")] {
        let folds = sink.unfoldable.is_empty();
        let id = |name: &str| format!("{name}-{folds}");
        let first = world
            .checkpoint()
            .await
            .map_or(0, |found| found.next_offset);
        let mut writer = sink.writer(first).await;
        let batch = records(first)
            .dataset(&id("a"), r#""n": 1"#)
            .entity("Model", &id("m"), r#""n": 5000"#)
            .dataset(&id("b"), r#""n": 1000"#)
            .dataset(&id("c"), r#""n": 3"#)
            .batch();
        let (written, causes) = write(&mut writer, &batch).await;
        let settled = written.unwrap();

        assert!(causes.is_empty(), "{causes:?}");
        assert_eq!(settled.next_offset(), first + 4);
        assert_eq!(settled.counts().upserted, 3);
        assert_eq!(settled.counts().reasons(), [Reason::WriteError]);
        assert_eq!(refused(&world).await[&(first + 2)], VALIDATION);
        let documents = world.documents("datasets").await;
        assert_eq!(documents[&id("a")].get_i32("n").unwrap(), 1);
        assert_eq!(documents[&id("c")].get_i32("n").unwrap(), 3);
        assert!(!documents.contains_key(&id("b")));
        assert!(world.documents("models").await.contains_key(&id("m")));
    }
    assert_eq!(refused(&world).await.len(), 2);
}

#[tokio::test]
async fn a_refused_record_is_kept_as_it_came_with_the_servers_words() {
    let world = with_validator("kept").await;
    let mut writer = world.sink().await.writer(0).await;
    let batch = records(0).dataset("a", r#""n": 1000"#).batch();
    settle(&mut writer, &batch).await;
    let letters = world.dead_letters().await;
    let letter = &letters[0];
    let info = doc! {
        "failingDocumentId": "a",
        "details": {
            "operatorName": "$not",
            "details": {
                "operatorName": "$gte",
                "specifiedAs": { "n": { "$gte": 1000 } },
                "reason": "comparison succeeded",
                "consideredValue": 1000,
            },
        },
    };
    let error = doc! {
        "code": VALIDATION, "message": "Document failed validation", "info": info,
    };
    assert_eq!(letter.get_document("error").unwrap(), &error);
    let bytes = |name: &str| letter.get_binary_generic(name).unwrap().clone();
    assert_eq!(bytes("key"), b"a");
    assert_eq!(
        bytes("value"),
        br#"{"id": "a", "kind": "Dataset", "n": 1000}"#
    );
}

/// A transaction that refused a write has gone, and its commit would be answered with 251 and a
/// transient label: whoever relies on it tries forever.
#[tokio::test]
async fn a_batch_of_nothing_but_poison_is_not_tried_for_ever() {
    let world = with_validator("nothing_but_poison").await;
    let sink = world.sink().await;
    let mut writer = sink.writer(0).await;
    sink.commands.take();
    let batch = records(0).dataset("a", r#""n": 1000"#).batch();
    let (written, causes) = write(&mut writer, &batch).await;
    assert_eq!(written.unwrap().next_offset(), 1);
    assert!(causes.is_empty(), "{causes:?}");
    assert_eq!(transactions(&sink), 2);
    assert_eq!(refused(&world).await, BTreeMap::from([(0, VALIDATION)]));
}

#[tokio::test]
async fn of_states_that_were_folded_only_the_refused_one_is_rejected() {
    let world = with_validator("folded").await;
    let mut writer = world.sink().await.writer(0).await;
    let batch = records(0)
        .dataset("a", r#""n": 1, "first": true"#)
        .dataset("b", r#""n": 1"#)
        .dataset("a", r#""second": true"#)
        .dataset("a", r#""n": 1000, "third": true"#)
        .dataset("b", r#""n": 2"#)
        .batch();
    let settled = settle(&mut writer, &batch).await;
    assert_eq!(settled.next_offset(), 5);
    assert_eq!(refused(&world).await, BTreeMap::from([(3, VALIDATION)]));
    let documents = world.documents("datasets").await;
    let a = doc! { "kind": "Dataset", "n": 1, "first": true, "second": true };
    assert_eq!(documents["a"], a);
    assert_eq!(documents["b"].get_i32("n").unwrap(), 2);
}

/// Folded, the refused state would hide behind the later one.
#[tokio::test]
async fn where_states_are_not_folded_a_refused_one_does_not_hide_behind_a_later_one() {
    let world = with_validator("unfolded").await;
    let sink = world.sink().await.unfolding("Dataset");
    let mut writer = sink.writer(0).await;
    let batch = records(0)
        .dataset("a", r#""n": 1"#)
        .dataset("a", r#""n": 1000, "second": true"#)
        .dataset("a", r#""n": 3"#)
        .batch();
    let settled = settle(&mut writer, &batch).await;
    assert_eq!((settled.counts().upserted, settled.counts().folded), (2, 0));
    assert_eq!(refused(&world).await, BTreeMap::from([(1, VALIDATION)]));
    let documents = world.documents("datasets").await;
    assert_eq!(documents["a"], doc! { "kind": "Dataset", "n": 3 });
}

#[tokio::test]
async fn a_record_that_a_unique_index_refuses_is_rejected_alone() {
    let world = with_unique_names("unique").await;
    let mut writer = world.sink().await.writer(0).await;
    let batch = records(0)
        .entity("Model", "a", r#""name": "x""#)
        .entity("Model", "b", r#""name": "x""#)
        .dataset("d", r#""n": 1"#)
        .entity("Model", "c", r#""name": "y""#)
        .batch();
    settle(&mut writer, &batch).await;
    assert_eq!(refused(&world).await, BTreeMap::from([(1, DUPLICATE_KEY)]));
    let models = world.documents("models").await;
    assert_eq!(models.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(world.documents("datasets").await.len(), 1);
}

/// What stands before a refused record is committed before the rest goes on: no record is written
/// more than twice.
#[tokio::test]
async fn many_refused_records_cost_two_transactions_each() {
    const RECORDS: usize = 2_000;
    const EVERY: usize = 20;
    let world = with_validator("many_refused").await;
    let sink = world.sink().await.unfolding("Dataset");
    let mut writer = sink.writer(0).await;
    let mut batch = records(0);
    for n in 0..RECORDS {
        let value = if n % EVERY == 7 { 1000 + n } else { n % 1000 };
        batch = batch.dataset(&format!("d-{n}"), &format!(r#""n": {value}"#));
    }
    sink.commands.take();
    let settled = settle(&mut writer, &batch.batch()).await;

    let poison = RECORDS / EVERY;
    let begun = transactions(&sink);
    assert!(begun <= 2 * poison + 1, "{begun}");
    assert_eq!(settled.counts().upserted as usize, RECORDS - poison);
    assert_eq!(settled.counts().rejected.len(), poison);
    assert_eq!(world.documents("datasets").await.len(), RECORDS - poison);
    let refused = refused(&world).await;
    assert_eq!(refused.len(), poison);
    assert!(refused.keys().all(|offset| offset % EVERY as i64 == 7));
    assert_eq!(world.commits().await, poison + 1);
}

/// A large document that only becomes too large by what is there already.
#[tokio::test]
async fn a_state_that_would_make_its_document_too_large_is_rejected_alone() {
    let world = World::new("too_large_together").await;
    let mut writer = world.sink().await.writer(0).await;
    let half = "x".repeat(9 * 1024 * 1024);
    let batch = records(0)
        .dataset("big", &format!(r#""one": "{half}""#))
        .dataset("small", r#""n": 1"#)
        .dataset("big", &format!(r#""other": "{half}""#))
        .dataset("last", r#""n": 2"#)
        .batch();
    let settled = settle(&mut writer, &batch).await;
    assert_eq!(settled.next_offset(), 4);
    assert_eq!(settled.counts().reasons(), [Reason::WriteError]);
    assert_eq!(refused(&world).await.keys().collect::<Vec<_>>(), [&2]);
    let documents = world.documents("datasets").await;
    assert_eq!(documents.len(), 3);
    assert!(documents["big"].contains_key("one") && !documents["big"].contains_key("other"));
}

/// Two upserts of one entity raced; the next try finds the document. A server answers so only
/// outside of transactions and when sharded, hence the made-up answer.
#[tokio::test]
async fn a_duplicate_of_id_is_retried_and_not_rejected() {
    let world = World::new("duplicate_id").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;
    let error =
        doc! { "index": 0, "code": DUPLICATE_KEY, "errmsg": "E11000", "keyPattern": { "_id": 1 } };
    proxy.at(
        1,
        Act::Answer(doc! { "ok": 1, "n": 0, "nModified": 0, "writeErrors": [error] }),
    );
    let (written, causes) = write(&mut writer, &records(0).datasets("d", 2).batch()).await;
    assert_eq!(causes, [Cause::Conflict]);
    assert_eq!(written.unwrap().counts().upserted, 2);
    assert!(world.dead_letters().await.is_empty());
}

/// The index of an error may be nonsense, and a refusal may concern a write of ours: nobody's
/// record is to pay for that.
#[tokio::test]
async fn a_refusal_that_speaks_of_no_record_rejects_none() {
    let world = World::new("nobodys_refusal").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;
    let refusal = |index: i32| {
        let error = doc! { "index": index, "code": VALIDATION, "errmsg": "refused" };
        Act::Answer(doc! { "ok": 1, "n": 1, "nModified": 1, "writeErrors": [error] })
    };
    for (offset, nth, index) in [(0, 0, 0), (2, 1, 99)] {
        proxy.at(nth, refusal(index));
        let batch = records(offset).datasets("d", 2).batch();
        let (written, causes) = write(&mut writer, &batch).await;
        assert_eq!(causes, [Cause::Other]);
        assert!(written.unwrap().counts().rejected.is_empty());
        assert_eq!(world.next_offset().await, offset + 2);
    }
}

/// Where a collection is sharded by another key than `_id`, every upsert is refused.
#[tokio::test]
async fn a_refusal_for_a_shard_key_rejects_no_record() {
    const SHARD_KEY_NOT_FOUND: i32 = 61;
    let world = World::new("shard_key").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;
    let error = doc! { "index": 0, "code": SHARD_KEY_NOT_FOUND, "errmsg": "no shard key" };
    let refusal = doc! { "ok": 1, "n": 0, "nModified": 0, "writeErrors": [error] };
    proxy.at(1, Act::Answer(refusal));
    let (written, causes) = write(&mut writer, &records(0).datasets("d", 2).batch()).await;
    assert_eq!(causes, [Cause::Other]);
    assert_eq!(written.unwrap().counts().upserted, 2);
    assert!(world.dead_letters().await.is_empty());
}

/// Refused as a whole, a command says nothing of which record it is: it is found by halving.
#[tokio::test]
async fn a_record_for_which_the_whole_command_is_refused_is_found() {
    const TOO_LARGE: i32 = 10334;
    let world = World::new("whole_command").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;
    proxy.judge(|command| {
        if command.name == "update"
            && command.text().contains("poison")
            && command.collection() == "datasets"
        {
            Act::Answer(doc! { "ok": 0, "code": TOO_LARGE, "errmsg": "BSONObj size is invalid" })
        } else {
            Act::Pass
        }
    });
    let batch = records(0)
        .datasets("a", 5)
        .dataset("p", r#""n": "poison""#)
        .datasets("b", 5);
    let (written, causes) = write(&mut writer, &batch.batch()).await;
    let settled = written.unwrap();
    assert!(causes.is_empty(), "{causes:?}");
    assert_eq!(settled.counts().upserted, 10);
    assert_eq!(refused(&world).await, BTreeMap::from([(5, TOO_LARGE)]));
    let documents = world.documents("datasets").await;
    assert_eq!(documents.len(), 10);
    assert!(
        documents
            .values()
            .all(|document| document.get("n") != Some(&Bson::from("poison")))
    );
}
