//! The consumer group, as the commands see and move it: its members, and its committed offsets.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::groups::GroupMemberInfo;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::broker::{Broker, TIMEOUT, all_answered, list};
use super::preflight::group_refused;
use crate::config::owned::COOPERATIVE;
use crate::record::Partition;

/// How long one question for committed offsets may take before it is looked what the client says.
const ASKED_FOR: Duration = Duration::from_secs(3);

/// How long to wait before a question for the group's coordinator is repeated.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A consumer group.
#[derive(Debug, Default)]
pub(crate) struct GroupFacts {
    /// `Stable`, `Empty`, or what it does; empty where there is no such group.
    pub(crate) state: String,
    /// How partitions are assigned; empty where there is no member.
    pub(crate) protocol: String,
    /// Each with its client, host and id.
    pub(crate) members: Vec<String>,
}

impl GroupFacts {
    /// Whether its members keep this service out: see [`keeps_out`].
    pub(crate) fn keeps_out(&self) -> bool {
        keeps_out(&self.protocol, self.members.len())
    }
}

/// Whether so many members, which assign partitions by `protocol`, keep this service out: a group
/// has one protocol.
pub(super) fn keeps_out(protocol: &str, members: usize) -> bool {
    members > 0 && ![COOPERATIVE, ""].contains(&protocol)
}

impl Broker {
    /// The group as its coordinator sees it. Those of group.protocol=consumer are not listed.
    pub(crate) fn group(&self) -> anyhow::Result<GroupFacts> {
        let groups = retry_coordinator(|| {
            let groups = self.consumer.fetch_group_list(Some(&self.group), TIMEOUT);
            Ok(groups?)
        });
        let groups = groups.context("the group's members could not be listed")?;
        let Some(group) = groups
            .groups()
            .iter()
            .find(|group| group.name() == self.group)
        else {
            // One that this user may not use is not listed either.
            self.may_use_group()?;
            return Ok(GroupFacts::default());
        };
        let shown = |member: &GroupMemberInfo| {
            let host = member.client_host().trim_start_matches('/').to_owned();
            format!("{} on {host} ({})", member.client_id(), member.id())
        };
        Ok(GroupFacts {
            state: group.state().to_owned(),
            protocol: group.protocol().to_owned(),
            members: group.members().iter().map(shown).collect(),
        })
    }

    /// The committed offsets. Of a group that this user may not use librdkafka only says that they
    /// were not answered in time: why comes as an event of the client.
    pub(super) fn committed(
        &self,
        asked: TopicPartitionList,
    ) -> anyhow::Result<TopicPartitionList> {
        let end = Instant::now() + TIMEOUT;
        retry_coordinator(|| {
            loop {
                let answer = self.consumer.committed_offsets(asked.clone(), ASKED_FOR);
                let error = match answer {
                    Ok(committed) => return all_answered(committed),
                    Err(error) => error,
                };
                while self.consumer.poll(Duration::ZERO).is_some() {}
                let code = error.rdkafka_error_code();
                let noted = &self.consumer.context().group_refused;
                let is_refused = noted.swap(false, Ordering::Relaxed);
                if is_refused || code == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
                    anyhow::bail!(group_refused(&self.group));
                }
                if code != Some(RDKafkaErrorCode::OperationTimedOut) || Instant::now() > end {
                    return Err(error).context("the committed offsets were not answered");
                }
            }
        })
    }

    /// Fails where this user may not use the group, and says what to grant.
    fn may_use_group(&self) -> anyhow::Result<()> {
        let mut asked = TopicPartitionList::new();
        for topic in &self.topics {
            asked.add_partition(topic, 0);
        }
        self.committed(asked).map(drop)
    }

    /// The members of the group: see [`Broker::group`].
    pub(crate) fn members(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.group()?.members)
    }

    /// Commits what the group has committed of `partitions` as it is: see [`Broker::commit`].
    pub(crate) fn commit_again(&self, partitions: &[Partition]) -> anyhow::Result<()> {
        let committed = self.committed(list(partitions, Offset::Invalid)?)?;
        let offset = |element: &TopicPartitionListElem<'_>| {
            let partition = Partition::new(element.topic(), element.partition());
            Some((
                partition,
                element.offset().to_raw().filter(|offset| *offset >= 0)?,
            ))
        };
        let offsets: Vec<_> = committed.elements().iter().filter_map(offset).collect();
        match offsets.is_empty() {
            true => Ok(()),
            false => self.commit(&offsets),
        }
    }

    /// Moves the group's committed offsets, which works only while it has no members.
    pub(crate) fn commit(&self, offsets: &[(Partition, i64)]) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*offset))?;
        }
        retry_coordinator(|| Ok(self.consumer.commit(&list, CommitMode::Sync)?))
    }
}

/// Repeats a question while the group's coordinator is being found or is loading, as it is after a
/// broker's start.
fn retry_coordinator<T>(ask: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let end = Instant::now() + TIMEOUT;
    loop {
        let answer = ask();
        let error = answer.as_ref().err();
        let error = error.and_then(|error| error.downcast_ref::<KafkaError>());
        match error.and_then(KafkaError::rdkafka_error_code) {
            Some(CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
                if Instant::now() < end =>
            {
                thread::sleep(RETRY_AFTER);
            }
            _ => return answer,
        }
    }
}
