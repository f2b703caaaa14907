//! Brokers, topics and the group.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::net::ToSocketAddrs as _;
use std::time::Duration;

use super::super::progress::CommandProgress;
use super::report::Report;
use crate::config::Kafka;
use crate::config::owned::{COOPERATIVE, default_of};
use crate::kafka::broker::{Broker, BrokerFacts, TopicFacts};
use crate::kafka::group::GroupFacts;
use crate::kafka::preflight::{Unanswered, is_accepted};
use crate::telemetry::causes::told;
use crate::telemetry::code::Code;

/// How long connecting to one broker may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How many replicas survive the loss of one broker and a restart of another.
const REPLICAS_MIN: usize = 3;

const DAY_MS: i64 = 86_400_000;

/// Says whether Kafka answers at all.
pub(super) async fn check(kafka: &Kafka, report: &mut Report) -> bool {
    let asked = kafka.clone();
    let progress = CommandProgress::new(0, "answers");
    progress.show(0, "asking the brokers");
    let answers = tokio::task::spawn_blocking(move || Answers::of(&asked)).await;
    progress.end();
    match answers {
        Ok(answers) => answers.report(kafka, report),
        Err(error) => {
            report.fault(Code::Panicked, "brokers", error.to_string(), "run it again");
            false
        }
    }
}

/// What the brokers said. Asking blocks.
struct Answers {
    access: Result<(), Unanswered>,
    brokers: anyhow::Result<Vec<(BrokerFacts, Result<(), String>)>>,
    topics: Vec<(String, anyhow::Result<TopicFacts>)>,
    group: anyhow::Result<GroupFacts>,
}

impl Answers {
    fn of(kafka: &Kafka) -> Answers {
        let access = is_accepted(kafka);
        // Each further question would wait as long, to say the same.
        if matches!(access, Err(Unanswered::Transient(_))) {
            return Answers::none(access);
        }
        let broker = match Broker::new(kafka) {
            Ok(broker) => broker,
            Err(error) => return Answers::none(Err(Unanswered::Permanent(told(&error)))),
        };
        let reach = |found: BrokerFacts| {
            let reached = reached(&found);
            (found, reached)
        };
        let topic = |name: &String| (name.clone(), broker.topic(name));
        Answers {
            access,
            brokers: broker
                .brokers()
                .map(|all| all.into_iter().map(reach).collect()),
            topics: kafka.topics.iter().map(topic).collect(),
            group: broker.group(),
        }
    }

    /// Where nothing else can be asked.
    fn none(access: Result<(), Unanswered>) -> Answers {
        Answers {
            access,
            brokers: Ok(Vec::new()),
            topics: Vec::new(),
            group: Ok(GroupFacts::default()),
        }
    }

    /// Says whether Kafka answers.
    fn report(self, kafka: &Kafka, report: &mut Report) -> bool {
        let security = protocol(kafka);
        let is_away = matches!(self.access, Err(Unanswered::Transient(_)));
        match self.access {
            Ok(()) => report.good(
                "access",
                format!("the brokers accept this client ({security}), and it may read the topics"),
            ),
            Err(why) => {
                let remedy = match why {
                    Unanswered::Absent { .. } => "a start waits for it",
                    Unanswered::Transient(_) => {
                        "are the brokers up, is the way to them open, and do they speak \
                         security.protocol there?"
                    }
                    Unanswered::Permanent(_) => "correct DYFF_KAFKA__CONFIG__…, or the ACLs",
                };
                report.fault(why.code(), "access", why.to_string(), remedy);
            }
        }
        if is_away {
            return false;
        }
        match self.brokers {
            Ok(brokers) => report_brokers(&brokers, report),
            Err(error) => report.fault(Code::KafkaAway, "brokers", told(&error), "are they up?"),
        }
        for (name, found) in self.topics {
            match found {
                Ok(found) => report_topic(&name, &found, report),
                Err(error) => report.warn(
                    "topic",
                    format!("{name} was not described: {}", told(&error)),
                    "see the fault above",
                ),
            }
        }
        match self.group {
            Ok(group) => report_group(&kafka.group, &group, report),
            Err(error) => report.fault(
                Code::OutsideGroup,
                "group",
                told(&error),
                "grant Read on the group; is its coordinator available?",
            ),
        }
        true
    }
}

fn protocol(kafka: &Kafka) -> &str {
    let set = kafka.properties.get("security.protocol");
    set.unwrap_or("plaintext")
}

/// Whether what is set for TLS and SASL is used: a client without them ignores it in silence.
pub(super) fn check_protocol(kafka: &Kafka, report: &mut Report) {
    let protocol = protocol(kafka).to_lowercase();
    for part in ["sasl", "ssl"]
        .into_iter()
        .filter(|part| !protocol.contains(part))
    {
        let mut set = kafka.properties.iter();
        let is_unused = |(name, value): &(&str, &str)| {
            name.starts_with(&format!("{part}.")) && default_of(name) != Some(value)
        };
        if let Some((name, _)) = set.find(is_unused) {
            report.warn(
                "environment",
                format!("{name} has no effect: security.protocol is {protocol}"),
                "set DYFF_KAFKA__CONFIG__SECURITY_PROTOCOL to ssl, sasl_plaintext or sasl_ssl",
            );
        }
    }
}

