//! The service's health, as `/livez` and `/readyz` answer it.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::cut::cut;
use super::metrics::Metrics;
use super::probes::{self, Probe};

/// A loop without a turn for this long is stuck.
const STUCK_MS: u64 = 30_000;

/// MongoDB has to have answered anything at all within this time.
const LATELY_MS: u64 = 60_000;

/// The most that is shown of why MongoDB does not answer, in characters.
const WHY_CHARS_MAX: usize = 400;

/// A loop whose standstill means that the process has to be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// The thread that polls Kafka.
    Poll,
    /// The runtime that the lanes run on.
    Runtime,
}

impl Loop {
    const ALL: [(Loop, &'static str); 2] =
        [(Loop::Poll, "poll thread"), (Loop::Runtime, "runtime")];
}

/// The health of the process: its parts report it, the probes read it. Never blocks.
#[derive(Debug)]
pub struct Health {
    began: Instant,
    joined: AtomicBool,
    /// Why the worker is not in the group, as far as that is known.
    kafka: Mutex<Option<String>>,
    /// Topics that no longer exist.
    absent_topics: Mutex<BTreeSet<String>>,
    /// Those that the brokers do not let this user read, with the partitions that met it.
    refused: Mutex<BTreeMap<String, BTreeSet<Option<i32>>>>,
    /// Milliseconds since `began` of the last answer; 0 after a failure and before the first.
    mongodb_ms: AtomicU64,
    /// What the last failure was.
    mongodb: Mutex<Option<String>>,
    /// Milliseconds since `began` of each loop's last turn; 0 before the first.
    turned_ms: [AtomicU64; Loop::ALL.len()],
    /// Why single partitions stand still, by partition.
    notes: Mutex<BTreeMap<String, String>>,
    /// Why the leaders of single partitions do not answer, by partition.
    silent_leaders: Mutex<BTreeMap<String, String>>,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            began: Instant::now(),
            joined: AtomicBool::new(false),
            kafka: Mutex::default(),
            absent_topics: Mutex::default(),
            refused: Mutex::default(),
            mongodb_ms: AtomicU64::new(0),
            mongodb: Mutex::default(),
            turned_ms: Default::default(),
            notes: Mutex::default(),
            silent_leaders: Mutex::default(),
        }
    }
}

impl Health {
    /// Reports a turn of a loop. Call it far more often than every 30 s, from the start of the
    /// loop.
    pub fn turned(&self, which: Loop) {
        self.turned_ms[which as usize].store(self.now_ms(), Relaxed);
    }

    /// Reports whether the worker is in the group; a worker without a partition is ready too.
    pub fn set_joined(&self, joined: bool) {
        self.joined.store(joined, Relaxed);
    }

    /// Notes why the worker cannot join the group: one line, without secrets. It counts until the
    /// worker is in the group, or another reason is noted.
    pub fn note_kafka(&self, why: Option<String>) {
        *self.kafka.lock() = why;
    }

    /// Notes whether a topic that is consumed no longer exists.
    pub fn note_absent_topic(&self, topic: &str, is_absent: bool) {
        let mut topics = self.absent_topics.lock();
        match is_absent {
            true => topics.insert(topic.to_owned()),
            false => topics.remove(topic),
        };
    }

    /// Notes whether the brokers let this user read a topic, as a `partition` meets it, or as they
    /// describe it; says whether that is another answer for the topic. One refusal is enough.
    pub fn note_refused(&self, topic: &str, partition: Option<i32>, is_refused: bool) -> bool {
        let mut topics = self.refused.lock();
        let was_refused = topics.contains_key(topic);
        let met_by = topics.entry(topic.to_owned()).or_default();
        match is_refused {
            true => met_by.insert(partition),
            false => met_by.remove(&partition),
        };
        if met_by.is_empty() {
            topics.remove(topic);
        }
        was_refused != topics.contains_key(topic)
    }

    /// Leaves to whoever describes the topic what a `partition` met that is consumed here no more:
    /// it says nothing of whether the topic may be read.
    pub fn leave_refused(&self, topic: &str, partition: i32) {
        if let Some(met_by) = self.refused.lock().get_mut(topic)
            && met_by.remove(&Some(partition))
        {
            met_by.insert(None);
        }
    }

    /// Reports an answer of MongoDB, to a write or a ping. Call it at least every minute.
    pub fn mongodb_answered(&self) {
        self.mongodb_ms.store(self.now_ms(), Relaxed);
    }

    /// Reports that MongoDB did not answer, or not as it should; `why` names it, in one line
    /// without secrets.
    pub fn mongodb_failed(&self, why: &str) {
        *self.mongodb.lock() = Some(cut(why, WHY_CHARS_MAX));
        self.mongodb_ms.store(0, Relaxed);
    }

    /// Notes why a partition stands still, or that it does not. The others go on, so the worker is
    /// ready all the same.
    pub fn note(&self, partition: &str, why: Option<&str>) {
        let mut notes = self.notes.lock();
        match why {
            Some(why) => notes.insert(partition.to_owned(), why.to_owned()),
            None => notes.remove(partition),
        };
    }

    /// Notes why a partition's leader does not answer, or that it does.
    pub fn note_silent_leader(&self, partition: &str, why: Option<&str>) {
        let mut leaders = self.silent_leaders.lock();
        match why {
            Some(why) => leaders.insert(partition.to_owned(), cut(why, WHY_CHARS_MAX)),
            None => leaders.remove(partition),
        };
    }

