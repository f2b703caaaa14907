//! How long a partition stands still when workers leave, join and are replaced, while each
//! partition gets a record every 50 ms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use local_stack::random::Random;
use local_stack::{Message, observe};
use rdkafka::producer::{Producer as _, ThreadedProducer};
use tokio::time::sleep;

use crate::figures::Figures;
use crate::load::{scattered_id, sized};
use crate::sending::{self, Acknowledged, Sent};
use crate::stage::{Service, Stage};
use crate::visible::{Moves, Watch};

const PARTITIONS: usize = 12;
/// How often each partition gets a record. The partitions take turns within it.
const RECORD_EVERY: Duration = Duration::from_millis(50);
const ENTITY_BYTES: usize = 2_000;
/// A multiple of the partitions: an entity stays in its own.
const ENTITIES: usize = 100 * PARTITIONS;
/// What follows each event, so that none meets what is left of the one before.
const QUIET: Duration = Duration::from_secs(2);
/// Until the partitions are shared evenly; with the broker's heartbeat of 5 s it takes several.
const BALANCED_DEADLINE: Duration = Duration::from_secs(60);
const BALANCED_POLL: Duration = Duration::from_millis(20);
/// All events of one round.
const SENDING_DEADLINE: Duration = Duration::from_secs(300);
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
const ASSIGNED: &str = "workflows_sink_assigned_partitions";
/// What a case is called, and what the workers are told of the group's protocol.
const PROTOCOLS: [(&str, &[(&str, &str)]); 2] = [
    ("", &[]),
    (
        ", group.protocol=consumer",
        &[("DYFF_KAFKA__CONFIG__GROUP_PROTOCOL", "consumer")],
    ),
];

/// Takes the figures. The first round is not counted: the broker compiles meanwhile what it runs
/// for a group.
pub async fn measure(stage: &mut Stage, rounds: usize, figures: &mut Figures) -> Result<()> {
    for round in 0..=rounds {
        for (protocol, settings) in PROTOCOLS {
            for (event, standstill_s) in events(stage, settings).await? {
                if round > 0 {
                    let case = format!("{event}{protocol}");
                    figures.add("standstill", &case, "longest", "s", standstill_s);
                }
            }
        }
    }
    stage.clear().await
}

/// What begins, and when.
type Mark = (&'static str, Instant);

/// Each event, with the longest standstill of any partition in seconds: from when a record was due
/// until a majority had its checkpoint behind it.
async fn events(stage: &mut Stage, settings: &[(&str, &str)]) -> Result<Vec<(&'static str, f64)>> {
    stage.clear().await?;
    let topic = stage.topic(PARTITIONS as i32).await?;
    let group = stage.name("group");
    let start = |stage: &Stage| stage.spawn(&topic, &group, settings);
    let mut workers = Vec::new();
    for _ in 0..2 {
        let mut worker = start(stage)?;
        worker.ready().await?;
        workers.push(worker);
    }
    balanced(&mut workers).await?;
    let visible = Watch::start(&stage.client().await?, &group).await?;
    let sender = Sender::start(&stage.bootstrap(), &topic)?;
    let first = (0..PARTITIONS as i32).map(|partition| (partition, 0));
    visible.reached(&first.collect()).await?;
    sleep(QUIET).await;

    let mut marks: Vec<Mark> = vec![("nothing happens", Instant::now())];
    sleep(QUIET).await;
    marks.push(("a worker leaves", Instant::now()));
    workers.remove(0).stop().await?;
    balanced(&mut workers).await?;
    sleep(QUIET).await;
    marks.push(("a worker joins", Instant::now()));
    workers.push(start(stage)?);
    balanced(&mut workers).await?;
    sleep(QUIET).await;
    // As a rollout that may have one pod more does it.
    marks.push(("a worker is replaced", Instant::now()));
    let mut replacement = start(stage)?;
    replacement.ready().await?;
    workers.push(replacement);
    workers.remove(0).stop().await?;
    balanced(&mut workers).await?;
    sleep(QUIET).await;
    marks.push(("the end", Instant::now()));

    let sent = sender.stop().await?;
    visible.reached(&sending::last(&sent)).await?;
    let moves = visible.stop()?;
    for worker in workers {
        worker.stop().await?;
    }
    let seen: Vec<_> = marks
        .windows(2)
        .filter_map(|window| longest(window, &sent, &moves))
        .collect();
    ensure!(seen.len() + 1 == marks.len(), "an event without records");
    Ok(seen)
}

/// The event from one mark to the next, with the longest standstill in seconds.
fn longest(window: &[Mark], sent: &[Sent], moves: &Moves) -> Option<(&'static str, f64)> {
    let [(event, from), (_, until)] = *window else {
        return None;
    };
    // What was due just before is part of it: it may be under way.
    let delays_ms = sending::delays_ms(sent, moves, from - RECORD_EVERY..until);
    let longest_ms = delays_ms.into_iter().reduce(f64::max)?;
    Some((event, longest_ms / 1e3))
}

/// Waits until all workers have as many partitions as each other.
async fn balanced(workers: &mut [Service]) -> Result<()> {
    let share = PARTITIONS as f64 / workers.len() as f64;
    let end = Instant::now() + BALANCED_DEADLINE;
    loop {
        let mut even = true;
        for worker in &mut *workers {
            even &= observe::total(&worker.metrics().await?, ASSIGNED) == share;
        }
        if even {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the partitions are not shared evenly");
        sleep(BALANCED_POLL).await;
    }
}

/// A thread that sends until it is told to stop, or this is dropped.
struct Sender {
    producer: Arc<ThreadedProducer<Acknowledged>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Result<()>>>,
}

impl Sender {
    fn start(bootstrap: &str, topic: &str) -> Result<Sender> {
        let producer = Arc::new(sending::producer(bootstrap)?);
        let stop = Arc::<AtomicBool>::default();
        let thread = {
            let (producer, stop) = (Arc::clone(&producer), Arc::clone(&stop));
            let topic = topic.to_owned();
            thread::spawn(move || send(&producer, &topic, &stop))
        };
        Ok(Sender {
            producer,
            stop,
            thread: Some(thread),
        })
    }

    /// All records that the broker has.
    async fn stop(mut self) -> Result<Vec<Sent>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the sender was stopped")?;
        let ended = tokio::task::spawn_blocking(move || thread.join()).await?;
        ended.map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        Ok(self.producer.context().taken())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends to each partition in turn, at a steady pace. Blocks.
fn send(producer: &ThreadedProducer<Acknowledged>, topic: &str, stop: &AtomicBool) -> Result<()> {
    let mut random = Random::new(7);
    let messages: Vec<Message> = (0..ENTITIES)
        .map(|n| Message {
            partition: Some((n % PARTITIONS) as i32),
            ..sized(&mut random, scattered_id(n), n, ENTITY_BYTES)
        })
        .collect();
    let began = Instant::now();
    let mut due = began;
    for message in messages.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        ensure!(
            began.elapsed() < SENDING_DEADLINE,
            "the events take too long"
        );
        thread::sleep(due.saturating_duration_since(Instant::now()));
        sending::send(producer, topic, message, due)?;
        due += RECORD_EVERY / PARTITIONS as u32;
    }
    Ok(producer.flush(FLUSH_DEADLINE)?)
}
