//! Which topics these are: their ids, which are watched, and whether the group knew them before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bson::Uuid;
use rdkafka::consumer::Consumer as _;
use tokio::sync::watch;

use super::Handle;
use super::missing::{AGREED_LOOKS, PartitionCounts, VANISHED};
use super::refused;
use super::topic_id::{Answer, Described, describe};
use crate::record::Partition;
use crate::telemetry::code::Code;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// How often the ids are looked up. librdkafka silently continues at the old offset of a topic that
/// was recreated: what is read until then is applied again from the new log's start.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How long one lookup may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// The topics' ids as they were seen last.
#[derive(Clone, Debug, Default)]
pub struct TopicIds(Arc<watch::Sender<BTreeMap<String, Uuid>>>);

impl TopicIds {
    /// Returns once `topic` has been seen with an id that is neither `current` nor one of the
    /// `former` ones, which a broker that is behind may still tell. An absent id is not seen.
    pub async fn differs(&self, topic: &str, current: Option<Uuid>, former: &[Uuid]) {
        let other = |ids: &BTreeMap<String, Uuid>| {
            let id = ids.get(topic);
            id.is_some_and(|id| Some(*id) != current && !former.contains(id))
        };
        let seen = self.0.subscribe().wait_for(other).await.map(drop);
        seen.expect("the sender, which is held here");
    }

    /// Notes what has just been seen, so that a claim is not compared with an older id. An id that
    /// is absent now says nothing: the one seen last stands.
    pub fn note(&self, found: impl IntoIterator<Item = (String, Uuid)>) {
        self.0.send_if_modified(|ids| {
            let mut changed = false;
            for (topic, id) in found {
                changed |= ids.insert(topic, id) != Some(id);
            }
            changed
        });
    }
}

