//! Several partitions' batches in one transaction: it is one where all goes well, and where
//! anything does not, each batch is applied once all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::Uuid;
use futures_util::future::{FutureExt as _, join_all};
use workflows_sink::checkpoint::{Checkpoints, Fence};
use workflows_sink::record::batch::Batch;
use workflows_sink::writer::command::COMMAND_WRITES_MAX;
use workflows_sink::writer::{Settled, Unwritten, Writer, session_id};

use crate::refused_writes::with_validator;
use crate::support::proxy::{Act, Command};
use crate::support::{World, claim, key_of, letter_offset, records, soon};

const LANES: i32 = 3;

/// A dataset and a model of a partition, from an offset on.
fn batch(partition: i32, start: i64) -> Batch {
    let id = format!("{partition}-{start}");
    records(start)
        .dataset(&id, r#""n": 1"#)
        .entity("Model", &id, r#""n": 2"#)
        .batch()
}

/// Every lane writes its next batch, all at once: those that nothing is under way before go
/// together.
async fn write_all(lanes: &mut [Writer], batches: &[Batch]) -> Vec<Result<Settled, Unwritten>> {
    let writes = lanes.iter_mut().zip(batches);
    let writes = writes.map(|(lane, batch)| lane.write(batch, |_| {}));
    soon("every batch is written", join_all(writes)).await
}

fn batches(start: i64) -> Vec<Batch> {
    (0..LANES)
        .map(|partition| batch(partition, start))
        .collect()
}

fn all_at(offset: i64, moves: usize) -> BTreeMap<i32, (i64, usize)> {
    (0..LANES)
        .map(|partition| (partition, (offset, moves)))
        .collect()
}

#[tokio::test]
async fn small_batches_of_several_partitions_are_one_transaction() {
    let world = World::new("group").await;
    let sink = world.sink().await;
    let mut lanes = sink.lanes(LANES).await;
    for round in 0..3 {
        sink.commands.take();
        let written = write_all(&mut lanes, &batches(2 * round)).await;
        let commands = sink.commands.take();
        assert_eq!(
            commands,
            ["update", "update", "update", "commitTransaction"]
        );
        for settled in written {
            let settled = settled.unwrap();
            assert_eq!(settled.next_offset(), 2 * round + 2);
            assert_eq!(settled.counts().upserted, 2);
        }
        let moves = round as usize + 1;
        assert_eq!(world.moves().await, all_at(2 * round + 2, moves));
        assert_eq!(world.commits().await, moves);
        assert_eq!(world.documents("datasets").await.len(), 3 * moves);
        assert_eq!(world.documents("models").await.len(), 3 * moves);
    }
}

/// What the server says of a transaction is said of all lanes together.
#[tokio::test]
async fn what_did_not_change_is_counted() {
    let world = World::new("group_counts").await;
    let mut lanes = world.sink().await.lanes(LANES).await;
    let same = |start| {
        let of = |partition| {
            let id = format!("{partition}");
            records(start).dataset(&id, r#""n": 1"#).batch()
        };
        (0..LANES).map(of).collect::<Vec<_>>()
    };
    for (start, expected) in [(0, (3, 0)), (1, (0, 3))] {
        let written = write_all(&mut lanes, &same(start)).await;
        let counts = written.iter().map(|settled| settled.as_ref().unwrap());
        let counts = counts.fold((0, 0), |(upserted, unchanged), settled| {
            let counts = settled.counts();
            (upserted + counts.upserted, unchanged + counts.unchanged)
        });
        assert_eq!(counts, expected);
    }
}

#[tokio::test]
async fn every_batch_is_applied_once_wherever_the_connection_breaks() {
    const COMMANDS: usize = 4;
    let world = World::new("group_breaks").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut lanes = sink.lanes(LANES).await;
    let mut rounds = 0;
    for act in [Act::LoseCommand, Act::LoseAnswer] {
        for nth in 0..COMMANDS {
            let start = 2 * rounds as i64;
            proxy.at(nth, act.clone());
            let written = write_all(&mut lanes, &batches(start)).await;
            rounds += 1;
            let place = format!("{act:?} at command {nth}");
            for settled in written {
                assert_eq!(settled.unwrap().next_offset(), start + 2, "{place}");
            }
            assert_eq!(world.moves().await, all_at(start + 2, rounds), "{place}");
            assert_eq!(world.documents("datasets").await.len(), 3 * rounds);
            assert_eq!(world.documents("models").await.len(), 3 * rounds);
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_nobody_got_is_found_by_each_lane() {
    let world = World::new("group_unheard").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut lanes = sink.lanes(LANES).await;
    proxy.judge(|command| match command.name {
        "commitTransaction" => Act::LoseAnswer,
        _ => Act::Pass,
    });
    for settled in write_all(&mut lanes, &batches(0)).await {
        let settled = settled.unwrap();
        assert_eq!((settled.next_offset(), settled.counts().applied()), (2, 2));
    }
    assert_eq!(world.commits().await, 1);
    assert_eq!(world.moves().await, all_at(2, 1));
}

#[tokio::test]
async fn what_is_slow_together_is_written_by_each_lane() {
    const RECORDS: usize = COMMAND_WRITES_MAX / 2;
    let world = World::new("group_slow").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut lanes = sink.lanes(LANES).await;
    proxy.delay_updates(Duration::from_millis(25));
    let of = |partition| {
        records(0)
            .datasets(&format!("{partition}-"), RECORDS)
            .batch()
    };
    let batches: Vec<Batch> = (0..LANES).map(of).collect();
    for settled in write_all(&mut lanes, &batches).await {
        assert_eq!(settled.unwrap().counts().applied() as usize, RECORDS);
    }
    assert_eq!(world.moves().await, all_at(RECORDS as i64, 1));
    assert_eq!(world.commits().await, LANES as usize);
    let datasets = world.documents("datasets").await;
    assert_eq!(datasets.len(), LANES as usize * RECORDS);
}

#[tokio::test]
async fn a_partition_that_was_lost_keeps_no_other_from_being_written() {
    let world = World::new("group_fenced").await;
    let (sink, thief) = (world.sink().await, world.sink().await);
    let mut lanes = sink.lanes(LANES).await;
    let stolen = Checkpoints::new(thief.database.clone(), key_of(1));
    let (theirs, session) = (Uuid::new(), thief.session().await);
    claim(&stolen, theirs, session_id(&session), 0).await;
    let written = write_all(&mut lanes, &batches(0)).await;
    assert!(written[0].is_ok() && written[2].is_ok());
    let fenced = Err(Unwritten::Fenced(Fence::NotMine));
    assert_eq!(written[1], fenced);
    let datasets = world.documents("datasets").await;
    assert_eq!(datasets.keys().collect::<Vec<_>>(), ["0-0", "2-0"]);
    assert_eq!(world.moves().await[&1], (0, 0));
}

#[tokio::test]
async fn a_record_that_the_server_refuses_is_its_lanes_alone() {
    let world = with_validator("group_refused").await;
    let mut lanes = world.sink().await.lanes(LANES).await;
    let mut batches = batches(0);
    batches[1] = records(0)
        .dataset("good", r#""n": 1"#)
        .dataset("bad", r#""n": 1000"#)
        .batch();
    for (partition, settled) in (0..).zip(write_all(&mut lanes, &batches).await) {
        let settled = settled.unwrap();
        assert_eq!(settled.next_offset(), 2);
        let rejected = settled.counts().rejected.len();
        assert_eq!(rejected, usize::from(partition == 1));
    }
    let letters = world.dead_letters().await;
    assert_eq!(letters.iter().map(letter_offset).collect::<Vec<_>>(), [1]);
    let datasets = world.documents("datasets").await;
    assert_eq!(datasets.keys().collect::<Vec<_>>(), ["0-0", "2-0", "good"]);
}

#[tokio::test]
async fn a_partition_with_refused_records_does_not_keep_the_others_apart() {
    let world = with_validator("group_refusals").await;
    let sink = world.sink().await;
    let mut lanes = sink.lanes(LANES).await;
    let bad = |start| records(start).dataset("bad", r#""n": 1000"#).batch();
    let good = |partition| records(1).dataset(partition, r#""n": 1"#).batch();
    let refused = [bad(0), records(0).dataset("0", r#""n": 0"#).batch()];
    for settled in write_all(&mut lanes[..2], &refused).await {
        assert_eq!(settled.unwrap().next_offset(), 1);
    }
    let before = world.moves().await;
    let commits = world.commits().await;
    for settled in write_all(&mut lanes[..2], &[bad(1), good("1")]).await {
        assert_eq!(settled.unwrap().next_offset(), 2);
    }
    assert_eq!(world.commits().await, commits + 2, "each by itself");
    assert_eq!(world.moves().await[&1].1, before[&1].1 + 1);
    assert_eq!(world.dead_letters().await.len(), 2);
    sink.commands.take();
    let batches = [batch(0, 2), records(2).dataset("2", r#""n": 2"#).batch()];
    write_all(&mut lanes[..2], &batches).await;
    let aborted = sink
        .commands
        .take()
        .contains(&"abortTransaction".to_owned());
    assert!(
        !aborted,
        "after a refusal it goes by itself, and nothing fails"
    );
}

/// A share that nobody waits for any more may be of a claim that is past.
#[tokio::test]
async fn a_lane_that_was_dropped_while_it_waited_fails_nobody() {
    let world = World::new("group_dropped").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut lanes = sink.lanes(LANES).await;
    proxy.at(0, Act::Hold);
    let [first, second, third] = &mut lanes[..] else {
        panic!("three lanes");
    };
    let (b0, b1, b2) = (batch(0, 0), batch(1, 0), batch(2, 0));
    let mut one = std::pin::pin!(first.write(&b0, |_| {}));
    let others = async {
        proxy.held(1).await;
        // It waits behind the first, and is dropped.
        assert!(second.write(&b1, |_| {}).now_or_never().is_none());
        let thief = Checkpoints::new(sink.database.clone(), key_of(1));
        let session = sink.session().await;
        let stolen = thief.claim(Uuid::new(), session_id(&session), 0).await;
        stolen.unwrap().unwrap();
        sink.commands.take();
        let mut causes = Vec::new();
        let write = third.write(&b2, |cause| causes.push(cause));
        proxy.release();
        assert_eq!(write.await.unwrap().next_offset(), 2);
        assert!(causes.is_empty(), "{causes:?}");
    };
    let (settled, ()) = soon("written", async { tokio::join!(&mut one, others) }).await;
    assert_eq!(settled.unwrap().next_offset(), 2);
    assert_eq!(world.moves().await[&1], (0, 0));
}

/// What a batch alone may do, or has too much of, it does alone; the others go together.
#[tokio::test]
async fn dead_letters_tombstones_and_large_batches_go_by_themselves() {
    let world = World::new("group_alone").await;
    let sink = world.sink().await;
    let mut lanes = sink.lanes(6).await;
    let text = "a".repeat(200_000);
    let batches = [
        batch(0, 0),
        records(0).push(Some(b"x"), Some(b"no JSON")).batch(),
        records(0).tombstone("x").batch(),
        records(0)
            .dataset("large", &format!(r#""text": "{text}""#))
            .batch(),
        batch(4, 0),
        // A second state of an entity is folded into the first.
        records(0)
            .dataset("f", r#""n": 1"#)
            .dataset("f", r#""n": 2"#)
            .batch(),
    ];
    for settled in write_all(&mut lanes, &batches).await {
        assert!(settled.is_ok());
    }
    assert_eq!(world.commits().await, 4);
    let moved = world.moves().await;
    assert!(
        moved
            .values()
            .all(|(offset, moves)| *offset > 0 && *moves == 1)
    );
    let folded = &world.documents("datasets").await["f"];
    assert_eq!(folded.get_i32("n").unwrap(), 2);
}

/// The server would keep it open for a minute, and every partition in it.
#[tokio::test]
async fn an_orphaned_transaction_keeps_none_of_its_partitions_successors_waiting() {
    let world = World::new("group_orphaned").await;
    let (dead, proxy) = world.sink_behind_proxy().await;
    let mut lanes = dead.lanes(LANES).await;
    proxy.at(1, Act::Hold);
    let dying = tokio::spawn(async move { write_all(&mut lanes, &batches(0)).await });
    proxy.held(1).await;
    proxy.sever();
    dying.abort();

    let sink = world.sink().await;
    let mut lanes = soon("the claims count", sink.lanes(LANES)).await;
    assert!(sink.commands.take().contains(&"killSessions".to_owned()));
    for settled in write_all(&mut lanes, &batches(0)).await {
        assert_eq!(settled.unwrap().next_offset(), 2);
    }
    assert_eq!(world.moves().await, all_at(2, 1));
}

/// Neither an abort nor anything else ends it but the session's next transaction, or a minute.
#[tokio::test]
async fn a_transaction_that_was_left_open_is_overtaken() {
    let world = World::new("group_overtaken").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut lanes = sink.lanes(LANES).await;
    let mut guards = 0;
    proxy.judge(move |command: Command<'_>| {
        let is_guard = command.collection() == workflows_sink::checkpoint::COLLECTION;
        guards += i32::from(is_guard && command.name == "update");
        match command.name {
            "abortTransaction" => Act::LoseCommand,
            "update" if is_guard && guards == 1 => Act::LoseAnswer,
            _ => Act::Pass,
        }
    });
    for settled in write_all(&mut lanes, &batches(0)).await {
        assert_eq!(settled.unwrap().next_offset(), 2);
    }
    assert_eq!(world.moves().await, all_at(2, 1));
}

#[tokio::test]
async fn lanes_that_change_their_client_half_way_are_written_once() {
    for (name, nth) in [
        ("group_swap_guard", 0),
        ("group_swap_write", 1),
        ("group_swap_commit", 3),
    ] {
        let world = World::new(name).await;
        let (old, proxy) = world.sink_behind_proxy().await;
        let new = world.sink().await;
        let mut lanes = old.lanes(LANES).await;
        proxy.at(nth, Act::Hold);
        let swap = async {
            proxy.held(1).await;
            old.swap.to(new.database.clone());
        };
        let first = batches(0);
        let (written, ()) = tokio::join!(write_all(&mut lanes, &first), swap);
        for settled in written {
            assert_eq!(settled.unwrap().next_offset(), 2, "{name}");
        }
        // What arrives late is in nobody's way.
        proxy.release();
        for round in 1..4 {
            new.commands.take();
            for settled in write_all(&mut lanes, &batches(2 * round)).await {
                assert_eq!(settled.unwrap().next_offset(), 2 * round + 2, "{name}");
            }
            let commands = new.commands.take();
            let commits = commands.iter().filter(|name| *name == "commitTransaction");
            assert_eq!(commits.count(), 1, "{name}: together on the new client");
        }
        assert_eq!(world.moves().await, all_at(8, 4), "{name}");
        assert_eq!(world.documents("datasets").await.len(), 12, "{name}");
    }
}
