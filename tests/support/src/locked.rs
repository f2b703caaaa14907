//! A broker that is locked: `StandardAuthorizer`, with exactly the rights that `deploy/kafka`
//! gives, and clients that are told and given what the components of `deploy/kubernetes` mount: the
//! service, or a migration.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use local_stack::topics::STATE_TOPIC;
use local_stack::{Authority, Kafka, KafkaOptions};
use serde_json::Value;
use tempfile::TempDir;

use crate::scene::{BOOTSTRAP_SERVERS, Scene};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
/// The group of production.
pub const GROUP: &str = "dyff.system.mongodb.sink";
/// The password of the user.
pub const PASSWORD: &str = "kafka-hunter2";
const ACLS: &str = "org.apache.kafka.tools.AclCommand";

/// How a client proves who it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Its certificate: the component `tls`.
    Certificate,
    /// A password, over TLS: the component `scram`.
    Password,
}

/// Whose rights they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The service: `users.yaml`.
    Service,
    /// A migration: `components/migration`.
    Migration,
}

impl Who {
    fn user(self) -> &'static str {
        match self {
            Who::Service => "workflows-sink",
            Who::Migration => "datastore-migrate",
        }
    }
}

/// A right of a KafkaUser of `deploy/kafka`.
#[derive(Clone, Debug)]
pub struct Right {
    /// `topic` or `group`.
    pub resource: String,
    /// Its name.
    pub name: String,
    /// What may be done.
    pub operation: String,
}

fn yaml(path: &str) -> String {
    fs::read_to_string(Path::new(DEPLOY).join(path)).expect("a file")
}

/// The settings of a component of the service.
fn of_service(component: &str) -> Vec<(String, String)> {
    let settings = yaml(&format!("kubernetes/components/{component}/settings.env"));
    let lines = settings.lines().filter_map(|line| line.split_once('='));
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    lines.map(own).collect()
}

