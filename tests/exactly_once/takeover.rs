//! Another client in the midst of a batch, as after a change of password: whatever the old one left
//! behind is settled once.

use bson::Uuid;
use workflows_sink::checkpoint::Fence;
use workflows_sink::writer::{Unwritten, session_id};

use crate::support::proxy::{Act, Command};
use crate::support::{World, claim, records, soon};

fn lose_commits(command: Command<'_>) -> Act {
    match command.name {
        "commitTransaction" => Act::LoseAnswer,
        _ => Act::Pass,
    }
}

fn never_end(command: Command<'_>) -> Act {
    match command.name {
        "commitTransaction" | "abortTransaction" => Act::LoseCommand,
        _ => Act::Pass,
    }
}

#[tokio::test]
async fn a_batch_that_changes_its_client_half_way_is_applied_once() {
    for (name, judge) in [
        ("takeover_landed", lose_commits as fn(Command<'_>) -> Act),
        ("takeover_open", never_end),
    ] {
        let world = World::new(name).await;
        let (old, proxy) = world.sink_behind_proxy().await;
        let new = world.sink().await;
        let mut writer = old.writer(0).await;
        let (before, owner) = (world.checkpoint().await.unwrap(), writer.claim().owner);
        proxy.judge(judge);
        let batch = records(0)
            .dataset("a", r#""n": 1"#)
            .dataset("b", r#""n": 2"#)
            .batch();
        let write = writer.write(&batch, |_| old.swap.to(new.database.clone()));
        let written = soon("written, before the server ends a transaction", write).await;
        assert_eq!(written.unwrap().next_offset(), 2, "{name}");
        assert_eq!(world.commits().await, 1, "{name}");
        assert_eq!(world.documents("datasets").await.len(), 2, "{name}");
        let after = world.checkpoint().await.unwrap();
        assert_ne!(
            after.session, before.session,
            "{name}: the new session is recorded"
        );
        assert_ne!(
            after.owner,
            Some(owner),
            "{name}: what the old client sent matches no more"
        );
        assert_eq!(after.owner, Some(writer.claim().owner), "{name}");

        let more = records(2).dataset("c", r#""n": 3"#).batch();
        writer.write(&more, |_| {}).await.unwrap();
        assert_eq!(world.next_offset().await, 3, "{name}");
        assert!(
            !new.commands.take().is_empty(),
            "{name}: it writes on the new client"
        );
    }
}

#[tokio::test]
async fn another_client_takes_no_partition_that_somebody_else_has_claimed() {
    let world = World::new("takeover_fenced").await;
    let (old, new) = (world.sink().await, world.sink().await);
    let mut writer = old.writer(0).await;
    let (theirs, session) = (Uuid::new(), new.session().await);
    claim(&new.checkpoints, theirs, session_id(&session), 0).await;
    old.swap.to(new.database.clone());
    let batch = records(0).dataset("a", r#""n": 1"#).batch();
    let written = writer.write(&batch, |_| {}).await;
    assert!(matches!(written, Err(Unwritten::Fenced(Fence::NotMine))));
    assert_eq!(world.checkpoint().await.unwrap().owner, Some(theirs));
    assert_eq!(world.documents("datasets").await.len(), 0);

    let mut idle = old.writer(0).await;
    let theirs = Uuid::new();
    claim(&new.checkpoints, theirs, session_id(&session), 0).await;
    old.swap.to(new.database.clone());
    assert_eq!(idle.check_or_switch_client(0).await, Some(Fence::NotMine));
    assert_eq!(world.checkpoint().await.unwrap().owner, Some(theirs));
}

#[tokio::test]
async fn what_arrives_late_from_the_old_client_is_not_applied_again() {
    for (name, nth) in [("late_guard", 0), ("late_write", 1), ("late_commit", 2)] {
        let world = World::new(name).await;
        let (old, proxy) = world.sink_behind_proxy().await;
        let new = world.sink().await;
        let mut writer = old.writer(0).await;
        proxy.at(nth, Act::Hold);
        let batch = records(0).dataset("a", r#""n": 1"#).batch();
        let swap = async {
            proxy.held(1).await;
            old.swap.to(new.database.clone());
        };
        let both = async { tokio::join!(writer.write(&batch, |_| {}), swap) };
        let (written, ()) = soon("written on the new client", both).await;
        assert_eq!(written.unwrap().next_offset(), 1, "{name}");
        proxy.release();
        for offset in 1..4 {
            let more = records(offset)
                .dataset("a", &format!(r#""n": {}"#, offset + 1))
                .batch();
            let written = soon(
                "no late transaction is in the way",
                writer.write(&more, |_| {}),
            );
            assert_eq!(written.await.unwrap().next_offset(), offset + 1, "{name}");
            assert_eq!(world.commits().await as i64, offset + 1, "{name}");
        }
        let documents = world.documents("datasets").await;
        let newest: Vec<_> = documents
            .values()
            .map(|found| found.get_i32("n").ok())
            .collect();
        assert_eq!(newest, [Some(4)], "{name}");
    }
}
