//! A broker that others reach and this worker does not: its partitions stand still, and no others.

use test_support::operator::{states, until_at};

use crate::truncated::on_three_brokers;

const PARTITIONS: i32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_this_worker_cannot_reach_is_named_and_the_others_go_on() {
    let (scene, cluster, _toxiproxy) = on_three_brokers("silent_leader").await;
    let topics = cluster.topics().expect("an admin client");
    let created = topics
        .create_replicated(&scene.topic, PARTITIONS, 1, &[])
        .await;
    created.expect("a topic");
    let worker = scene.worker(&[]);
    for partition in 0..PARTITIONS {
        scene.produce(&states(0..10, "new", partition));
        until_at(&scene, partition, 10).await;
    }

    let leaders = cluster.leaders(&scene.topic).await.expect("leaders");
    let coordinator = cluster
        .coordinator(&scene.group)
        .await
        .expect("a coordinator");
    // Without the coordinator the worker would lose all partitions.
    let mut others = leaders.iter().filter(|(_, leader)| **leader != coordinator);
    let (silent, unreachable) = others.next().expect("a leader that coordinates nothing");
    let led_by_others = leaders.iter().filter(|(_, leader)| *leader != unreachable);
    let proxy = cluster.proxy(*unreachable);
    proxy.down().expect("down");
    worker.logs("does not answer this worker").await;
    let named = format!("{}[{silent}]: its leader does not answer", scene.topic);
    let (status, text) = worker.get("/readyz").expect("an answer");
    assert_eq!(status, 200, "the others go on: {text}");
    assert!(text.contains(&named), "{text}");
    for (partition, _) in led_by_others {
        scene.produce(&states(10..20, "new", *partition));
        until_at(&scene, *partition, 20).await;
    }

    proxy.heal().expect("healed");
    worker.logs("leader answers again").await;
    let (_, text) = worker.get("/readyz").expect("an answer");
    assert!(!text.contains(&named), "{text}");
    scene.produce(&states(10..20, "new", *silent));
    until_at(&scene, *silent, 20).await;
}