    /// What is noted of partitions that stand still, one line each.
    pub fn notes(&self) -> Vec<String> {
        let (notes, leaders) = (self.notes.lock(), self.silent_leaders.lock());
        let stand =
            (notes.iter()).map(|(partition, why)| format!("{partition} stands still: {why}"));
        let unled = (leaders.iter())
            .map(|(partition, why)| format!("{partition}: its leader does not answer: {why}"));
        stand.chain(unled).collect()
    }

    /// The stuck loops: only a restart helps. A dependency is never the reason.
    pub fn stuck(&self) -> Vec<&'static str> {
        self.stuck_at(self.now_ms())
    }

    /// What the worker lacks to do its work.
    pub fn missing(&self) -> Vec<String> {
        self.missing_at(self.now_ms())
    }

    fn stuck_at(&self, now_ms: u64) -> Vec<&'static str> {
        let stands = |which: Loop| {
            let turned_ms = self.turned_ms[which as usize].load(Relaxed);
            turned_ms > 0 && now_ms.saturating_sub(turned_ms) > STUCK_MS
        };
        let stuck = Loop::ALL.iter().filter(|(which, _)| stands(*which));
        stuck.map(|(_, name)| *name).collect()
    }

    fn missing_at(&self, now_ms: u64) -> Vec<String> {
        let mut missing = Vec::new();
        if !self.joined.load(Relaxed) {
            missing.push(match &*self.kafka.lock() {
                Some(why) => format!("not in the consumer group: {why}"),
                None => "not in the consumer group".to_owned(),
            });
        }
        for topic in self.absent_topics.lock().iter() {
            missing.push(format!("the topic {topic} no longer exists in Kafka"));
        }
        for topic in self.refused.lock().keys() {
            missing.push(format!(
                "Kafka does not let this user read the topic {topic}: grant Read on it"
            ));
        }
        match self.mongodb_ms.load(Relaxed) {
            0 => {
                let why = self.mongodb.lock().clone();
                missing.push(why.unwrap_or_else(|| "MongoDB has not answered yet".to_owned()));
            }
            answered_ms if now_ms.saturating_sub(answered_ms) > LATELY_MS => {
                missing.push("MongoDB has not answered lately".to_owned());
            }
            _ => {}
        }
        missing
    }

    /// Never 0, which stands for never.
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }
}

/// Serves the metrics and the probes until `shutdown` is done and the requests that have begun are
/// answered, or two seconds have passed.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (live, noted) = (Arc::clone(&health), Arc::clone(&health));
    let probes = vec![
        Probe::live(move || live.stuck()),
        Probe::ready(move || health.missing()).with_notes(move || noted.notes()),
    ];
    probes::serve(listener, move || metrics.render(), probes, shutdown).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_never_makes_the_process_look_dead() {
        let health = Health::default();
        health.turned(Loop::Poll);
        health.turned(Loop::Runtime);
        health.mongodb_failed("MongoDB does not answer: connection refused");
        health.set_joined(false);
        assert!(health.stuck_at(STUCK_MS).is_empty());
        assert_eq!(
            health.missing_at(1),
            [
                "not in the consumer group",
                "MongoDB does not answer: connection refused"
            ]
        );
        health.note_kafka(Some("no broker answers".to_owned()));
        let missing = health.missing_at(1);
        assert_eq!(missing[0], "not in the consumer group: no broker answers");
    }

    #[test]
    fn a_topic_is_refused_as_long_as_one_of_those_who_met_it_says_so() {
        let health = Health::default();
        let note = |partition, is_refused| health.note_refused("t", partition, is_refused);
        assert!(!note(Some(0), false), "it never was");
        assert!(note(Some(0), true));
        assert!(!note(Some(1), true) && !note(None, true), "no news");
        assert!(!note(Some(0), false) && !note(Some(1), false));
        let missing = health.missing_at(1).join(" ");
        assert!(
            missing.contains("read the topic t: grant Read"),
            "{missing}"
        );
        assert!(note(None, false));
        assert!(!health.missing_at(1).join(" ").contains("grant Read"));
        health.leave_refused("t", 0);
        assert!(note(Some(0), true), "nothing was left");
        health.leave_refused("t", 0);
        assert!(!note(Some(0), false), "its end is no answer");
        assert!(note(None, false), "and this one is");
    }

    #[test]
    fn a_loop_that_stands_still_is_named() {
        let health = Health::default();
        assert!(
            health.stuck_at(10 * STUCK_MS).is_empty(),
            "not begun is not stuck"
        );
        health.turned(Loop::Poll);
        assert_eq!(health.stuck_at(10 * STUCK_MS), ["poll thread"]);
        health.turned(Loop::Runtime);
        assert_eq!(health.stuck_at(10 * STUCK_MS), ["poll thread", "runtime"]);
        assert!(health.stuck().is_empty());
    }

    #[test]
    fn ready_is_in_the_group_with_a_mongodb_that_answered_lately() {
        let health = Health::default();
        health.set_joined(true);
        health.mongodb_answered();
        assert!(health.missing().is_empty());
        assert_eq!(
            health.missing_at(2 * LATELY_MS),
            ["MongoDB has not answered lately"]
        );
        health.mongodb_failed(&"x".repeat(2 * WHY_CHARS_MAX));
        let missing = health.missing();
        assert!(
            missing[0].chars().count() == WHY_CHARS_MAX + 1,
            "{missing:?}"
        );
    }
}
