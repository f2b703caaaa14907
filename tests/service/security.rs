//! Encrypted and authenticated on both sides, with a private authority; and every way to
//! misconfigure that.

use std::collections::BTreeMap;
use std::fs;

use futures_util::future::join_all;
use local_stack::{Authority, Kafka, KafkaOptions, Mongo, MongoOptions, mongo};
use tempfile::TempDir;
use test_support::credentials::PASSWORD;
use test_support::operator::{states, until_statuses};
use test_support::scene::{BOOTSTRAP_SERVERS, CONNECTION_STRING, Scene};
use test_support::wait::until;
use test_support::worker::Worker;

use crate::startup;

const PROTOCOL: &str = "DYFF_KAFKA__CONFIG__SECURITY_PROTOCOL";
const KAFKA_CA: &str = "DYFF_KAFKA__CONFIG__SSL_CA_LOCATION";
const KAFKA_USER: &str = "DYFF_KAFKA__CONFIG__SASL_USERNAME";
const KAFKA_PASSWORD: &str = "DYFF_KAFKA__CONFIG__SASL_PASSWORD";

const SCRAM_PASSWORD: &str = "kafka-hunter2";
const WRONG_PASSWORD: &str = "wrong-hunter3";

/// Both servers with certificates for 127.0.0.1 alone, so that `localhost` is an invalid name.
struct Secured {
    kafka: Kafka,
    mongo: Mongo,
    stranger: Authority,
    secrets: TempDir,
}

impl Secured {
    async fn start() -> Secured {
        let authority = Authority::new().expect("an authority");
        let certificate = || Some(authority.server_named(&["127.0.0.1"]).expect("signed"));
        let user = ("workflows-sink".to_owned(), SCRAM_PASSWORD.to_owned());
        let (kafka, mongo) = tokio::join!(
            Kafka::start(KafkaOptions {
                tls: certificate(),
                users: vec![user],
                ..KafkaOptions::default()
            }),
            Mongo::start(MongoOptions {
                tls: certificate(),
                auth: true,
                ..MongoOptions::default()
            })
        );
        Secured {
            kafka: kafka.expect("a broker"),
            mongo: mongo.expect("a replica set"),
            stranger: Authority::new().expect("an authority"),
            secrets: TempDir::new().expect("a directory"),
        }
    }