/// The ids, and what keeps them up to date for as long as it runs. `first` are those of before
/// there was a client: what it has learned of a topic that is recreated at once is of the one
/// before. It also notes which topics no longer exist, or have fewer partitions than in `counts`.
pub fn watch_ids(
    handle: Handle,
    counts: &BTreeMap<String, i32>,
    first: BTreeMap<String, Uuid>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
) -> (TopicIds, impl Future<Output = ()> + Send + use<>) {
    let ids = TopicIds::default();
    let seen = ids.clone();
    let topics: Vec<String> = counts.keys().cloned().collect();
    let mut counts = PartitionCounts::of(counts);
    let keep_looking = async move {
        let mut recreated = Recreated::since(first);
        loop {
            let found = described(&handle, &topics, &health).await;
            let vanished = found.iter().filter(|(topic, described)| {
                let change = counts.look(topic, described.partitions);
                change.is_some_and(|change| change.report(topic, &metrics, &health))
            });
            let vanished = vanished.count() > 0;
            let id = |(topic, described): (String, Described)| Some((topic, described.id?));
            let ids: Vec<(String, Uuid)> = found.into_iter().filter_map(id).collect();
            let new = ids.iter().filter(|(topic, id)| recreated.look(topic, *id));
            if new.count() > 0 {
                handle.renew(RECREATED, None);
            } else if vanished {
                handle.renew(VANISHED, None);
            }
            seen.note(ids);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    (ids, keep_looking)
}

/// What a broker says of each topic, where one answers and this user may be told; which may not, is
/// noted: a worker without partitions of the topic would not find out otherwise.
async fn described(
    handle: &Handle,
    topics: &[String],
    health: &Arc<Health>,
) -> Vec<(String, Described)> {
    let Some(consumer) = handle.answering() else {
        return Vec::new();
    };
    let (topics, health) = (topics.to_vec(), Arc::clone(health));
    let looked = tokio::task::spawn_blocking(move || {
        let look = |topic: String| {
            let answer = describe(consumer.client(), &topic, LOOK_TIMEOUT)?;
            refused::note(&health, &topic, None, answer == Answer::Refused);
            match answer {
                Answer::Topic(described) => Some((topic, described)),
                Answer::Refused => None,
            }
        };
        topics.into_iter().filter_map(look).collect()
    });
    looked.await.unwrap_or_else(|error| {
        tracing::error!(
            code = %Code::ClientFailed, %error,
            "the lookup of the topics' ids did not finish"
        );
        Vec::new()
    })
}

/// Why a new consumer takes the place of the one in use: librdkafka keeps the leaders' epochs of a
/// topic that was deleted, and ignores those of the new one where they are lower (2.12.1).
const RECREATED: &str = "the topic was recreated";

/// The ids of each topic so far, and for how many looks in a row the last one was found.
#[derive(Debug, Default)]
struct Recreated(HashMap<String, (Vec<Uuid>, u32)>);

impl Recreated {
    fn since(first: BTreeMap<String, Uuid>) -> Recreated {
        let ids = first.into_iter();
        Recreated(ids.map(|(topic, id)| (topic, (vec![id], 0))).collect())
    }

    /// Takes note of an id; `true` once for each but the first, when it has been found for a while.
    fn look(&mut self, topic: &str, id: Uuid) -> bool {
        let (ids, looks) = self.0.entry(topic.to_owned()).or_default();
        if ids.is_empty() {
            ids.push(id);
        }
        *looks = match ids.contains(&id) {
            true => 0,
            false => *looks + 1,
        };
        if *looks < AGREED_LOOKS {
            return false;
        }
        *looks = 0;
        ids.push(id);
        true
    }
}

/// What was known when the service started: it tells a partition that was added to a topic, which
/// starts at its beginning, from one of a topic that is new to the group.
#[derive(Clone, Debug, Default)]
pub struct KnownTopics {
    /// Topics for which the group had a checkpoint.
    pub topics: HashSet<String>,
    /// How many partitions each topic had.
    pub partitions: BTreeMap<String, i32>,
}

impl KnownTopics {
    /// Whether a partition without a checkpoint must have been added.
    pub fn has(&self, partition: &Partition) -> bool {
        self.topics.contains(&*partition.topic)
            || self
                .partitions
                .get(&*partition.topic)
                .is_some_and(|count| partition.number >= *count)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_recreated_topic_is_told_once_when_its_id_stays() {
        let (mut recreated, old, new) = (Recreated::default(), Uuid::new(), Uuid::new());
        let mut look = |id| recreated.look("t", id);
        for id in [old, old, new, old, new, new, new] {
            assert!(!look(id), "it may be a broker that is behind");
        }
        assert!(look(new));
        for id in [new, old, old, old, old, old, new, new] {
            assert!(!look(id), "once for each");
        }
        let mut recreated = Recreated::since([("t".to_owned(), old)].into());
        let found = [new; 4].map(|id| recreated.look("t", id));
        assert_eq!(found, [false, false, false, true], "before the first look");
    }

    #[test]
    fn a_topic_is_another_one_only_by_what_was_seen_last() {
        let (ids, old, new) = (TopicIds::default(), Uuid::new(), Uuid::new());
        let differs = |current| ids.differs("t", current, &[]).now_or_never().is_some();
        assert!(!differs(Some(old)), "nothing was seen yet");
        ids.note([("t".to_owned(), old)]);
        assert!(!differs(Some(old)));
        assert!(differs(None), "the claim learned no id, and there is one");
        assert!(differs(Some(new)));
        ids.note([("t".to_owned(), new)]);
        assert!(!differs(Some(new)), "a claim has seen the new one first");
        ids.note([("t".to_owned(), old)]);
        let behind = ids.differs("t", Some(new), &[old]).now_or_never();
        assert!(behind.is_none(), "an id that was left does not come back");
        ids.note([("t".to_owned(), new)]);
        assert!(differs(Some(old)));
        ids.note([]);
        assert!(differs(Some(old)), "what was seen last stands");
    }
}
