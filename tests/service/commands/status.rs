//! `status` and `check`, on real servers.

use serde_json::Value;
use test_support::operator::{state, states};
use test_support::scene::Scene;
use test_support::worker::run;

use super::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_works_is_healthy_and_one_that_nobody_runs_is_not() {
    let scene = Scene::new("status", 2).await;
    scene.produce(&[states(0..5, "first", 0), states(5..10, "first", 1)].concat());
    let mut worker = scene.worker(&[]);
    scene.settled().await;
    let (code, status) = json(&scene, &["status"]).await;
    assert_eq!(
        (code, &status["healthy"]),
        (Some(0), &Value::Bool(true)),
        "{status}"
    );
    assert_eq!(status["verdict"], "healthy");
    assert_eq!(status["group"]["members"].as_array().unwrap().len(), 1);
    for partition in 0..2 {
        let row = &status["partitions"][partition];
        assert_eq!(
            (&row["state"], &row["lag"]),
            (&"caught up".into(), &0.into()),
            "{status}"
        );
        assert!(row["worker"].is_string(), "{status}");
    }
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());

    scene.produce(&[state(1, "second", 0)]);
    let (code, out, err) = run(&scene.environment(), &["status"]).await;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(err, "", "the first line says it");
    assert!(out.starts_with("no worker is in the group\n"), "{out}");
    assert!(
        out.contains("majority") && out.contains("catches up in"),
        "{out}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_changes_nothing_and_finds_what_a_start_would_and_more() {
    let scene = Scene::new("check", 2).await;
    let mut strange = state(3, "first", 1);
    strange.value = strange.value.map(|value| {
        let text = String::from_utf8(value).expect("JSON");
        text.replace("Dataset", "Mystery").into_bytes()
    });
    scene.produce(&[state(0, "first", 0), state(1, "first", 1), strange]);
    let (code, found) = json(&scene, &["check", "--sample", "100"]).await;
    assert_eq!(
        (code, &found["healthy"]),
        (Some(0), &Value::Bool(true)),
        "{found}"
    );
    let whats: Vec<&str> = (found["findings"].as_array().unwrap().iter())
        .map(|finding| finding["what"].as_str().unwrap())
        .collect();
    for part in [
        "every variable is valid",
        "the brokers accept this client",
        "1 of 1 are reached as they advertise",
        "has 2 partitions",
        "primary 127.0.0.1",
        "2 of 2 fit their logs; lag",
        "3 records: 2 would be upserted into 1 collections",
        "1 would be rejected (unknown_kind, kind Mystery), such as check.state[1] offset 1",
    ] {
        assert!(
            whats.iter().any(|what| what.contains(part)),
            "{part}: {whats:#?}"
        );
    }
    assert_eq!(scene.checkpoints().await, [].into());
    assert_eq!(scene.entities().await, [].into());

    let (code, out, _) = run(&scene.environment(), &["check", "--offline"]).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("31 collections") && !out.contains("brokers"),
        "{out}"
    );
}