    /// A file with a secret in it, as a mounted Secret has it.
    fn secret(&self, name: &str, value: &str) -> String {
        let path = self.secrets.path().join(name);
        fs::write(&path, value).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// A scene seen with an administrator's eyes: the plain listener, and all of the database.
    async fn scene(&self) -> Scene {
        let plain = self.kafka.bootstrap();
        let mut scene = Scene::on("security", &plain, &self.mongo.admin_uri()).await;
        scene.database = scene.database.client().database(mongo::DATABASE);
        let topics = self.kafka.topics().expect("an admin client");
        topics.create(&scene.topic, 2, &[]).await.expect("a topic");
        scene
    }

    /// The environment with which everything works.
    fn environment(&self, scene: &Scene) -> BTreeMap<String, String> {
        let password = self.mongo.password().expect("a password");
        let ca = self.ca();
        let mut environment = scene.environment();
        let secured = self.kafka.secured().expect("a second listener");
        environment.extend(
            [
                (BOOTSTRAP_SERVERS, secured.as_str()),
                (PROTOCOL, "SASL_SSL"),
                (KAFKA_CA, &ca),
                ("DYFF_KAFKA__CONFIG__SASL_MECHANISM", "SCRAM-SHA-512"),
                (KAFKA_USER, "workflows-sink"),
                (CONNECTION_STRING, &self.mongo.uri_without_password()),
                (
                    &format!("{KAFKA_PASSWORD}_FILE"),
                    &self.secret("kafka", SCRAM_PASSWORD),
                ),
                (
                    &format!("{PASSWORD}_FILE"),
                    &self.secret("mongodb", password),
                ),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        environment
    }

    fn ca(&self) -> String {
        self.mongo_option("tlsCAFile")
    }

    /// The value of an option of the CONNECTION_STRING.
    fn mongo_option(&self, name: &str) -> String {
        let uri = self.mongo.uri();
        let options = uri.split_once('?').expect("options").1.split('&');
        let mut pairs = options.filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(option, _)| *option == name);
        found.expect("the option").1.to_owned()
    }
}

/// The message with which a start ends when one thing is changed; what is logged holds no secret.
async fn refused(good: &BTreeMap<String, String>, changes: &[(&str, &str)]) -> String {
    let mut environment = good.clone();
    for (name, value) in changes {
        environment.remove(&format!("{name}_FILE"));
        environment.insert((*name).to_owned(), (*value).to_owned());
    }
    let (message, log) = startup::refused(&environment).await;
    assert!(!log.contains("hunter"), "{changes:?}: {log}");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_and_authenticated_servers_work_and_every_mistake_is_one_clear_line() {
    let secured = Secured::start().await;
    let scene = secured.scene().await;
    let good = secured.environment(&scene);

    let of_both = |text| [states(0..10, text, 0), states(10..20, text, 1)].concat();
    scene.produce(&of_both("first"));
    let authorities = fs::read_to_string(secured.ca()).expect("certificates");
    let mut follows = good.clone();
    let ca = secured.secret("ca.crt", &authorities);
    follows.insert(KAFKA_CA.to_owned(), ca.clone());
    let mut worker = Worker::start(follows);
    scene.settled().await;
    until_statuses(&scene, (0..20).map(|n| (n, "first"))).await;
    // What the brokers refuse is not put in use; what they accept is, under load.
    secured.secret("kafka", WRONG_PASSWORD);
    worker.logs("continuing with the client in use").await;
    secured.secret("kafka", &format!("{SCRAM_PASSWORD}\n"));
    let stranger = fs::read_to_string(secured.stranger.ca()).expect("a certificate");
    fs::write(&ca, format!("{authorities}\n{stranger}")).expect("written");
    until("a new client is in use", || {
        scene.produce(&of_both("first"));
        let renewed = worker.log().contains("to join it with a new Kafka client");
        async move { renewed }
    })
    .await;
    scene.produce(&of_both("last"));
    scene.settled().await;
    until_statuses(&scene, (0..20).map(|n| (n, "last"))).await;
    assert_eq!(
        worker.times("partitions assigned").len(),
        2,
        "{}",
        worker.log()
    );
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
    let password = secured.mongo.password().expect("a password");
    for secret in [SCRAM_PASSWORD, password] {
        assert!(!worker.log().contains(secret), "{}", worker.log());
    }

    let stranger = secured.stranger.ca();
    let stranger = stranger.to_str().expect("UTF-8");
    let misnamed = good[BOOTSTRAP_SERVERS].replace("127.0.0.1", "localhost");
    let of_kafka = [
        (&[(KAFKA_CA, stranger)][..], "certificate verify failed"),
        (
            &[(BOOTSTRAP_SERVERS, &misnamed)],
            "certificate verify failed",
        ),
        (&[(KAFKA_PASSWORD, WRONG_PASSWORD)], "Authentication failed"),
        (&[(KAFKA_USER, "nobody")], "Authentication failed"),
    ];
    let lines = join_all(of_kafka.map(|(changes, _)| refused(&good, changes))).await;
    for (line, (changes, says)) in lines.iter().zip(of_kafka) {
        assert!(line.contains(says), "{changes:?}: {line}");
        assert!(line.contains("Kafka refuses the connection"), "{line}");
        assert!(line.contains("DYFF_KAFKA__CONFIG__"), "{line}");
    }

    let untrusted = good[CONNECTION_STRING].replace(&secured.ca(), stranger);
    let misnamed = good[CONNECTION_STRING].replace("127.0.0.1", "localhost");
    let of_mongodb = [
        (
            &[(CONNECTION_STRING, untrusted.as_str())][..],
            "invalid peer certificate",
        ),
        (
            &[(CONNECTION_STRING, &misnamed)],
            "not valid for name \"localhost\"",
        ),
        (
            &[(PASSWORD, WRONG_PASSWORD)],
            "does not authenticate the user workflows-sink",
        ),
    ];
    let lines = join_all(of_mongodb.map(|(changes, _)| refused(&good, changes))).await;
    for (line, (changes, says)) in lines.iter().zip(of_mongodb) {
        assert!(line.contains(says), "{changes:?}: {line}");
        assert!(line.contains(CONNECTION_STRING), "{line}");
    }
}
