//! A new version is rolled out as the Deployment does it: one pod after the other, each stopped once
//! its successor is ready.

use std::collections::BTreeMap;

use test_support::entities::Entities;
use test_support::look::number;
use test_support::scene::{LONG_SESSION, Scene};
use test_support::wait::until;
use test_support::worker::{Worker, share};

use crate::drain::expected;

const PARTITIONS: i64 = 12;

/// Of each rollout; the partitions are shared evenly by as many, and by one more.
const PODS: i64 = 3;

/// How often each partition was claimed so far.
async fn claims(scene: &Scene) -> BTreeMap<i32, i64> {
    let mut claims = BTreeMap::new();
    for partition in 0..PARTITIONS as i32 {
        let checkpoint = scene.checkpoint(partition).await.expect("a checkpoint");
        claims.insert(partition, number(checkpoint.get("epoch")));
    }
    claims
}

/// Waits until each partition is shared, and claimed by whoever has it.
async fn all_at_work(scene: &Scene, workers: &[&Worker]) {
    share(workers, PARTITIONS).await;
    until("all partitions run", || async {
        let running = workers.iter().map(|worker| {
            worker
                .metric("workflows_sink_partition_state", r#"state="running""#)
                .unwrap_or_default()
        });
        running.sum::<f64>() == PARTITIONS as f64
    })
    .await;
    scene.settled().await;
}

/// A successor takes its share, and what the oldest then leaves is shared by the others. Which ones
/// move is the group's choice, so some move more often than others.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_moves_a_partition_one_and_a_half_times() {
    let scene = Scene::new("rollout", PARTITIONS as i32).await;
    let mut entities = Entities::new(31, 200);
    let mut records = entities.states(400);
    scene.produce(&records);
    let mut pods: Vec<Worker> = Vec::new();
    for _ in 0..PODS {
        pods.push(scene.worker(&[LONG_SESSION]));
        all_at_work(&scene, &pods.iter().collect::<Vec<_>>()).await;
    }
    let before = claims(&scene).await;
    for _ in 0..PODS {
        pods.push(scene.worker(&[LONG_SESSION]));
        all_at_work(&scene, &pods.iter().collect::<Vec<_>>()).await;
        let mut oldest = pods.remove(0);
        assert_eq!(oldest.stop().await, Some(0), "{}", oldest.log());
        let states = entities.states(100);
        scene.produce(&states);
        records.extend(states);
        all_at_work(&scene, &pods.iter().collect::<Vec<_>>()).await;
    }
    let after = claims(&scene).await;
    let moves: BTreeMap<i32, i64> = after
        .iter()
        .map(|(partition, epoch)| (*partition, epoch - before[partition]))
        .collect();
    let share = PARTITIONS / (PODS + 1);
    assert_eq!(moves.values().sum::<i64>(), PODS * 2 * share, "{moves:?}");
    assert!(moves.values().all(|moves| *moves <= PODS), "{moves:?}");
    assert_eq!(scene.entities().await, expected(&records));
    for pod in &mut pods {
        assert_eq!(pod.stop().await, Some(0), "{}", pod.log());
    }
}
