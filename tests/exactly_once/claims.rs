//! The claim: who may write a partition, and from where.

use bson::{Document, Uuid, doc};
use local_stack::{Mongo, MongoOptions};
use workflows_sink::checkpoint::{
    COLLECTION, Checkpoint, ClaimError, Found, Reset, known_topics, other_groups,
};
use workflows_sink::database::errors::Cause;
use workflows_sink::writer::{cause_of, session_id};

use crate::support::proxy::Act;
use crate::support::{World, key, records, settle, soon};

#[tokio::test]
async fn a_claim_takes_the_checkpoint_over_and_reads_where_to_go_on() {
    let world = World::new("claim_takes_over").await;
    let sink = world.sink().await;
    let made =
        doc! { "_id": key().id(), "next_offset": 41_i64, "owner": Uuid::new(), "epoch": 7_i64 };
    let checkpoints = world.database.collection::<Document>(COLLECTION);
    checkpoints.insert_one(made).await.unwrap();

    let session = sink.session().await;
    let owner = Uuid::new();
    let claimed = sink.checkpoints.claim(owner, session_id(&session), 0);
    let found = claimed.await.unwrap().unwrap();

    assert_eq!((found.next_offset, found.epoch), (41, 8));
    assert_eq!(found.owner, Some(owner));
    assert_eq!(found.session, Some(session_id(&session)));
    assert_eq!(world.checkpoint().await, Some(found));
}

#[tokio::test]
async fn without_a_checkpoint_there_is_nothing_to_claim_and_none_is_made() {
    let world = World::new("nothing_to_claim").await;
    let checkpoints = world.sink().await.checkpoints;
    let claimed = checkpoints.claim(Uuid::new(), Uuid::new(), 0).await;
    assert_eq!(claimed.unwrap(), None);
    assert_eq!(world.checkpoint().await, None);
}

#[tokio::test]
async fn the_first_claim_stores_its_start_at_once_and_the_second_comer_finds_it() {
    let world = World::new("first_claim").await;
    let checkpoints = world.sink().await.checkpoints;
    let topic_id = Some(Uuid::new());
    let opened = checkpoints.open(Uuid::new(), Uuid::new(), 120.into(), topic_id, 0);
    let opened = opened.await.unwrap().unwrap();
    assert_eq!(
        (opened.next_offset, opened.epoch, opened.topic_id),
        (120, 1, topic_id)
    );
    assert_eq!(world.checkpoint().await, Some(opened));

    let second = checkpoints.open(Uuid::new(), Uuid::new(), 500.into(), None, 0);
    let second = second.await.unwrap().unwrap();
    assert_eq!(
        (second.next_offset, second.epoch, second.topic_id),
        (120, 2, topic_id)
    );
}

#[tokio::test]
async fn a_checkpoint_moves_to_another_lineage_only_for_its_owner() {
    let world = World::new("relocate").await;
    let sink = world.sink().await;
    let checkpoints = &sink.checkpoints;
    sink.writer(40).await;
    let opened = world.checkpoint().await.unwrap();
    let (first, second) = (Uuid::new(), Uuid::new());

    let adopted = checkpoints.adopt(&opened, Some(first), Some(3), 0).await;
    let adopted = adopted.unwrap().unwrap();
    assert_eq!((adopted.topic_id, adopted.next_offset), (Some(first), 40));
    assert_eq!(adopted.leader_epoch, Some(3));
    let moved = checkpoints.relocate(&adopted, second, 0.into(), 0).await;
    let moved = moved.unwrap().unwrap();
    assert_eq!((moved.topic_id, moved.next_offset), (Some(second), 0));
    assert_eq!(moved.leader_epoch, None);
    assert_eq!(moved.former_topic_ids, [first]);

    let stranger = Checkpoint {
        owner: Some(Uuid::new()),
        ..moved.clone()
    };
    let other = checkpoints.relocate(&stranger, first, 9.into(), 0).await;
    assert_eq!(other.unwrap(), None);
    assert_eq!(world.checkpoint().await, Some(moved));
}

