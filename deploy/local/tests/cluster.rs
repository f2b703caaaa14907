//! Brokers and members behind proxies, and what can be done to them.

use std::time::{Duration, Instant};

use local_stack::{Cluster, Direction, Message, Mongo, MongoOptions, Topology, Toxiproxy, produce};
use mongodb::bson::{Document, doc};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

const DEADLINE: Duration = Duration::from_secs(60);

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_lose_one_and_no_record() {
    let toxiproxy = Toxiproxy::install().unwrap();
    let mut cluster = Cluster::start(3, &toxiproxy).await.unwrap();
    let topics = cluster.topics().unwrap();
    topics.create("t", 6, &[]).await.unwrap();
    let records = |from: u32| (from..from + 100).map(|n| Message::new(n.to_string(), "x"));
    let (direct, proxied) = (
        config(&cluster.direct_bootstrap()),
        config(&cluster.bootstrap()),
    );
    assert_eq!(produce(&proxied, "t", records(0)).unwrap(), 100);

    let leader = cluster.leader("t", 0).await.unwrap();
    cluster.move_leadership("t").await.unwrap();
    until("another leader", async || {
        cluster.leader("t", 0).await.is_ok_and(|now| now != leader)
    })
    .await;

    let leader = cluster.leader("t", 0).await.unwrap();
    cluster.server(leader).kill().unwrap();
    assert_eq!(produce(&direct, "t", records(100)).unwrap(), 100);
    until("a new leader", async || {
        cluster.leader("t", 0).await.is_ok_and(|now| now != leader)
    })
    .await;
    cluster.restart(leader).await.unwrap();

    for broker in 0..cluster.brokers() {
        cluster.proxy(broker).down().unwrap();
    }
    assert_eq!(produce(&direct, "t", records(200)).unwrap(), 100);
    for broker in 0..cluster.brokers() {
        cluster.proxy(broker).heal().unwrap();
    }
    assert_eq!(produce(&proxied, "t", records(300)).unwrap(), 100);
    // A client that has not heard of the new leader asks the old one first.
    until("400 records are in the log", async || {
        let mut ends = 0;
        for partition in 0..6 {
            ends += topics
                .watermarks("t", partition)
                .await
                .map_or(0, |(_, end)| end);
        }
        ends == 400
    })
    .await;
}

/// The leaders of a topic's partitions, as the first of these brokers has it; none where none
/// answers.
fn leaders(bootstrap: &str, topic: &str) -> Vec<i32> {
    let client: BaseConsumer = config(bootstrap).create().unwrap();
    let found = client.fetch_metadata(Some(topic), Duration::from_secs(3));
    let topics = found.iter().flat_map(|found| found.topics());
    let partitions = topics.flat_map(|topic| topic.partitions());
    partitions.map(|partition| partition.leader()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_cut_off_from_the_others_answers_with_what_it_knew() {
    let toxiproxy = Toxiproxy::install().unwrap();
    let mut cluster = Cluster::start(3, &toxiproxy).await.unwrap();
    cluster.topics().unwrap().create("t", 6, &[]).await.unwrap();
    cluster.everywhere("t", 6).await.unwrap();
    for broker in 0..cluster.brokers() {
        let own = cluster.direct_bootstrap_where(|other| other == broker);
        let others = cluster.direct_bootstrap_where(|other| other != broker);
        let node = broker as i32 + 1;
        cluster.ready().await.unwrap();
        until("it leads", async || leaders(&others, "t").contains(&node)).await;

        cluster.cut_off(broker).unwrap();
        until("others lead", async || {
            let leaders = leaders(&others, "t");
            !leaders.is_empty() && !leaders.contains(&node)
        })
        .await;
        until("it does not know that", async || {
            leaders(&own, "t").contains(&node)
        })
        .await;
        let records = (0..100).map(|n: u32| Message::new(n.to_string(), "x"));
        assert_eq!(produce(&config(&others), "t", records).unwrap(), 100);

        cluster.rejoin(broker).unwrap();
        until("it knows", async || {
            leaders(&own, "t") == leaders(&others, "t")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_primary_behind_proxies_is_rolled_back() {
    let options = MongoOptions {
        topology: Topology::ReplicaSet(3),
        proxies: Some(Toxiproxy::install().unwrap()),
        ..MongoOptions::default()
    };
    let mut mongo = Mongo::start(options).await.unwrap();
    let old = mongo.primary().await.unwrap();
    let others: Vec<usize> = (0..mongo.members())
        .filter(|member| *member != old)
        .collect();
    let documents = |client: mongodb::Client| client.database("d").collection::<Document>("c");
    let through = documents(mongo.client().await.unwrap());
    through.insert_one(doc! { "_id": "kept" }).await.unwrap();

    // Frozen ones would find the write in their sockets when they wake up.
    for member in &others {
        mongo.kill(*member).unwrap();
    }
    let minority = documents(mongo.direct(old).await.unwrap());
    minority
        .insert_one(doc! { "_id": "lost" })
        .write_concern(mongodb::options::WriteConcern::nodes(1))
        .await
        .unwrap();
    mongo.kill(old).unwrap();
    for member in &others {
        mongo.restart(*member).await.unwrap();
    }
    assert_ne!(mongo.primary().await.unwrap(), old);
    through.insert_one(doc! { "_id": "new" }).await.unwrap();
    mongo.restart(old).await.unwrap();
    let local = documents(mongo.direct(old).await.unwrap());
    let ids = async || {
        let read = local.distinct("_id", doc! {}).selection_criteria(
            mongodb::options::SelectionCriteria::ReadPreference(
                mongodb::options::ReadPreference::Nearest { options: None },
            ),
        );
        let mut ids: Vec<String> = read
            .await
            .ok()?
            .iter()
            .filter_map(|id| Some(id.as_str()?.to_owned()))
            .collect();
        ids.sort();
        Some(ids)
    };
    until("the minority's write is gone", async || {
        ids().await == Some(vec!["kept".into(), "new".into()])
    })
    .await;

    let primary = mongo.primary().await.unwrap();
    mongo
        .proxy(primary)
        .unwrap()
        .black_hole(Direction::Upstream)
        .unwrap();
    let blocked = through.insert_one(doc! { "_id": "held" });
    assert!(
        tokio::time::timeout(Duration::from_millis(500), blocked)
            .await
            .is_err()
    );
    let proxy = mongo.proxy(primary).unwrap();
    proxy.heal().unwrap();
    until("a write passes", async || {
        let again = through.insert_one(doc! {});
        tokio::time::timeout(Duration::from_secs(5), again)
            .await
            .is_ok_and(|written| written.is_ok())
    })
    .await;
}
