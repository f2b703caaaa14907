//! The real KEDA looks at a real broker, with the rights and by the settings that are shipped: how
//! many workers it asks for.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use local_stack::topics::{STATE_PARTITIONS, STATE_TOPIC};
use local_stack::{Keda, Kubernetes, KubernetesOptions, Message, produce};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use test_support::locked::{By, GROUP, Locked};
use test_support::wait::until_within;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
/// KEDA's name for the lag of the topic.
const METRIC: &str = "s0-kafka-dyff-workflows-state";
/// How long a change may take to be seen: the HPA's own answer waits for two looks.
const SEEN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(300);
const LOOKS: usize = 10;
/// Records in each partition.
const RECORDS: i64 = 30_000;

/// What the component `autoscaling` ships, with the broker's address of here.
fn shipped(bootstrap: &str) -> Vec<Value> {
    let path = Path::new(DEPLOY).join("kubernetes/components/autoscaling/scaling.yaml");
    let text = fs::read_to_string(path).expect("a component");
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    let scaled = objects
        .iter_mut()
        .find(|object| object["kind"] == "ScaledObject");
    let spec = &mut scaled.expect("a ScaledObject")["spec"];
    spec["triggers"][0]["metadata"]["bootstrapServers"] = bootstrap.into();
    // As often as the test asks: else each look would take half a minute.
    spec["pollingInterval"] = 1.into();
    objects
}

/// A Deployment that stands for the service: nothing runs it here.
fn deployment() -> Value {
    let labels = json!({ "app.kubernetes.io/name": "workflows-sink" });
    let container = json!({ "name": "sink", "image": "workflows-sink" });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "workflows-sink", "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } },
        },
    })
}

/// The Secrets that Strimzi makes, with certificates of the broker's authority.
fn secrets(locked: &Locked) -> Vec<Value> {
    let user = locked
        .authority
        .client("workflows-sink-keda")
        .expect("signed");
    let read = |path: &Path| fs::read_to_string(path).expect("PEM");
    let pair = read(&user.key_and_certificate);
    let secret = |name: &str, data: Value| {
        let metadata = json!({ "name": name, "namespace": "default" });
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data })
    };
    vec![
        secret(
            "dyff-kafka-cluster-ca-cert",
            json!({ "ca.crt": read(&user.ca) }),
        ),
        secret(
            "workflows-sink-keda",
            json!({ "user.crt": pair, "user.key": pair }),
        ),
    ]
}

/// A group at work, as Kafka sees one: its committed offsets move on, a record every now and then.
struct Group {
    consumer: BaseConsumer,
    /// How many records are left in each partition.
    left: Vec<AtomicI64>,
    /// Partitions that stand still.
    stands: Vec<AtomicBool>,
    /// How often it has committed.
    ticks: AtomicI64,
}

