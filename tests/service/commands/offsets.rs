//! `offsets`: what the service's errors ask people to run.

use bson::{Bson, Document, Uuid, doc};
use jiff::Timestamp;
use local_stack::Message;
use serde_json::{Value, json};
use test_support::operator::{state, states, until_statuses};
use test_support::scene::{Scene, topics};
use test_support::worker::run;

fn entities(count: u32) -> Vec<Message> {
    let in_turn = |n| state(n, "first", (n % 2) as i32);
    (0..count).map(in_turn).collect()
}

/// Runs a command that must succeed.
async fn done(scene: &Scene, arguments: &[&str]) -> String {
    let (code, out, err) = run(&scene.environment(), arguments).await;
    assert_eq!(code, Some(0), "{err}");
    out
}

async fn json(scene: &Scene, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(scene, &[arguments, &["--json"]].concat()).await).unwrap()
}

/// Runs a command that must fail.
async fn failed(scene: &Scene, arguments: &[&str]) -> String {
    let (code, _, err) = run(&scene.environment(), arguments).await;
    assert_eq!(code, Some(1), "{err}");
    err
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_shown_and_moved_only_while_nobody_uses_them() {
    let scene = Scene::new("reset", 2).await;
    let before = json(&scene, &["offsets", "show"]).await;
    assert_eq!(before["group"], scene.group);
    assert_eq!(before["database"], scene.database.name());
    assert_eq!(before["partitions"][0]["checkpoint"], Value::Null);

    scene.produce(&entities(20));
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    let reset = ["offsets", "reset", "--to", "earliest", "--yes"];
    let err = failed(&scene, &reset).await;
    assert!(
        err.contains("has 1 member(s)") && err.contains("stop the service first"),
        "{err}"
    );
    assert!(err.contains("workflows-sink on 127.0.0.1"), "{err}");
    let member_listed = err;
    let missing = failed(&scene, &["offsets", "show", "--partition", "7"]).await;
    assert!(
        missing.contains("no partition 7") && missing.contains("has 2, from 0 to 1"),
        "{missing}"
    );
    let strange = [("DYFF_WORKFLOWS_SINK__GROUP", "reset.misspelt")];
    let (code, _, err) = run(&scene.environment_with(&strange), &reset).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("reset.misspelt has no checkpoint") && err.contains(&scene.group),
        "{err}"
    );

    let entities = scene.entities().await;
    // One partition is moved under its worker, which continues from there.
    scene
        .database
        .collection::<Document>("datasets")
        .delete_many(doc! {})
        .await
        .expect("deleted");
    let one = [
        "offsets",
        "reset",
        "--to",
        "earliest",
        "--partition",
        "1",
        "--yes",
    ];
    assert!(done(&scene, &one).await.contains("moved 1 checkpoint(s)"));
    until_statuses(&scene, (0..10).map(|n| (2 * n + 1, "first"))).await;
    scene.settled().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    let shown = json(&scene, &["offsets", "show"]).await;
    for partition in 0..2 {
        let place = &shown["partitions"][partition];
        assert_eq!(place["topic"], scene.topic);
        assert_eq!(place["log_end"], 10);
        assert_eq!(place["checkpoint"]["next_offset"], 10);
        assert_eq!(place["committed"], 10);
        assert_eq!(place["lag"], 0);
        assert_eq!(place["state"], "ok");
        // Kafka lists the worker under this id.
        let member = place["checkpoint"]["member_id"].as_str();
        let member = member.expect("an id").to_owned();
        assert!(
            member_listed.contains(&format!("({member})")),
            "{member}: {member_listed}"
        );
    }
    assert_eq!((&shown["lag"], &shown["members"]), (&json!(0), &json!([])));
    let table = done(&scene, &["offsets", "show", "--partition", "1"]).await;
    assert_eq!(table.lines().count(), 6, "{table}");
    assert!(
        table.starts_with(&format!("group {}, 0 member(s)", scene.group)),
        "{table}"
    );
    assert!(table.ends_with("1 partition(s), lag 0\n"), "{table}");

    let was = scene.checkpoint(0).await.unwrap();
    let plan = done(&scene, &reset[..4]).await;
    assert!(
        plan.contains("replays 10") && plan.contains("nothing was changed"),
        "{plan}"
    );
    assert_eq!(scene.checkpoint(0).await.unwrap(), was);

    assert!(done(&scene, &reset).await.contains("moved 2 checkpoint(s)"));
    let now = scene.checkpoint(0).await.unwrap();
    assert_eq!(now.get("next_offset"), Some(&Bson::Int64(0)));
    assert_eq!(
        now.get_i64("epoch").unwrap(),
        was.get_i64("epoch").unwrap() + 1
    );
    assert_ne!(now.get("owner"), was.get("owner"), "who held it is fenced");
    assert_eq!(now.get("topic_id"), was.get("topic_id"));
    let shown = json(&scene, &["offsets", "show"]).await;
    assert_eq!(shown["partitions"][0]["committed"], 0);

    let mut worker = scene.worker(&[]);
    scene.settled().await;
    assert_eq!(scene.entities().await, entities);
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_moved_to_an_offset_or_a_time_inside_the_log() {
    let scene = Scene::new("targets", 2).await;
    scene.produce(&entities(20));
    let to = |to: &'static str| {
        [
            "offsets",
            "reset",
            "--topic",
            "targets.state",
            "--partition",
            "0",
            "--to",
            to,
        ]
    };
    let moved = json(&scene, &[&to("4")[..], &["--yes"]].concat()).await;
    assert_eq!(
        moved,
        json!({
            "group": scene.group, "members": [], "database": scene.database.name(), "done": true,
            "moves": [{
                "topic": "targets.state", "partition": 0, "from": null, "to": 4,
                "effect": "starts there",
            }],
        })
    );
    assert_eq!(scene.checkpoints().await, [(0, 4)].into());

    for (place, end) in [
        ("latest", 10),
        ("1999-12-31T23:59:59Z", 0),
        ("2999-12-31T23:59:59Z", 10),
        ("10", 10),
    ] {
        let plan = json(&scene, &to(place)).await;
        let first = &plan["moves"][0];
        assert_eq!(
            (&first["from"], &first["to"], &plan["done"]),
            (&json!(4), &json!(end), &json!(false)),
            "{place}"
        );
    }
    let err = failed(&scene, &to("11")).await;
    assert!(
        err.contains("11 is not in the log of targets.state[0], which goes from 0 to 10"),
        "{err}"
    );
    let err = failed(&scene, &["offsets", "reset", "--to", "4"]).await;
    assert!(err.contains("--topic and --partition"), "{err}");
    let err = failed(&scene, &["offsets", "show", "--partition", "7"]).await;
    assert!(err.contains("no partition 7"), "{err}");
    let (code, _, err) = run(
        &scene.environment(),
        &["offsets", "show", "--topic", "no.such"],
    )
    .await;
    assert_eq!(code, Some(78), "{err}");
    assert!(err.contains("the topic no.such does not exist"), "{err}");
    assert_eq!(scene.checkpoints().await, [(0, 4)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_to_a_time_replays_what_came_since() {
    let scene = Scene::new("reset_time", 1).await;
    scene.produce(&states(0..5, "before", 0));
    let since = Timestamp::now();
    while Timestamp::now().as_millisecond() <= since.as_millisecond() {
        tokio::task::yield_now().await;
    }
    scene.produce(&states(5..10, "since", 0));
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    let datasets = scene.database.collection::<bson::Document>("datasets");
    datasets.delete_many(bson::doc! {}).await.expect("lost");
    let since = Timestamp::from_millisecond(since.as_millisecond() + 1).expect("a time");
    let reset = [
        "offsets",
        "reset",
        "--to",
        &since.to_string(),
        "--yes",
        "--json",
    ];
    let (code, out, err) = run(&scene.environment(), &reset).await;
    assert_eq!(code, Some(0), "{err}");
    let moved: Value = serde_json::from_str(&out).expect("JSON");
    let first = &moved["moves"][0];
    assert_eq!((&first["from"], &first["to"]), (&10.into(), &5.into()));

    let _worker = scene.worker(&[]);
    scene.settled().await;
    until_statuses(&scene, (5..10).map(|n| (n, "since"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_log_has_passed_it_goes_on_once_it_is_resolved() {
    let scene = Scene::uncompacted("resolve", 2).await;
    scene.produce(&entities(20));
    let partition = ["--topic", &scene.topic, "--partition", "0", "--yes"];
    let reset = [&["offsets", "reset", "--to", "2"], &partition[..]].concat();
    done(&scene, &reset).await;
    let trimmed = topics().await.delete_records(&scene.topic, 0, 5).await;
    trimmed.unwrap();

    let mut worker = scene.worker(&[]);
    worker
        .logs("offsets resolve --topic resolve.state --partition 0")
        .await;
    assert_eq!(
        json(&scene, &["offsets", "show"]).await["partitions"][0]["state"],
        "before the log"
    );

    let plan = json(&scene, &["offsets", "resolve"]).await;
    assert_eq!(
        (&plan["done"], &plan["moves"]),
        (
            &json!(false),
            &json!([{
                "topic": "resolve.state", "partition": 0, "from": 2, "to": 5,
                "effect": "SKIPS 3",
            }])
        )
    );
    assert_eq!(scene.checkpoints().await[&0], 2);
    let resolve = [&["offsets", "resolve"], &partition[..]].concat();
    done(&scene, &resolve).await;
    scene.settled().await;
    assert_eq!(
        scene.entities().await.len(),
        15,
        "five of them were deleted before they were applied"
    );
    assert!(
        done(&scene, &["offsets", "resolve"])
            .await
            .ends_with("\n\nnothing to do: every partition can continue from its checkpoint\n")
    );
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_a_dead_owner_left_open_does_not_hold_up_a_reset() {
    let scene = Scene::new("held", 1).await;
    scene.produce(&[state(0, "first", 0)]);
    let mut session = scene.database.client().start_session().await.unwrap();
    let id = session.id().get("id").cloned().unwrap();
    let key = scene.checkpoint_id(0);
    let checkpoints = scene.checkpoint_collection();
    let held = doc! { "_id": &key, "next_offset": 1_i64, "owner": Uuid::new(), "epoch": 1_i64, "session": id };
    checkpoints.insert_one(held).await.unwrap();
    session.start_transaction().await.unwrap();
    let touch = doc! { "$set": { "next_offset": 2_i64 } };
    checkpoints
        .update_one(doc! { "_id": &key }, touch)
        .session(&mut session)
        .await
        .unwrap();

    let began = std::time::Instant::now();
    done(&scene, &["offsets", "reset", "--to", "earliest", "--yes"]).await;
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    assert_eq!(
        scene
            .checkpoint(0)
            .await
            .unwrap()
            .get_i64("next_offset")
            .unwrap(),
        0
    );
    assert!(session.commit_transaction().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_group_that_the_broker_assigns_count_too() {
    let scene = Scene::new("reset_kip848", 1).await;
    scene.produce(&[state(0, "first", 0)]);
    let protocol = ("DYFF_KAFKA__CONFIG__GROUP_PROTOCOL", "consumer");
    let classic = [
        ("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", ""),
        ("DYFF_KAFKA__CONFIG__HEARTBEAT_INTERVAL_MS", ""),
    ];
    let mut worker = scene.worker(&[&[protocol], &classic[..]].concat());
    scene.settled().await;
    let before = scene.checkpoint(0).await.unwrap();
    let err = failed(&scene, &["offsets", "reset", "--to", "earliest", "--yes"]).await;
    assert!(err.contains("stop the service first"), "{err}");
    assert_eq!(scene.checkpoint(0).await.unwrap(), before);
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
