//! `deploy/kafka`, and the components that need it: certificates, passwords, scaling by the lag.

use std::fs;
use std::path::PathBuf;

use local_stack::topics::{STATE_CONFIG, STATE_PARTITIONS, STATE_TOPIC};
use local_stack::{Kubernetes, keda, left_out};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::manifests::{config_of, environment};
use crate::overlays::is_taken;
use crate::shipped::{Shipped, cluster, deploy};

/// The kinds of Strimzi that `deploy/kafka` has.
const STRIMZI: [&str; 4] = ["kafka", "kafkanodepool", "kafkatopic", "kafkauser"];

/// The service with these components, in `default`.
async fn rendered(kubernetes: &Kubernetes, components: &[&str]) -> Shipped {
    let mut text = "\
namespace: default
resources: [DEPLOY/kubernetes/base]
components:
- DEPLOY/kubernetes/components/servers
"
    .to_owned();
    for name in components {
        text += &format!("- DEPLOY/kubernetes/components/{name}\n");
    }
    Shipped::of_overlay(kubernetes, &[("kustomization.yaml", &text)]).await
}

/// Strimzi's kinds, which no registry has: from the folder that `CRDS_DIR` names, if it does.
fn strimzi_kinds() -> Option<Vec<PathBuf>> {
    let Some(folder) = std::env::var_os("CRDS_DIR").map(PathBuf::from) else {
        left_out("CRDS_DIR names no folder with Strimzi's kinds (CONTRIBUTING.md)");
        return None;
    };
    let files = STRIMZI.map(|kind| folder.join(format!("strimzi-1.2.0-{kind}.yaml")));
    Some(files.into())
}