impl Group {
    fn at_work(bootstrap: &str) -> Arc<Group> {
        let consumer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", GROUP)
            .create();
        let partitions = STATE_PARTITIONS as usize;
        let group = Arc::new(Group {
            consumer: consumer.expect("a consumer"),
            left: (0..partitions).map(|_| AtomicI64::new(0)).collect(),
            stands: (0..partitions).map(|_| AtomicBool::new(false)).collect(),
            ticks: AtomicI64::new(0),
        });
        // It ends with the group.
        let works = Arc::downgrade(&group);
        std::thread::spawn(move || {
            while let Some(group) = works.upgrade() {
                group.commit();
                drop(group);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        group
    }

    /// Commits where each partition is; one that is at work is never where it was before.
    fn commit(&self) {
        let tick = self.ticks.fetch_add(1, Ordering::SeqCst) % 100 + 1;
        let mut offsets = TopicPartitionList::new();
        for (partition, left) in self.left.iter().enumerate() {
            let left = left.load(Ordering::SeqCst);
            let moves = match self.stands[partition].load(Ordering::SeqCst) || left == 0 {
                true => 0,
                false => tick,
            };
            let offset = (RECORDS - left + moves).min(RECORDS);
            let partition = i32::try_from(partition).expect("small");
            offsets
                .add_partition_offset(STATE_TOPIC, partition, Offset::Offset(offset))
                .expect("an offset");
        }
        self.consumer
            .commit(&offsets, CommitMode::Sync)
            .expect("committed");
    }

    /// From now on so many records are left in these partitions, and none in the others.
    fn leave(&self, left: i64, partitions: &[usize], stands: bool) {
        for (partition, of) in self.left.iter().enumerate() {
            let is_one = partitions.contains(&partition);
            of.store(if is_one { left } else { 0 }, Ordering::SeqCst);
            self.stands[partition].store(is_one && stands, Ordering::SeqCst);
        }
        self.commit();
    }
}

/// What an autoscaler does with the metric: the formula of the HorizontalPodAutoscaler for an
/// average of an external metric.
struct Scaler {
    keda: Keda,
    kubernetes: Kubernetes,
    target: f64,
    bounds: (u64, u64),
}

impl Scaler {
    async fn start(locked: &Locked) -> Scaler {
        let kubernetes = Kubernetes::start(KubernetesOptions::default()).await;
        let kubernetes = kubernetes.expect("an API server");
        let keda = Keda::start(&kubernetes).await.expect("KEDA");
        let mut objects = shipped(&locked.kafka.secured().expect("a listener"));
        objects.push(deployment());
        objects.extend(secrets(locked));
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        kubernetes.apply(&list.to_string()).await.expect("applied");
        let mut scaler = Scaler {
            keda,
            kubernetes,
            target: 0.0,
            bounds: (0, 0),
        };
        scaler.made().await;
        scaler
    }

    /// The autoscaler that KEDA makes, once it has.
    async fn autoscaler(&self) -> Option<Value> {
        let get = ["get", "hpa", "keda-hpa-workflows-sink", "--output", "json"];
        let got = self.kubernetes.kubectl(&get, None).await.ok()?;
        serde_json::from_str(&got).ok()
    }

    /// Waits for that autoscaler, and reads its bounds.
    async fn made(&mut self) {
        until_within(SEEN, "KEDA makes an autoscaler", || async {
            self.autoscaler().await.is_some()
        })
        .await;
        let made = self.autoscaler().await.expect("an autoscaler");
        let spec = &made["spec"];
        let bound = |name: &str| spec[name].as_u64().expect("a number");
        self.bounds = (bound("minReplicas"), bound("maxReplicas"));
        let target = &spec["metrics"][0]["external"]["target"]["averageValue"];
        assert_eq!(target, "20k", "{spec}");
        self.target = 20_000.0;
    }

    /// How many workers are asked for; `None` while KEDA cannot say.
    async fn asked(&self) -> Option<u64> {
        let metric = (self.keda).metric(&self.kubernetes, "default", "workflows-sink", METRIC);
        let value = metric.await.ok()?;
        let (min, max) = self.bounds;
        Some(((value / self.target).ceil() as u64).clamp(min, max))
    }

    /// Looks several times: it stays so.
    async fn keeps_asking_for(&self, workers: u64) {
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK_EVERY).await;
            assert_eq!(
                self.asked().await,
                Some(workers),
                "{}",
                self.keda.log_tail()
            );
        }
    }

    /// Waits until that is so; says what was asked for last where it does not come to that.
    async fn asks_for(&self, workers: u64, why: &str) {
        let end = Instant::now() + SEEN;
        loop {
            let asked = self.asked().await;
            if asked == Some(workers) {
                return;
            }
            let log = self.keda.log_tail();
            assert!(
                Instant::now() < end,
                "{why}: {asked:?} and not {workers}\n{log}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

const ALL: [usize; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

#[tokio::test(flavor = "multi_thread")]
async fn keda_asks_for_as_many_workers_as_can_drain_the_lag() {
    let locked = Locked::start(By::Certificate).await;
    let bootstrap = locked.kafka.bootstrap();
    let records: Vec<Message> = (0..RECORDS * i64::from(STATE_PARTITIONS))
        .map(|n| Message {
            partition: Some((n % i64::from(STATE_PARTITIONS)) as i32),
            ..Message::new(format!("{n:032x}"), "{}")
        })
        .collect();
    produce(&locked.kafka.client_config(), STATE_TOPIC, records).expect("produced");
    let scaler = Scaler::start(&locked).await;
    assert_eq!(scaler.bounds, (2, 12));

    // Nothing is committed yet: whole partitions do not count.
    scaler.asks_for(2, "no offset is committed").await;

    let group = Group::at_work(&bootstrap);
    for (left, workers) in [
        (0, 2),
        (4_000, 3),
        (6_000, 4),
        (9_000, 6),
        (12_000, 12),
        (20_000, 12),
        (1_000, 2),
    ] {
        group.leave(left, &ALL, false);
        scaler
            .asks_for(workers, &format!("{left} records in each partition"))
            .await;
    }
    // Four partitions would be 100,000 records, and six workers.
    group.leave(25_000, &ALL, false);
    scaler.asks_for(12, "all are behind").await;
    group.leave(25_000, &[3, 4, 5, 6], true);
    scaler.asks_for(2, "four partitions have stopped").await;
    scaler.keeps_asking_for(2).await;
    group.leave(25_000, &ALL, false);
    scaler.asks_for(12, "all go on").await;
    group.leave(25_000, &ALL, true);
    scaler.asks_for(2, "MongoDB is away: all stand still").await;
    scaler.keeps_asking_for(2).await;
}
