//! Two at the same time: the sidecars of two replicas, a sidecar and a person, one that slept
//! through another's whole run.

use std::collections::BTreeSet;

use bson::doc;
use test_support::wait::until;

use crate::gate::{Gate, Moment, ended};
use crate::process::{INTERVAL, Sidecar, published};
use crate::scene::{NEXT, PASSWORD, ROTATE, SINK, Scene};

const PROVISION: [&str; 3] = ["provision", "--user", SINK];
#[tokio::test(flavor = "multi_thread")]
async fn who_slept_through_another_ones_provisioning_undoes_nothing() {
    let scene = Scene::new("slept_provision").await;
    for effect in 0..2 {
        let gate = Gate::new(&scene, Some((effect, Moment::Before))).await;
        let sleeper = gate.start(&scene, &PROVISION);
        gate.reached().await;
        scene.done(&PROVISION).await;
        let password = scene.password().await;
        gate.release();
        assert_eq!(ended(&scene, sleeper).await, Some(0), "effect {effect}");
        assert_eq!(scene.password().await, password);
        assert!(scene.authenticates(&password).await);
        scene.done(&PROVISION).await;
        scene.is_right().await;
        scene.delete_secret().await;
        scene.users(doc! { "dropUser": SINK }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_slept_through_another_ones_rotations_locks_nobody_out() {
    let scene = Scene::new("slept_rotation").await;
    for (effect, rotations) in [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)] {
        scene.done(&PROVISION).await;
        let gate = Gate::new(&scene, Some((effect, Moment::Before))).await;
        let sleeper = gate.start(&scene, &ROTATE);
        gate.reached().await;
        for _ in 0..rotations {
            scene.done(&ROTATE).await;
        }
        gate.release();
        assert_eq!(ended(&scene, sleeper).await, Some(0), "effect {effect}");
        assert!(
            scene.authenticates(&scene.password().await).await,
            "effect {effect}"
        );
        scene.done(&PROVISION).await;
        scene.is_right().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looked_before_another_ones_rotations_does_not_set_an_old_password() {
    let mut scene = Scene::new("looked_before").await;
    let gate = Gate::new(&scene, None).await;
    // all of them by the same way, so that the connection string is right for all
    scene = scene.with(&[(
        "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING",
        &gate.mongo_uri,
    )]);
    scene.provision().await;
    for key in [NEXT, PASSWORD] {
        scene
            .edit(serde_json::json!({ "stringData": { key: "seen-and-gone" } }))
            .await;
        gate.stop_at_next_look();
        let sleeper = gate.start(&scene, &PROVISION);
        gate.reached().await;
        scene.done(&ROTATE).await;
        scene.done(&ROTATE).await;
        let effects = gate.effects();
        gate.release();
        assert_eq!(ended(&scene, sleeper).await, Some(0));
        assert_eq!(
            gate.effects(),
            effects,
            "it was late, and there was nothing left to do"
        );
        assert!(scene.authenticates(&scene.password().await).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_at_once_end_in_one_password() {
    let scene = Scene::new("rotations_at_once").await;
    scene.provision().await;
    let first = scene.password().await;
    let (one, other, third) = tokio::join!(
        scene.run(&ROTATE),
        scene.run(&ROTATE),
        scene.run(&PROVISION)
    );
    for (code, out, error) in [one, other, third] {
        assert_eq!(code, Some(0), "{out}{error}");
    }
    scene.is_right().await;
    assert!(
        !scene.authenticates(&first).await,
        "the old password is refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sidecars_of_two_replicas_agree_from_the_start_and_over_rotations() {
    let scene = Scene::new("replicas").await;
    let scene = scene.with(&[
        (INTERVAL, "1"),
        ("DYFF_WORKFLOWS_SINK_ADMIN__ROTATE_EVERY_SECONDS", "3"),
    ]);
    let volumes = ["one", "other"].map(|name| scene.directory.path().join(name));
    let sidecars = [0, 1].map(|replica| {
        let volume = volumes[replica].to_str().unwrap();
        Sidecar::start(&scene, &["--publish", volume])
    });
    for sidecar in &sidecars {
        sidecar.started().await;
    }
    let passwords = std::sync::Mutex::new(BTreeSet::new());
    until(
        "both publish three passwords, one after the other",
        || async {
            let [one, other] = [0, 1].map(|replica| published(&volumes[replica]).remove(PASSWORD));
            let mut passwords = passwords.lock().unwrap();
            if let Some(shown) = one.filter(|one| other.as_ref() == Some(one)) {
                scene.hide([shown.clone()]);
                passwords.insert(shown);
            }
            passwords.len() >= 3
        },
    )
    .await;
    let rotations = sidecars
        .iter()
        .filter_map(|sidecar| sidecar.metric("rotations_total", SINK));
    assert!(rotations.sum::<f64>() >= 2.0);
    for sidecar in sidecars {
        assert_eq!(sidecar.stop(&scene).await, Some(0));
    }
    scene.done(&PROVISION).await;
    scene.is_right().await;
    let current = scene.password().await;
    let passwords = passwords.into_inner().unwrap();
    for password in passwords.iter().filter(|password| **password != current) {
        assert!(
            !scene.authenticates(password).await,
            "an old password is accepted"
        );
    }
}