/// Those of a component of the migration's steps.
fn of_migration(component: &str) -> Vec<(String, String)> {
    let file = format!("kubernetes/migration/components/{component}/kustomization.yaml");
    let component: Value = serde_saphyr::from_str(&yaml(&file)).expect("YAML");
    let patch = component["patches"][0]["patch"].as_str().expect("a patch");
    let patch: Value = serde_saphyr::from_str(patch).expect("YAML");
    let pod = &patch["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let settings = pod["containers"][0]["env"].as_array().expect("settings");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let settings = settings.iter();
    settings
        .map(|setting| (text(&setting["name"]), text(&setting["value"])))
        .collect()
}

/// What Strimzi would give a KafkaUser.
pub fn rights(user: &str) -> Vec<Right> {
    let users = ["kafka/users.yaml", "kafka/components/migration/users.yaml"];
    let users = users.map(|file| serde_saphyr::from_multiple(&yaml(file)).expect("YAML"));
    let users: Vec<Value> = users
        .into_iter()
        .flat_map(|users: Vec<Value>| users)
        .collect();
    let mut users = users.iter();
    let user = users.find(|found| found["metadata"]["name"] == user);
    let user = user.expect("the user");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let acls = user["spec"]["authorization"]["acls"].as_array();
    let acls = acls.expect("a list").iter();
    let rights = acls.flat_map(|acl| {
        let operations = acl["operations"].as_array().expect("a list").iter();
        let resource = &acl["resource"];
        assert_eq!(resource["patternType"], "literal");
        operations.map(|operation| Right {
            resource: text(&resource["type"]),
            name: text(&resource["name"]),
            operation: text(operation),
        })
    });
    rights.collect()
}

/// A broker that refuses what is not granted, to all but the plain listener's clients.
pub struct Locked {
    who: Who,
    by: By,
    /// The broker.
    pub kafka: Kafka,
    /// Who signs the certificates.
    pub authority: Authority,
    mounts: TempDir,
}

impl Locked {
    /// Starts it for the service, and has `deploy/kafka/kafka.sh` make the topic and the rights.
    pub async fn start(by: By) -> Locked {
        Locked::start_for(Who::Service, by).await
    }

    /// As [`Locked::start`], for either.
    pub async fn start_for(who: Who, by: By) -> Locked {
        let authority = Authority::new().expect("an authority");
        let mut properties = vec![
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            ),
            ("super.users", "User:ANONYMOUS"),
        ];
        let mut users = Vec::new();
        match by {
            By::Certificate => {
                properties.push(("listener.name.secured.ssl.client.auth", "required"));
            }
            By::Password => users.push((who.user().to_owned(), PASSWORD.to_owned())),
        }
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let kafka = Kafka::start(KafkaOptions {
            tls: Some(authority.server().expect("signed")),
            users,
            properties: properties.into_iter().map(own).collect(),
            ..KafkaOptions::default()
        });
        let kafka = kafka.await.expect("a broker");
        let mounts = TempDir::new().expect("a folder");
        let locked = Locked {
            who,
            by,
            kafka,
            authority,
            mounts,
        };
        locked.mount();
        locked.script().await;
        locked
    }

    /// A KafkaUser as the broker knows it.
    fn principal(&self, user: &str) -> String {
        match self.by {
            By::Certificate => format!("User:CN={user}"),
            By::Password => format!("User:{user}"),
        }
    }

    /// The files of the Secrets that Strimzi makes, as the component mounts them.
    fn mount(&self) {
        let client = self.authority.client(self.who.user()).expect("signed");
        let file = |name: &str, text: &str| {
            fs::write(self.mounts.path().join(name), text).expect("written");
        };
        let read = |path: &Path| fs::read_to_string(path).expect("PEM");
        file("ca.crt", &read(&client.ca));
        match self.by {
            By::Certificate => {
                file("user.crt", &read(&client.key_and_certificate));
                file("user.key", &read(&client.key_and_certificate));
            }
            By::Password => file("password", PASSWORD),
        }
    }

    /// Runs `deploy/kafka/kafka.sh`.
    async fn script(&self) {
        let tools = TempDir::new().expect("a folder");
        self.kafka.scripts(tools.path()).expect("scripts");
        let path = std::env::var("PATH").expect("a PATH");
        let mut command = Command::new("sh");
        command
            .arg(Path::new(DEPLOY).join("kafka/kafka.sh"))
            .args(["--replicas", "1"]);
        if self.who == Who::Migration {
            command.args(["--migrate", &self.principal(self.who.user())]);
        }
        command
            .arg(self.kafka.bootstrap())
            .arg(self.principal("workflows-sink"))
            .arg(self.principal("workflows-sink-keda"))
            .env("PATH", format!("{}:{path}", tools.path().display()));
        // It may be repeated, which one of the two is enough to show.
        let times = if self.by == By::Password { 2 } else { 1 };
        let done = tokio::task::spawn_blocking(move || {
            for _ in 0..times {
                let done = command.output().expect("the script runs");
                let told = String::from_utf8_lossy(&done.stderr).into_owned();
                assert!(done.status.success(), "{told}");
            }
        });
        done.await.expect("the script works");
    }

    /// The settings of the shipped component, whose volume is a folder here.
    pub fn environment(&self, scene: &Scene) -> BTreeMap<String, String> {
        let (component, volume) = match (self.who, self.by) {
            (Who::Migration, By::Certificate) => ("tls", "/run/datastore-migrate/kafka"),
            (Who::Migration, By::Password) => ("scram", "/run/datastore-migrate/kafka"),
            (Who::Service, By::Certificate) => ("tls", "/run/workflows-sink/kafka-tls"),
            (Who::Service, By::Password) => ("scram", "/run/workflows-sink/kafka-scram"),
        };
        let mounts = self.mounts.path().to_str().expect("UTF-8");
        let settings = match self.who {
            Who::Service => of_service(component),
            Who::Migration => of_migration(component),
        };
        let of_kafka = settings.into_iter();
        let of_kafka = of_kafka.filter(|(name, _)| name.starts_with("DYFF_KAFKA__"));
        let mut environment = scene.environment();
        environment.extend(of_kafka.map(|(name, value)| (name, value.replace(volume, mounts))));
        let secured = self.kafka.secured().expect("a second listener");
        environment.insert(BOOTSTRAP_SERVERS.to_owned(), secured);
        environment
    }

    /// A scene with the topic and the group of production; `uri` is MongoDB's.
    pub async fn scene(&self, name: &str, uri: &str) -> Scene {
        let mut scene = Scene::on(name, &self.kafka.bootstrap(), uri).await;
        scene.topic = STATE_TOPIC.to_owned();
        scene.group = GROUP.to_owned();
        scene
    }

    async fn change(&self, change: &str, right: &Right) {
        let resource = format!("--{}", right.resource);
        let principal = self.principal(self.who.user());
        let mut arguments = vec![
            change,
            "--allow-principal",
            &principal,
            &resource,
            &right.name,
            "--operation",
            &right.operation,
        ];
        if change == "--remove" {
            arguments.push("--force");
        }
        let changed = self.kafka.tool(ACLS, &arguments).await;
        changed.expect("changed");
    }

    /// Takes a right of the user away.
    pub async fn take_away(&self, right: &Right) {
        self.change("--remove", right).await;
    }

    /// Gives a right to the user.
    pub async fn give(&self, right: &Right) {
        self.change("--add", right).await;
    }
}