/// The network may hold a try back until the next one was answered, and more was written.
#[tokio::test]
async fn a_change_that_lands_late_moves_no_checkpoint_that_has_gone_on() {
    let world = World::new("late_change").await;
    let sink = world.sink().await;
    let checkpoints = &sink.checkpoints;
    let mut writer = sink.writer(0).await;
    let opened = world.checkpoint().await.unwrap();
    let topic_id = Uuid::new();
    let moved = checkpoints.relocate(&opened, topic_id, 0.into(), 0).await;
    moved.unwrap().expect("moved");
    settle(&mut writer, &records(0).datasets("d", 2).batch()).await;
    let written = world.checkpoint().await;
    assert_eq!(written.as_ref().unwrap().next_offset, 2);

    let late = checkpoints.adopt(&opened, Some(Uuid::new()), Some(1), 0);
    assert_eq!(late.await.unwrap(), None);
    let late = checkpoints.relocate(&opened, topic_id, 0.into(), 0);
    assert_eq!(late.await.unwrap(), None);
    let to_the_start = |owner| Reset {
        owner,
        next_offset: 0,
        topic_id: Some(topic_id),
        reject_next: false,
    };
    let late = checkpoints.mark_truncated(&opened, 0);
    assert_eq!(late.await.unwrap(), None);
    for found in [
        Found::Checkpoint(&opened),
        Found::Absent,
        Found::Unreadable(None),
    ] {
        let to = to_the_start(Uuid::new());
        let late = checkpoints.reset(found, &to, 0).await;
        assert_eq!(late.unwrap(), None, "{found:?}");
    }
    assert_eq!(world.checkpoint().await, written, "nothing has moved");

    // A person moves it, and a try of that is held back as well: the worker has it again.
    let person = Uuid::new();
    let found = written.as_ref().unwrap();
    let reset = async || {
        let found = Found::Checkpoint(found);
        let to = to_the_start(person);
        checkpoints.reset(found, &to, 0).await.unwrap()
    };
    assert_eq!(reset().await.expect("moved").owner, Some(person));
    let mut writer = sink.writer(0).await;
    settle(&mut writer, &records(0).datasets("d", 2).batch()).await;
    let again = world.checkpoint().await;
    assert_eq!(reset().await, None, "it stands at the same offset again");
    assert_eq!(world.checkpoint().await, again);
}