/// Whether a broker can be reached by the name that it advertises.
fn reached(broker: &BrokerFacts) -> Result<(), String> {
    let place = (broker.host.as_str(), broker.port);
    let addresses = place.to_socket_addrs();
    let addresses = addresses.map_err(|error| format!("its name is not found: {error}"))?;
    let mut last = "its name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

fn report_brokers(brokers: &[(BrokerFacts, Result<(), String>)], report: &mut Report) {
    for (broker, reached) in brokers {
        let BrokerFacts { id, host, port } = broker;
        if let Err(why) = reached {
            report.fault(
                Code::KafkaAway,
                "brokers",
                format!("broker {id} advertises {host}:{port}, which is not reached: {why}"),
                "correct its advertised.listeners, the name service, or the network policy",
            );
        }
    }
    let fine = brokers
        .iter()
        .filter(|(_, reached)| reached.is_ok())
        .count();
    if fine > 0 {
        report.good(
            "brokers",
            format!("{fine} of {} are reached as they advertise", brokers.len()),
        );
    }
}

fn report_topic(name: &str, topic: &TopicFacts, report: &mut Report) {
    report.good(
        "topic",
        format!("{name} has {} partitions", topic.partitions),
    );
    if topic.leaderless > 0 {
        report.fault(
            Code::KafkaAway,
            "topic",
            format!("{name}: {} partition(s) have no leader", topic.leaderless),
            "start the brokers that hold them",
        );
    }
    if topic.replicas < REPLICAS_MIN {
        report.warn(
            "topic",
            format!("{name} has {} replica(s)", topic.replicas),
            "three survive the loss of a broker while another is restarted",
        );
    }
    let found = match &topic.settings {
        Ok(found) => settings(found),
        Err(error) => {
            let remedy = "grant DescribeConfigs on the topic, or nothing says whether they lose \
                          records";
            return report.warn("topic", format!("{name}: {}", told(error)), remedy);
        }
    };
    for (setting, what, remedy) in found {
        report.warn("topic", format!("{name}: {setting}: {what}"), remedy);
    }
}

/// What the settings of a topic mean for records that are not applied yet.
fn settings(settings: &BTreeMap<String, String>) -> Vec<(&'static str, String, &'static str)> {
    let text = |name: &str| settings.get(name).map(String::as_str);
    let number = |name: &str| text(name).and_then(|text| text.parse::<i64>().ok());
    let mut found = Vec::new();
    let deletes = text("cleanup.policy").is_some_and(|policy| policy.contains("delete"));
    if let Some(ms) = number("retention.ms").filter(|ms| deletes && *ms >= 0) {
        let days = ms as f64 / DAY_MS as f64;
        found.push((
            "retention.ms",
            format!("a record that is not applied within {days:.1} days is lost"),
            "set retention.ms=-1 or cleanup.policy=compact, or watch the age of the lag",
        ));
    }
    if number("retention.bytes").is_some_and(|bytes| deletes && bytes >= 0) {
        found.push((
            "retention.bytes",
            "records are deleted by size, applied or not".to_owned(),
            "set retention.bytes=-1",
        ));
    }
    if text("unclean.leader.election.enable") == Some("true") {
        found.push((
            "unclean.leader.election.enable",
            "an election may lose records that were acknowledged, and stops their partition"
                .to_owned(),
            "set it to false",
        ));
    }
    if number("min.insync.replicas") == Some(1) {
        found.push((
            "min.insync.replicas",
            "a record counts once a single broker has it".to_owned(),
            "set it to 2 where the topic has three replicas",
        ));
    }
    found
}

fn report_group(name: &str, group: &GroupFacts, report: &mut Report) {
    let members = group.members.len();
    if group.keeps_out() {
        report.fault(
            Code::OutsideGroup,
            "group",
            format!(
                "{name} has {members} member(s) of the protocol {}",
                group.protocol
            ),
            format!(
                "stop them first ({}): this service joins by {COOPERATIVE}",
                group.members.join(", ")
            ),
        );
        return;
    }
    let state = match group.state.as_str() {
        "" => "is new to the brokers".to_owned(),
        state => format!("is {state}, with {members} member(s)"),
    };
    report.good("group", format!("{name} {state}"));
}

#[cfg(test)]
mod tests {
    use super::super::report::Mark;
    use super::*;

    #[test]
    fn settings_that_lose_records_are_named() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let found = settings(&pairs.collect());
            found.into_iter().map(|(name, ..)| name).collect::<Vec<_>>()
        };
        let forever = ("retention.ms", "604800000");
        assert_eq!(of(&[("cleanup.policy", "compact"), forever]), [""; 0]);
        assert_eq!(
            of(&[("cleanup.policy", "compact,delete"), forever]),
            ["retention.ms"]
        );
        assert_eq!(
            of(&[("cleanup.policy", "delete"), ("retention.ms", "-1")]),
            [""; 0]
        );
        assert_eq!(
            of(&[
                ("unclean.leader.election.enable", "true"),
                ("min.insync.replicas", "1")
            ]),
            ["unclean.leader.election.enable", "min.insync.replicas"]
        );
    }

    #[test]
    fn members_of_another_protocol_are_a_fault() {
        let mut group = GroupFacts {
            state: "Stable".to_owned(),
            protocol: "range".to_owned(),
            members: vec!["former on 10.0.0.1".to_owned()],
        };
        let mut report = Report::default();
        report_group("g", &group, &mut report);
        assert_eq!(report.findings[0].mark, Mark::Fault);
        group.protocol = COOPERATIVE.to_owned();
        report_group("g", &group, &mut report);
        assert_eq!(report.findings[1].mark, Mark::Good);
        assert_eq!(report.findings[1].what, "g is Stable, with 1 member(s)");
    }
}
