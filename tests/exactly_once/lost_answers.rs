//! Commands and answers that get lost: what became of a batch is found out by the guard.

use bson::doc;
use workflows_sink::database::errors::Cause;
use workflows_sink::record::batch::Batch;

use crate::support::proxy::{Act, Command};
use crate::support::{World, records, write};

fn batch(start: i64) -> Batch {
    let id = format!("at-{start}");
    records(start)
        .dataset(&id, r#""n": 1"#)
        .dataset(&id, r#""n": 2"#)
        .entity("Model", &id, r#""n": 3"#)
        .push(Some(b"x"), Some(b"no JSON"))
        .batch()
}

/// Loses the answer to every commit; what comes later of it, does not.
fn lose_commits(command: Command<'_>) -> Act {
    match command.name {
        "commitTransaction" => Act::LoseAnswer,
        _ => Act::Pass,
    }
}

#[tokio::test]
async fn a_batch_comes_out_the_same_wherever_the_connection_breaks() {
    const COMMANDS: usize = 5;
    let world = World::new("connection_breaks").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;
    let (mut offset, mut commits) = (0, 0);
    for act in [Act::Pass, Act::LoseCommand, Act::LoseAnswer] {
        for nth in 0..COMMANDS {
            sink.commands.take();
            proxy.at(nth, act.clone());
            let (written, causes) = write(&mut writer, &batch(offset)).await;
            let settled = written.unwrap();
            let place = format!("{act:?} at command {nth}: {causes:?}");

            let sent = sink.commands.take().len();
            let broken = !matches!(act, Act::Pass);
            assert_eq!(sent > COMMANDS, broken, "{place}");
            let counts = settled.counts();
            assert_eq!(
                (counts.upserted, counts.unchanged, counts.folded),
                (2, 0, 1),
                "{place}"
            );
            assert_eq!(
                (counts.rejected.len(), counts.transactions),
                (1, 1),
                "{place}"
            );
            (offset, commits) = (offset + 4, commits + 1);
            assert_eq!(world.next_offset().await, offset, "{place}");
            assert_eq!(world.commits().await, commits, "{place}");
            assert_eq!(world.documents("datasets").await.len(), commits, "{place}");
            assert_eq!(world.documents("models").await.len(), commits, "{place}");
            assert_eq!(world.dead_letters().await.len(), commits, "{place}");
        }
    }
}

#[tokio::test]
async fn a_commit_that_landed_though_every_answer_was_lost_is_settled_once() {
    let world = World::new("commit_landed").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;
    proxy.judge(lose_commits);
    let (written, causes) = write(&mut writer, &batch(0)).await;
    let settled = written.unwrap();
    assert_eq!(causes, [Cause::Network]);
    assert_eq!(settled.next_offset(), 4);
    let counts = settled.counts();
    assert_eq!((counts.upserted, counts.folded), (2, 1));
    assert_eq!((counts.rejected.len(), counts.transactions), (1, 1));
    assert_eq!(world.commits().await, 1);
}

/// Retries the commit: a late answer to the first one must not count twice, and none must not lose
/// it.
#[tokio::test]
async fn a_commit_of_unknown_result_is_retried() {
    let world = World::new("commit_unknown").await;
    let sink = world.sink().await;
    let mut writer = sink.writer(0).await;
    let faults = world.faults().await;
    let concern = doc! {
        "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out", "errInfo": { "wtimeout": true } },
    };
    let times = doc! { "times": 2 };
    faults.on(times, &["commitTransaction"], concern).await;
    sink.commands.take();
    let (written, causes) = write(&mut writer, &batch(0)).await;
    assert_eq!(written.unwrap().next_offset(), 4);
    assert!(causes.is_empty(), "{causes:?}");
    let commands = sink.commands.take();
    let commits = commands.iter().filter(|name| *name == "commitTransaction");
    assert_eq!(commits.count(), 3);
    assert_eq!(world.commits().await, 1);
    faults.off().await;
}

/// A write concern that no commit reaches: what stands is asked of the checkpoint, as a majority
/// has it.
#[tokio::test]
async fn a_commit_without_its_write_concern_is_settled_by_the_checkpoint() {
    let world = World::new("commit_write_concern").await;
    let mut writer = world.sink().await.writer(0).await;
    let faults = world.faults().await;
    for (n, code) in [(0, 64), (1, 100)] {
        let concern = doc! { "writeConcernError": { "code": code, "errmsg": "no majority" } };
        faults.on("alwaysOn", &["commitTransaction"], concern).await;
        let (written, causes) = write(&mut writer, &batch(4 * n)).await;
        assert_eq!(written.unwrap().counts().upserted, 2);
        // The majority may learn of it a little later than the guard.
        assert_eq!(causes[0], Cause::WriteConcern);
        assert!(causes[1..].iter().all(|cause| *cause == Cause::Conflict));
        assert_eq!(world.commits().await, n as usize + 1);
    }
    faults.off().await;
}

/// Retried, it is answered with "no such transaction", although it was committed.
#[tokio::test]
async fn a_commit_that_landed_and_was_forgotten_by_the_server_is_settled_once() {
    let world = World::new("commit_forgotten").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;
    let session = world.checkpoint().await.unwrap().session.unwrap();
    let mut commits = [Act::LoseAnswer, Act::Hold].into_iter();
    proxy.judge(move |command| match command.name {
        "commitTransaction" => commits.next().unwrap_or(Act::Pass),
        _ => Act::Pass,
    });
    let batch = batch(0);
    let ((written, causes), ()) = tokio::join!(write(&mut writer, &batch), async {
        proxy.held(1).await;
        assert_eq!(world.next_offset().await, 4);
        world.reap(session).await;
        proxy.release();
    });
    assert_eq!(written.unwrap().counts().upserted, 2);
    assert_eq!(causes, [Cause::Conflict]);
    assert_eq!(world.commits().await, 1);
}

/// The next try may be a smaller one: it must not take the larger one's checkpoint for a
/// stranger's.
#[tokio::test]
async fn a_commit_that_landed_is_recognised_by_a_smaller_try() {
    let world = World::new("smaller_try").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;
    let session = world.checkpoint().await.unwrap().session.unwrap();
    let transient = doc! { "ok": 0, "code": 112, "codeName": "WriteConflict", "errmsg": "met another one", "errorLabels": ["TransientTransactionError"] };
    let mut first = Some(Act::Answer(transient));
    let mut commits = [Act::LoseAnswer, Act::Hold].into_iter();
    proxy.judge(move |command| match command.name {
        "commitTransaction" => commits.next().unwrap_or(Act::Pass),
        _ => first.take().unwrap_or(Act::Pass),
    });
    let batch = batch(0);
    let ((written, causes), ()) = tokio::join!(write(&mut writer, &batch), async {
        proxy.held(1).await;
        world.reap(session).await;
        proxy.release();
    });
    let settled = written.unwrap();
    assert_eq!(causes, [Cause::Conflict, Cause::Conflict]);
    assert_eq!((settled.next_offset(), settled.counts().upserted), (4, 2));
    assert_eq!(
        (settled.counts().transactions, world.commits().await),
        (1, 1)
    );
}