/// What a claim reads that no majority has may be rolled back, and with it the batches before it.
#[tokio::test]
async fn a_claim_with_a_write_concern_error_does_not_count() {
    let world = World::new("claim_write_concern").await;
    let sink = world.sink().await;
    sink.writer(5).await;
    let faults = world.faults().await;
    let concern =
        doc! { "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } };
    let commands = ["findAndModify"];
    faults.on(doc! { "times": 2 }, &commands, concern).await;

    let (owner, session) = (Uuid::new(), Uuid::new());
    let failed = sink.checkpoints.claim(owner, session, 0).await;
    let failed = failed.unwrap_err();
    assert!(matches!(failed, ClaimError::WriteConcern(64)), "{failed:?}");
    assert_eq!(cause_of(&failed), Cause::WriteConcern);
    let failed = sink
        .checkpoints
        .open(owner, session, 9.into(), None, 0)
        .await;
    assert!(matches!(failed, Err(ClaimError::WriteConcern(64))));

    let claimed = sink.checkpoints.claim(owner, session, 1).await;
    assert_eq!(claimed.unwrap().unwrap().next_offset, 5);
    faults.off().await;
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_retried() {
    let world = World::new("claim_answer_lost").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    sink.writer(5).await;
    for act in [Act::LoseCommand, Act::LoseAnswer] {
        proxy.at(0, act);
        let (owner, session) = (Uuid::new(), Uuid::new());
        let failed = sink.checkpoints.claim(owner, session, 0).await;
        assert_eq!(cause_of(&failed.unwrap_err()), Cause::Network);
        let found = sink.checkpoints.claim(owner, session, 1).await;
        assert_eq!(found.unwrap().unwrap().owner, Some(owner));
    }
}

/// The server may run a try that we gave up after the next try has long been answered.
#[tokio::test]
async fn an_earlier_try_of_a_claim_that_runs_late_takes_nothing_from_it() {
    let world = World::new("late_try").await;
    let sink = world.sink().await;
    let mut writer = sink.writer(0).await;
    settle(&mut writer, &records(0).datasets("d", 2).batch()).await;

    let session = world.checkpoint().await.unwrap().session.unwrap();
    let late = sink.checkpoints.claim(writer.claim().owner, session, 0);
    assert_eq!(late.await.unwrap().unwrap().next_offset, 2);

    let settled = settle(&mut writer, &records(2).datasets("e", 2).batch()).await;
    assert_eq!(settled.next_offset(), 4);
    assert_eq!(world.documents("datasets").await.len(), 4);
}

/// The server would keep it open for a minute, and the partition with it.
#[tokio::test]
async fn an_orphaned_transaction_does_not_keep_its_successor_waiting() {
    let options = MongoOptions {
        auth: true,
        ..MongoOptions::default()
    };
    let mongo = Mongo::start(options).await.unwrap();
    // As the user of the service, who may read and write its database and nothing else.
    let world = World::on(&mongo, local_stack::mongo::DATABASE).await;
    let (dead, proxy) = world.sink_behind_proxy().await;
    let mut writer = dead.writer(0).await;
    proxy.at(1, Act::Hold);
    let dying = tokio::spawn(async move {
        let batch = records(0).datasets("dead", 3).batch();
        settle(&mut writer, &batch).await;
    });
    proxy.held(1).await;
    proxy.sever();
    dying.abort();

    let sink = world.sink().await;
    let mut writer = soon("the claim counts", sink.writer(0)).await;
    assert_eq!(writer.claim().epoch, 2);
    assert!(sink.commands.take().contains(&"killSessions".to_owned()));
    settle(&mut writer, &records(0).datasets("alive", 3).batch()).await;
    let documents = world.documents("datasets").await;
    assert!(documents.keys().all(|id| id.starts_with("alive")));
}

/// The driver pools a dropped writer's session with its transaction still open, and may give it to
/// the next claim.
#[tokio::test]
async fn a_claim_does_not_wait_for_its_own_session() {
    let world = World::new("own_session").await;
    let sink = world.sink().await;
    let mut session = sink.session().await;
    let (owner, ours) = (Uuid::new(), session_id(&session));
    let opened = sink.checkpoints.open(owner, ours, 0.into(), None, 0);
    opened.await.unwrap().unwrap();
    session.start_transaction().await.unwrap();
    let held = sink
        .database
        .collection::<Document>(COLLECTION)
        .update_one(
            doc! { "_id": key().id() },
            doc! { "$set": { "next_offset": 99_i64 } },
        )
        .session(&mut session)
        .await;
    assert_eq!(held.unwrap().modified_count, 1);

    let claim = sink.checkpoints.claim(Uuid::new(), ours, 0);
    let claimed = soon("the claim counts", claim).await.unwrap().unwrap();
    assert_eq!((claimed.epoch, claimed.next_offset), (2, 0));
}

/// As a worker does that was frozen and goes on in the middle of its successor's claim.
#[tokio::test]
async fn a_zombie_that_opens_one_transaction_after_another_is_outrun() {
    let world = World::new("zombie").await;
    let zombie = world.sink().await;
    let mut session = zombie.session().await;
    let (owner, zombie_session) = (Uuid::new(), session_id(&session));
    let opened = zombie
        .checkpoints
        .open(owner, zombie_session, 0.into(), None, 0);
    opened.await.unwrap().unwrap();

    let database = zombie.database.clone();
    let (held, mut holds) = tokio::sync::watch::channel(0);
    let haunting = tokio::spawn(async move {
        let checkpoints = database.collection::<Document>(COLLECTION);
        let guard = doc! { "_id": key().id(), "owner": owner };
        loop {
            let _ = session.abort_transaction().await;
            session.start_transaction().await.unwrap();
            let moved = doc! { "$set": { "next_offset": 99_i64 } };
            let held_on = checkpoints.update_one(guard.clone(), moved);
            match held_on.session(&mut session).await {
                Ok(updated) if updated.matched_count == 0 => return,
                Ok(_) => held.send_modify(|held| *held += 1),
                Err(_) => continue,
            }
            // Until it is killed.
            while checkpoints
                .find_one(guard.clone())
                .session(&mut session)
                .await
                .is_ok()
            {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    });
    holds.wait_for(|held| *held > 0).await.unwrap();

    let writer = soon("the claim counts", world.sink().await.writer(0)).await;
    assert_eq!(writer.claim().position.offset, 0);
    soon("the zombie finds itself fenced", haunting)
        .await
        .unwrap();
    assert_eq!(world.next_offset().await, 0);
}

#[tokio::test]
async fn checkpoints_show_other_groups_and_known_topics() {
    let world = World::new("other_groups").await;
    let checkpoints = world.database.collection::<Document>(COLLECTION);
    for (group, topic) in [
        ("ours", "states"),
        ("theirs", "states"),
        ("theirs", "events"),
    ] {
        let id = doc! { "group": group, "topic": topic, "partition": 0 };
        checkpoints.insert_one(doc! { "_id": id }).await.unwrap();
    }
    let topics = ["states".to_owned(), "events".to_owned()];
    let database = world.sink().await.database;
    let others = other_groups(&database, "ours", &topics[..1]).await;
    assert_eq!(others.unwrap(), ["theirs"]);
    let known = known_topics(&database, "ours", &topics).await;
    assert_eq!(known.unwrap(), ["states"]);
}
