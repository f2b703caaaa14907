//! From nothing to ready, and from a dead worker to the next one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bson::{Document, doc};
use local_stack::{Message, produce};
use mongodb::Database;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::time::sleep;
use workflows_sink::checkpoint;

use crate::figures::Figures;
use crate::stage::Stage;

const PARTITIONS: i32 = 12;
const JOIN_DEADLINE: Duration = Duration::from_secs(60);
const JOIN_POLL: Duration = Duration::from_millis(2);
const POLL: Duration = Duration::from_millis(5);
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
const TAKEOVER_DEADLINE: Duration = Duration::from_secs(60);

/// Takes the figures.
pub async fn measure(stage: &mut Stage, rounds: usize, figures: &mut Figures) -> Result<()> {
    let topic = stage.topic(PARTITIONS).await?;
    for _ in 0..rounds {
        ready(stage, &topic, figures).await?;
    }
    for _ in 0..rounds {
        takeover(stage, &topic, figures).await?;
    }
    stage.clear().await
}

/// A service beside a bare consumer with the same properties.
async fn ready(stage: &mut Stage, topic: &str, figures: &mut Figures) -> Result<()> {
    stage.clear().await?;
    let group = stage.name("group");
    let began = Instant::now();
    let mut service = stage.spawn(topic, &group, &[])?;
    service.ready().await?;
    let ready = began.elapsed().as_secs_f64();
    service.stop().await?;
    let (bootstrap, topic, group) = (stage.bootstrap(), topic.to_owned(), stage.name("group"));
    let joined = tokio::task::spawn_blocking(move || join(&bootstrap, &topic, &group)).await??;
    let case = "12 partitions";
    figures.add("start", case, "start to ready", "s", ready);
    figures.add(
        "start",
        case,
        "a bare consumer's join",
        "s",
        joined.as_secs_f64(),
    );
    figures.add(
        "start",
        case,
        "ready beyond a join",
        "s",
        ready - joined.as_secs_f64(),
    );
    Ok(())
}

fn join(bootstrap: &str, topic: &str, group: &str) -> Result<Duration> {
    let began = Instant::now();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .create()?;
    consumer.subscribe(&[topic])?;
    while consumer.assignment()?.count() < PARTITIONS as usize {
        ensure!(
            began.elapsed() < JOIN_DEADLINE,
            "a bare consumer was assigned nothing"
        );
        consumer.poll(JOIN_POLL);
    }
    Ok(began.elapsed())
}

/// Two workers; one is killed, and the records that come then are settled by the other.
async fn takeover(stage: &mut Stage, topic: &str, figures: &mut Figures) -> Result<()> {
    stage.clear().await?;
    let group = stage.name("group");
    let timeout = SESSION_TIMEOUT.as_millis().to_string();
    let settings = [("DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS", timeout.as_str())];
    let mut survivor = stage.spawn(topic, &group, &settings)?;
    survivor.ready().await?;
    let mut killed = stage.spawn(topic, &group, &settings)?;
    killed.ready().await?;
    let database = stage.database();
    // Every partition has moved on once before: both have what they keep.
    settle(stage, topic, &group, &database).await?;
    killed.kill()?;
    let began = Instant::now();
    settle(stage, topic, &group, &database).await?;
    let took = began.elapsed();
    survivor.stop().await?;
    let case = "kill -9";
    figures.add(
        "start",
        case,
        "last partition settled",
        "s",
        took.as_secs_f64(),
    );
    let beyond = took.as_secs_f64() - SESSION_TIMEOUT.as_secs_f64();
    figures.add(
        "start",
        case,
        "takeover beyond the session timeout",
        "s",
        beyond,
    );
    Ok(())
}

/// Produces a record to each partition, and waits until all of them are settled.
async fn settle(stage: &Stage, topic: &str, group: &str, database: &Database) -> Result<()> {
    let before = offsets(database, group).await?;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", stage.bootstrap())
        .set("linger.ms", "0");
    let topic = topic.to_owned();
    let messages = (0..PARTITIONS).map(|partition| {
        let id = format!("{partition:032x}");
        let json = format!(r#"{{"id":"{id}","kind":"Dataset","status":"Created"}}"#);
        Message {
            partition: Some(partition),
            ..Message::new(id, json)
        }
    });
    let producing = tokio::task::spawn_blocking(move || produce(&config, &topic, messages));
    producing.await?.context("cannot produce")?;
    let end = Instant::now() + TAKEOVER_DEADLINE;
    loop {
        let now = offsets(database, group).await?;
        let moved = |partition| now.get(&partition) > before.get(&partition);
        if (0..PARTITIONS).all(moved) {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "not all partitions were taken over: {before:?} {now:?}"
        );
        sleep(POLL).await;
    }
}

/// The checkpoints of a group, as a majority has them.
async fn offsets(database: &Database, group: &str) -> Result<BTreeMap<i32, i64>> {
    let find = doc! {
        "find": checkpoint::COLLECTION,
        "filter": { "_id.group": group },
        "batchSize": 1_000,
        "singleBatch": true,
        "readConcern": { "level": "majority" },
    };
    let reply = database.run_command(find).await?;
    let found = reply.get_document("cursor")?.get_array("firstBatch")?;
    let read = |document: &Document| -> Result<(i32, i64)> {
        let partition = document.get_document("_id")?.get_i32("partition")?;
        Ok((partition, document.get_i64("next_offset")?))
    };
    found
        .iter()
        .filter_map(bson::Bson::as_document)
        .map(read)
        .collect()
}
