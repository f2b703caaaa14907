//! The shipped alerts about credentials: a real Prometheus scrapes a real sidecar.

use bson::doc;
use jiff::{SignedDuration, Timestamp};
use local_stack::Prometheus;
use local_stack::prometheus::shipped_rules_at_once;
use serde_json::json;
use test_support::alerts::{self, fires, prometheus, until_fires, until_over};
use test_support::wait::until;

use crate::process::{INTERVAL, Sidecar};
use crate::scene::{SINK, Scene};

const CONNECTION_STRING: &str = "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING";
const NOWHERE: &str = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300";

/// The alerts are told apart by this.
const USER: Option<(&str, &str)> = Some(("user", SINK));

async fn scrape(prometheus: &Prometheus, sidecar: &Sidecar) {
    until("it listens", || async { sidecar.address().is_some() }).await;
    let target = (sidecar.address().expect("an address"), "sink-0".to_owned());
    alerts::scrape(prometheus, &[target]).await;
}

/// Takes the sink's roles away, and waits until they are back.
async fn take_roles(scene: &Scene, sidecar: &Sidecar) {
    let granted = || {
        sidecar
            .metric("steps_total", "\"RolesGranted\"")
            .unwrap_or(0.0)
    };
    let before = granted();
    let role = doc! { "role": "readWrite", "db": &scene.database };
    let revoke = doc! { "revokeRolesFromUser": SINK, "roles": [role] };
    scene.users(revoke).await;
    until("they are back", || async { granted() > before }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_has_to_look_at_alerts_until_it_is_mended() {
    let scene = Scene::new("observed").await;
    let uri = scene.environment[CONNECTION_STRING].clone();
    let scene = scene.with(&[(INTERVAL, "1"), (CONNECTION_STRING, NOWHERE)]);
    let prometheus = prometheus(&shipped_rules_at_once()).await;
    until_fires(&prometheus, "WorkflowsSinkAdminAbsent", USER).await;
    let sidecar = Sidecar::start(&scene, &[]);
    scrape(&prometheus, &sidecar).await;
    until_fires(&prometheus, "WorkflowsSinkAdminNotChecked", USER).await;
    until("the sidecar is seen", || async {
        !fires(&prometheus, "WorkflowsSinkAdminAbsent", USER)
    })
    .await;
    assert_eq!(sidecar.stop(&scene).await, Some(0));

    let scene = scene.with(&[(CONNECTION_STRING, &uri)]);
    let sidecar = Sidecar::start(&scene, &[]);
    scrape(&prometheus, &sidecar).await;
    sidecar.started().await;
    until_over(&prometheus, "WorkflowsSinkAdminNotChecked").await;
    for alert in ["Drift", "RepairsOften"].map(|alert| format!("WorkflowsSinkAdmin{alert}")) {
        assert!(!fires(&prometheus, &alert, None), "{alert}");
    }

    let surplus = [doc! { "role": "read", "db": "elsewhere" }];
    let grant = doc! { "grantRolesToUser": SINK, "roles": &surplus[..] };
    scene.users(grant).await;
    until_fires(&prometheus, "WorkflowsSinkAdminDrift", USER).await;
    let revoke = doc! { "revokeRolesFromUser": SINK, "roles": &surplus[..] };
    scene.users(revoke).await;
    until_over(&prometheus, "WorkflowsSinkAdminDrift").await;

    assert!(!fires(&prometheus, "WorkflowsSinkPasswordOld", None));
    let long_ago = Timestamp::now() - SignedDuration::from_hours(24 * 91);
    let annotation = json!({ "workflows-sink-admin/password-changed-at": long_ago.to_string() });
    scene
        .edit(json!({ "metadata": { "annotations": annotation } }))
        .await;
    until_fires(&prometheus, "WorkflowsSinkPasswordOld", USER).await;
    scene.rotate().await;
    until_over(&prometheus, "WorkflowsSinkPasswordOld").await;

    // The first of a kind is no increase, and three an hour are no alert.
    for _ in 0..6 {
        take_roles(&scene, &sidecar).await;
        let taken = "sum(workflows_sink_admin_steps_total{step=\"RolesGranted\"})";
        let counted = sidecar.metric("steps_total", "\"RolesGranted\"");
        until("Prometheus sees it", || async {
            let seen = prometheus.query(taken).expect("an answer");
            seen.first().map(|(_, seen)| *seen) == counted
        })
        .await;
    }
    until_fires(&prometheus, "WorkflowsSinkAdminRepairsOften", USER).await;
    assert_eq!(sidecar.stop(&scene).await, Some(0));
    scene.is_right().await;
}
