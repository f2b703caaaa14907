//! A replica set that is named by an SRV record, as the operator's Service has it, looked up at a
//! real name server.

use std::fs;

use local_stack::Dns;
use test_support::operator::{states, until_statuses};
use test_support::scene::{CONNECTION_STRING, Scene, world};
use test_support::worker::{Worker, command};

const SETTINGS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/deploy/kubernetes/components/servers/settings.env"
);

/// The connection string that the manifests ship, and the host that it names.
fn shipped() -> (String, String) {
    let settings = fs::read_to_string(SETTINGS).expect("settings");
    let mut lines = settings.lines().filter_map(|line| line.split_once('='));
    let (_, uri) = lines
        .find(|(name, _)| name.ends_with("MONGODB__CONNECTION_STRING"))
        .expect("a connection string");
    let host = uri.strip_prefix("mongodb+srv://").expect("an SRV name");
    let (host, _) = host.split_once('/').expect("options");
    (uri.to_owned(), host.to_owned())
}

/// A worker that asks `dns`, and nothing else, for names.
fn worker(scene: &Scene, dns: &Dns, uri: &str) -> Worker {
    let environment = scene.environment_with(&[(CONNECTION_STRING, uri)]);
    Worker::start_by(dns.asked_by(command()), environment)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_srv_name_leads_to_the_replica_set() {
    if !Dns::can_run() {
        return;
    }
    let scene = Scene::new("srv", 2).await;
    scene.produce(&[states(0..10, "first", 0), states(10..20, "first", 1)].concat());
    let member = world().await.mongo.host(0);
    let (_, port) = member.rsplit_once(':').expect("a port");
    let (uri, host) = shipped();
    let pod = format!("dyff-datastore-rs0-0.{host}");
    let service = format!("_mongodb._tcp.{host}");
    let dns = Dns::start(&service, &[(&pod, port.parse().expect("a number"))]).await;
    let dns = dns.expect("a name server");

    let mut worker = worker(&scene, &dns, &uri);
    until_statuses(&scene, (0..20).map(|n| (n, "first"))).await;
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_srv_name_that_does_not_exist_yet_is_waited_for_and_named() {
    if !Dns::can_run() {
        return;
    }
    let scene = Scene::new("srv_absent", 2).await;
    let (uri, host) = shipped();
    let dns = Dns::start("_mongodb._tcp.other.cluster.local", &[]).await;
    let dns = dns.expect("a name server");
    let mut worker = worker(&scene, &dns, &uri);
    worker.logs("MongoDB does not answer yet").await;
    let lines = worker.lines_with("MongoDB does not answer yet");
    let message = lines[0]["message"].as_str().expect("a message");
    assert!(
        message.contains(&format!("_mongodb._tcp.{host}")),
        "{message}"
    );
    assert!(message.contains(CONNECTION_STRING), "{message}");
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
