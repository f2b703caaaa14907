//! The real broker: every way to start it, and what can be done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use local_stack::random::Random;
use local_stack::topics::STATE_TOPIC;
use local_stack::{Authority, Generator, Kafka, KafkaOptions, Message, State, produce};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message as _};
use rdkafka::producer::{BaseProducer, Producer};

const DEADLINE: Duration = Duration::from_secs(20);

fn numbers(config: &ClientConfig, count: usize) {
    let message = |number: usize| Message {
        partition: Some(0),
        ..Message::new("key", number.to_string())
    };
    assert_eq!(
        produce(config, "numbers", (0..count).map(message)).unwrap(),
        count
    );
}

#[tokio::test]
async fn data_and_ports_outlive_kill_and_stop() {
    let mut kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    let topics = kafka.topics().unwrap();
    topics.create("numbers", 1, &[]).await.unwrap();
    numbers(&kafka.client_config(), 10);
    kafka.kill().unwrap();
    kafka.restart().await.unwrap();
    numbers(&kafka.client_config(), 10);
    kafka.stop().await.unwrap();
    kafka.restart().await.unwrap();
    assert_eq!(topics.watermarks("numbers", 0).await.unwrap(), (0, 20));

    topics.delete_records("numbers", 0, 7).await.unwrap();
    assert_eq!(topics.watermarks("numbers", 0).await.unwrap(), (7, 20));
    topics.add_partitions("numbers", 3).await.unwrap();
    topics.delete("numbers").await.unwrap();
    topics.create("numbers", 1, &[]).await.unwrap();
    assert_eq!(topics.watermarks("numbers", 0).await.unwrap(), (0, 0));

    topics.create_state_topic().await.unwrap();
    let described = kafka
        .tool("org.apache.kafka.tools.TopicCommand", &["--describe"])
        .await
        .unwrap();
    assert!(
        described.contains("PartitionCount: 12") && described.contains("cleanup.policy=compact"),
        "{described}"
    );
}

#[tokio::test]
async fn the_second_listener_asks_for_tls_and_a_user() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let tls = Some(authority.server().unwrap());
    let users = vec![("workflows-sink".to_owned(), "right".to_owned())];
    let kafka = Kafka::start(KafkaOptions {
        tls,
        users,
        ..Default::default()
    })
    .await
    .unwrap();
    let topics = kafka.topics().unwrap();
    topics.create("numbers", 1, &[]).await.unwrap();
    let config = |password: &str, ca: &Authority| {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", kafka.secured().unwrap())
            .set("security.protocol", "sasl_ssl");
        config
            .set("sasl.mechanism", "SCRAM-SHA-512")
            .set("sasl.username", "workflows-sink");
        config
            .set("sasl.password", password)
            .set("ssl.ca.location", ca.ca().to_string_lossy());
        config
    };
    numbers(&config("right", &authority), 10);
    let reaches_within = |timeout: Duration, mut config: ClientConfig| {
        let producer: BaseProducer = config.set("log_level", "0").create().unwrap();
        producer
            .client()
            .fetch_metadata(Some("numbers"), timeout)
            .is_ok()
    };
    assert!(reaches_within(DEADLINE, config("right", &authority)));
    // A client asks again and again; it never gets an answer.
    let shortly = Duration::from_secs(2);
    assert!(!reaches_within(shortly, config("wrong", &authority)));
    assert!(!reaches_within(shortly, config("right", &other)));
}

#[tokio::test]
async fn two_stacks_run_side_by_side_and_leave_nothing() {
    let plain = KafkaOptions {
        properties: vec![("message.max.bytes".into(), "20000000".into())],
        ..Default::default()
    };
    let (first, second) = tokio::join!(Kafka::start(plain), Kafka::start(KafkaOptions::default()));
    let (mut first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.bootstrap(), second.bootstrap());
    let (pid, directory) = (
        first.server().pid().unwrap(),
        first.server().directory().to_owned(),
    );
    let address = first.bootstrap();
    drop(first);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists() && !directory.exists());
    std::net::TcpListener::bind(address).unwrap();
    let topics = second.topics().unwrap();
    topics.create("numbers", 1, &[]).await.unwrap();
}

#[tokio::test]
async fn the_states_of_an_entity_keep_their_order_in_one_partition() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    kafka.topics().unwrap().create_state_topic().await.unwrap();
    let states: Vec<State> = Generator::new(1, 400, 2_000).collect();
    assert_eq!(
        produce(&kafka.client_config(), STATE_TOPIC, states.clone()).unwrap(),
        2_000
    );
    let tombstone = Message {
        key: Some(states[0].id.clone().into()),
        headers: vec![
            ("origin".into(), Some(b"test".to_vec())),
            ("empty".into(), None),
        ],
        ..Message::default()
    };
    assert_eq!(
        produce(&kafka.client_config(), STATE_TOPIC, [tombstone]).unwrap(),
        1
    );

    let consumer: BaseConsumer = kafka
        .client_config()
        .set("group.id", "test")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&[STATE_TOPIC]).unwrap();
    let (mut partitions, mut values, mut deleted) =
        (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new(), None);
    for _ in 0..2_001 {
        // An event of the group ends a poll with nothing.
        let record = std::iter::repeat_with(|| consumer.poll(DEADLINE))
            .take(5)
            .flatten()
            .next()
            .unwrap()
            .unwrap();
        let id = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
        assert_eq!(
            *partitions.entry(id.clone()).or_insert(record.partition()),
            record.partition()
        );
        match record.payload() {
            Some(json) => values
                .entry(id)
                .or_default()
                .push(String::from_utf8(json.to_vec()).unwrap()),
            None => {
                deleted = record
                    .headers()
                    .map(|headers| (id, headers.get(0).key.to_owned(), headers.count()))
            }
        }
    }
    assert_eq!(
        deleted,
        Some((states[0].id.clone(), "origin".to_owned(), 2))
    );
    assert_eq!(partitions.values().collect::<BTreeSet<_>>().len(), 12);
    let mut expected = BTreeMap::<_, Vec<_>>::new();
    for state in states {
        expected.entry(state.id).or_default().push(state.json);
    }
    assert_eq!(values, expected);
}

#[tokio::test]
async fn a_record_that_the_broker_refuses_is_an_error() {
    let kafka = Kafka::start(KafkaOptions::default()).await.unwrap();
    kafka
        .topics()
        .unwrap()
        .create("small", 1, &[("max.message.bytes", "1000")])
        .await
        .unwrap();
    let config = kafka.client_config();
    assert!(produce(&config, "small", [Message::new("key", vec![b'x'; 100])]).is_ok());
    let noise = Random::new(1).hex(8_000);
    assert!(produce(&config, "small", [Message::new("key", noise)]).is_err());
}