/// Teaches the server these kinds.
pub async fn teach(kubernetes: &Kubernetes, files: &[PathBuf]) {
    for file in files {
        let file = file.to_str().expect("UTF-8");
        let apply = ["apply", "--server-side", "-f", file];
        let done = kubernetes.kubectl(&apply, None).await;
        done.expect("the kinds are taken");
    }
    kubernetes.kinds_known().await.expect("known");
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_as_the_service_and_its_scaling_expect_it() {
    let kubernetes = cluster().await;
    let kafka = Shipped::of(&kubernetes, "kafka").await;
    if let Some(kinds) = strimzi_kinds() {
        teach(&kubernetes, &kinds).await;
        is_taken(&kubernetes, &kafka).await;
    }
    let topic = kafka.object("KafkaTopic", STATE_TOPIC);
    assert_eq!(topic["spec"]["partitions"], STATE_PARTITIONS);
    for (name, value) in STATE_CONFIG {
        assert_eq!(topic["spec"]["config"][name], value);
    }
    let spec = &kafka.object("Kafka", "dyff-kafka")["spec"]["kafka"];
    assert_eq!(spec["authorization"]["type"], "simple");
    assert_eq!(spec["config"]["auto.create.topics.enable"], false);
    for listener in spec["listeners"].as_array().expect("listeners") {
        assert_eq!(listener["tls"], true, "{listener}");
        assert!(listener["authentication"]["type"].is_string(), "{listener}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_into_kafka_is_a_listener_a_user_and_a_policy() {
    let kubernetes = cluster().await;
    let kafka = Shipped::of(&kubernetes, "kafka").await;
    let listeners = &kafka.object("Kafka", "dyff-kafka")["spec"]["kafka"]["listeners"];
    for (component, authentication, protocol) in [
        ("tls", "tls", "SSL"),
        ("scram", "scram-sha-512", "SASL_SSL"),
    ] {
        let service = rendered(&kubernetes, &[component]).await;
        is_taken(&kubernetes, &service).await;
        let bootstrap = service.setting("DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS");
        let (host, port) = bootstrap.rsplit_once(':').expect("a port");
        assert_eq!(host, "dyff-kafka-bootstrap.default.svc.cluster.local");
        let port: u16 = port.parse().expect("a number");
        let mut listeners = listeners.as_array().expect("listeners").iter();
        let listener = listeners.find(|found| found["port"] == port);
        let listener = listener.expect("a listener at that port");
        assert_eq!(listener["authentication"]["type"], authentication);
        assert_eq!(
            service.setting("DYFF_KAFKA__CONFIG__SECURITY_PROTOCOL"),
            protocol
        );
        // the Secrets are those that Strimzi makes: of the cluster, and of the user
        let volumes = service.pod()["spec"]["volumes"].as_array();
        let volumes = volumes.expect("volumes").iter();
        let sources = volumes.filter_map(|volume| volume["projected"]["sources"].as_array());
        let secrets = sources
            .flatten()
            .filter_map(|source| source["secret"]["name"].as_str());
        let secrets: Vec<&str> = secrets.collect();
        assert_eq!(secrets, ["dyff-kafka-cluster-ca-cert", "workflows-sink"]);
        kafka.object("KafkaUser", "workflows-sink");
        // every program takes its settings
        let mut settings = environment(&service, "sink");
        settings.retain(|name, _| !name.contains("LOCATION"));
        let password = NamedTempFile::new().expect("a file");
        fs::write(&password, "hunter2").expect("written");
        if let Some(file) = settings.get_mut("DYFF_KAFKA__CONFIG__SASL_PASSWORD_FILE") {
            *file = password.path().to_str().expect("UTF-8").to_owned();
        }
        config_of(settings);
    }
    let password = deploy().join("kafka/components/scram/kustomization.yaml");
    let password = fs::read_to_string(password).expect("a component");
    assert!(password.contains("value: scram-sha-512"), "{password}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_gets_into_kafka_by_either_listener() {
    let kubernetes = cluster().await;
    // Its accounts come with the cluster of MongoDB, which needs the operator.
    for name in ["mongodb-admin", "mongodb-client"] {
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "name": name, "namespace": "mongodb" },
        });
        let made = kubernetes.apply(&account.to_string()).await;
        made.expect("an account");
    }
    for (component, authentication) in [("tls", "tls"), ("scram", "scram-sha-512")] {
        let also = match component {
            "scram" => "- DEPLOY/kafka/components/scram\n",
            _ => "",
        };
        let kafka = format!(
            "namespace: default\nresources: [DEPLOY/kafka]\ncomponents:\n\
             - DEPLOY/kafka/components/migration\n{also}"
        );
        let kafka = Shipped::of_overlay(&kubernetes, &[("kustomization.yaml", &kafka)]).await;
        let user = &kafka.object("KafkaUser", "datastore-migrate")["spec"];
        assert_eq!(user["authentication"]["type"], authentication);
        let listeners = &kafka.object("Kafka", "dyff-kafka")["spec"]["kafka"]["listeners"];
        let steps = format!(
            "resources: [DEPLOY/kubernetes/migration]\ncomponents: \
             [DEPLOY/kubernetes/migration/components/{component}]\n"
        );
        let steps = Shipped::of_overlay(&kubernetes, &[("kustomization.yaml", &steps)]).await;
        is_taken(&kubernetes, &steps).await;
        for step in ["ids", "dry-run", "entities", "accounts", "verify"] {
            let job = steps.object("CronJob", &format!("datastore-migrate-{step}"));
            let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
            let settings = pod["containers"][0]["env"].as_array().expect("settings");
            let named = |name: &str| {
                let mut named = settings.iter().filter(|one| one["name"] == name);
                let value = &named.next().expect("a setting")["value"];
                assert!(named.next().is_none(), "{name} is there once");
                value.as_str().expect("a text").to_owned()
            };
            let bootstrap = named("DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS");
            let (_, port) = bootstrap.rsplit_once(':').expect("a port");
            let port: u16 = port.parse().expect("a number");
            let mut listeners = listeners.as_array().expect("listeners").iter();
            let listener = listeners.find(|found| found["port"] == port);
            let listener = listener.expect("a listener at that port");
            assert_eq!(listener["authentication"]["type"], authentication);
            let mounts = pod["containers"][0]["volumeMounts"].as_array();
            assert_eq!(mounts.expect("mounts").len(), 2, "{job}");
        }
        let files = steps.object("CronJob", "datastore-migrate-files");
        assert!(
            !files.to_string().contains("datastore-migrate-kafka"),
            "{files}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_by_the_lag_fits_the_topic_the_group_and_the_users() {
    let kubernetes = cluster().await;
    let kinds = keda::kinds().expect("KEDA's kinds");
    let kinds = ["scaledobjects", "triggerauthentications"]
        .map(|kind| kinds.join(format!("keda.sh_{kind}.yaml")));
    teach(&kubernetes, &kinds).await;
    let kafka = Shipped::of(&kubernetes, "kafka").await;
    let service = rendered(&kubernetes, &["tls", "autoscaling"]).await;
    is_taken(&kubernetes, &service).await;

    let deployment = service.object("Deployment", "workflows-sink");
    assert!(deployment["spec"].get("replicas").is_none(), "it is KEDA's");
    let spec = &service.object("ScaledObject", "workflows-sink")["spec"];
    let topic = kafka.object("KafkaTopic", STATE_TOPIC);
    assert_eq!(spec["maxReplicaCount"], topic["spec"]["partitions"]);
    let trigger = &spec["triggers"][0]["metadata"];
    for (field, setting) in [
        ("topic", "DYFF_KAFKA__TOPICS__WORKFLOWS_STATE"),
        ("bootstrapServers", "DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS"),
    ] {
        assert_eq!(trigger[field], service.setting(setting));
    }
    let looks = kafka.object("KafkaUser", "workflows-sink-keda");
    let acls = looks["spec"]["authorization"]["acls"].as_array();
    let named = acls.expect("rights").iter().map(|acl| {
        assert_eq!(acl["operations"], json!(["Describe"]), "it changes nothing");
        acl["resource"]["name"].clone()
    });
    let named: Vec<Value> = named.collect();
    assert_eq!(
        named,
        [trigger["topic"].clone(), trigger["consumerGroup"].clone()]
    );
    let secrets = service.object("TriggerAuthentication", "workflows-sink-kafka");
    let secrets = secrets["spec"]["secretTargetRef"].as_array();
    let secrets = secrets.expect("Secrets").iter().map(|one| &one["name"]);
    let ca = json!("dyff-kafka-cluster-ca-cert");
    let user = json!("workflows-sink-keda");
    assert_eq!(secrets.collect::<Vec<_>>(), [&ca, &user, &user]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_way_of_scaling_has_the_same_bounds() {
    let kubernetes = cluster().await;
    let service = rendered(&kubernetes, &["autoscaling-hpa"]).await;
    is_taken(&kubernetes, &service).await;
    let deployment = service.object("Deployment", "workflows-sink");
    assert!(deployment["spec"].get("replicas").is_none());
    let scaler = &service.object("HorizontalPodAutoscaler", "workflows-sink")["spec"];
    assert_eq!(scaler["maxReplicas"], STATE_PARTITIONS);
    let metric = &scaler["metrics"][0]["external"]["metric"]["name"];
    let rule = deploy().join("kubernetes/components/autoscaling-hpa/adapter-rule.yaml");
    let rule: Value =
        serde_saphyr::from_str(&fs::read_to_string(rule).expect("a rule")).expect("YAML");
    assert_eq!(&rule[0]["name"]["as"], metric);
}
