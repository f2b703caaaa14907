//! Says why the worker is not in its group. librdkafka goes on trying without end, and its reasons
//! are single events that nobody would connect with partitions that are not consumed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::Client;
use rdkafka::consumer::Consumer as _;
use rdkafka::groups::GroupInfo;

use super::group::keeps_out;
use super::{Context, Handle};
use crate::config::owned::COOPERATIVE;
use crate::telemetry::code::Code;
use crate::telemetry::health::Health;
use crate::telemetry::reminder::Reminder;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long joining may take: a rebalance waits for the slowest member.
const OUTSIDE_MAX: Duration = Duration::from_secs(10);

/// How long the question for the group's members may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the members are asked for while the worker is outside.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// The last reason that Kafka gave for anything.
#[derive(Debug, Default)]
pub(super) struct LastError(Mutex<Option<String>>);

impl LastError {
    pub(super) fn note(&self, reason: &str) {
        *self.0.lock() = Some(reason.to_owned());
    }

    fn get(&self) -> Option<String> {
        self.0.lock().clone()
    }

    pub(super) fn clear(&self) {
        *self.0.lock() = None;
    }
}

/// Watches whether the worker is in `group`, and tells `health` and the log why not, without end.
pub async fn watch_membership(handle: Handle, group: String, health: Arc<Health>) {
    let mut outside: Option<Instant> = None;
    let mut asked: Option<(Instant, Option<String>)> = None;
    let mut reminder: Option<Reminder> = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(consumer) = handle.consumer() else {
            continue;
        };
        if consumer.context().is_joined() {
            if let (Some(since), Some(_)) = (outside.take(), reminder.take()) {
                let seconds = since.elapsed().as_secs();
                tracing::info!(%group, seconds, "in the consumer group again");
            }
            asked = None;
            health.note_kafka(None);
            continue;
        }
        let since = *outside.get_or_insert_with(Instant::now);
        if since.elapsed() < OUTSIDE_MAX {
            // A rebalance is over by then; brokers that are away are not waited for.
            let is_down = consumer.context().is_down();
            health.note_kafka(is_down.then(|| why(consumer.context(), None)));
            continue;
        }
        let is_due = asked
            .as_ref()
            .is_none_or(|(at, _)| at.elapsed() >= ASK_EVERY);
        if is_due && !consumer.context().is_down() {
            let (consumer, name) = (Arc::clone(&consumer), group.clone());
            let look = tokio::task::spawn_blocking(move || others(consumer.client(), &name));
            asked = Some((Instant::now(), look.await.unwrap_or_default()));
        }
        let others = asked.as_ref().and_then(|(_, others)| others.as_deref());
        let why = why(consumer.context(), others);
        if reminder.get_or_insert_default().is_due(&why) {
            let seconds = since.elapsed().as_secs();
            tracing::warn!(code = %Code::OutsideGroup, %group, seconds, "not in the consumer group: {why}");
        }
        health.note_kafka(Some(why));
    }
}

fn why(context: &Context, others: Option<&str>) -> String {
    let last = context.last_error.get();
    match (context.is_down(), others, last) {
        (true, _, Some(last)) => format!("Kafka does not answer: {last}"),
        (true, _, None) => "Kafka does not answer".to_owned(),
        (_, Some(others), _) => others.to_owned(),
        (_, None, Some(last)) => match remedy(&last) {
            Some(remedy) => format!("{last}: {remedy}"),
            None => last,
        },
        (_, None, None) => {
            "Kafka gives no reason; is the group's coordinator available?".to_owned()
        }
    }
}

/// What to do about a reason of Kafka's, where the reason itself does not say so.
fn remedy(reason: &str) -> Option<&'static str> {
    let remedies = [
        (
            "Invalid session timeout",
            "set DYFF_KAFKA__CONFIG__SESSION_TIMEOUT_MS between the brokers' \
             group.min.session.timeout.ms and group.max.session.timeout.ms",
        ),
        (
            "Inconsistent group protocol",
            "other members of the group use another protocol: stop the former service first",
        ),
        (
            "Failed to resolve",
            "the brokers advertise a name that is not known here: correct advertised.listeners, or \
             the name service",
        ),
        (
            "Topic authorization failed",
            "grant Read on the topic to this user",
        ),
        (
            "Group authorization failed",
            "grant Read on the group to this user",
        ),
        (
            "oordinator",
            "the topic __consumer_offsets has no leader, or its broker cannot be reached",
        ),
    ];
    let mut found = remedies
        .into_iter()
        .filter(|(text, _)| reason.contains(text));
    found.next().map(|(_, remedy)| remedy)
}

/// Whether other members keep this one out, and how.
fn others(client: &Client<Context>, group: &str) -> Option<String> {
    let groups = client.fetch_group_list(Some(group), LOOK_TIMEOUT).ok()?;
    groups.groups().iter().find_map(incompatible)
}

fn incompatible(group: &GroupInfo) -> Option<String> {
    let (protocol, members) = (group.protocol(), group.members());
    if !keeps_out(protocol, members.len()) {
        return None;
    }
    let hosts: Vec<String> = (members.iter())
        .map(|member| {
            let host = member.client_host().trim_start_matches('/');
            format!("{} on {host} ({})", member.client_id(), member.id())
        })
        .collect();
    Some(format!(
        "its {} member(s) use the protocol {protocol}, and this worker {COOPERATIVE}: stop the former \
         service first ({})",
        members.len(),
        hosts.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_comes_with_what_to_do() {
        for (reason, says) in [
            (
                "JoinGroup failed: Broker: Invalid session timeout",
                "SESSION_TIMEOUT_MS",
            ),
            (
                "kafka-1:9092/1: Failed to resolve 'kafka-1:9092'",
                "advertised.listeners",
            ),
            ("Broker: Coordinator not available", "__consumer_offsets"),
            ("Broker: Group authorization failed", "grant Read"),
        ] {
            assert!(
                remedy(reason).is_some_and(|remedy| remedy.contains(says)),
                "{reason}"
            );
        }
        assert_eq!(remedy("Local: Broker transport failure"), None);
    }
}
