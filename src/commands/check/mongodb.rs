//! The replica set, the user, the collections, and the checkpoints beside their logs.

use std::time::Duration;

use tokio::time::timeout;

use super::report::Report;
use super::tombstones;
use crate::checkpoint::other_groups;
use crate::commands::offsets::{Place, places};
use crate::config::reference::DATABASE;
use crate::config::startup::{self, StartupError};
use crate::config::{Config, Kafka};
use crate::database::collections::{CollectionFacts, describe};
use crate::database::facts::{Facts, facts};
use crate::database::{self, errors};
use crate::kafka::broker::Broker;
use crate::telemetry::causes::told;
use crate::telemetry::code::Code;
use crate::writer;

/// How long the places of all partitions may take.
const PLACES_DEADLINE: Duration = Duration::from_secs(60);

/// `kafka_answers`: whether checkpoints can be compared with their logs.
pub(super) async fn check(config: &Config, kafka_answers: bool, report: &mut Report) {
    let database = match database::open(&config.mongodb).await {
        Ok(database) => database,
        Err(error) => {
            let code = match startup::code(&error) {
                Code::Configuration => Code::Configuration,
                _ => Code::MongodbAway,
            };
            return report.fault(code, "MongoDB", told(&error), "see the message");
        }
    };
    let collections = writer::collections(&config.mapping);
    match facts(&database, &collections, writer::dead_letter::COLLECTION).await {
        Ok(Facts {
            differs_in_case: Some(name),
            ..
        }) => {
            let here = database.name();
            let what =
                format!("{here} differs from the database {name} only in upper and lower case");
            let remedy = format!("write {name} in {}", DATABASE.name);
            return report.fault(Code::Configuration, "MongoDB", what, remedy);
        }
        Ok(found) => report_facts(&found, database.name(), report),
        Err(error) => {
            let why = errors::shown(&error);
            report.fault(Code::MongodbAway, "MongoDB", why, "is a primary elected?");
        }
    }
    match describe(&database).await {
        Ok(found) => report_collections(&found, &collections, report),
        Err(why) => report.fault(
            Code::MongodbAway,
            "collections",
            why,
            "grant readWrite on the database",
        ),
    }
    match kafka_answers {
        true => report_checkpoints(config, &database, report).await,
        false => report.warn(
            "checkpoints",
            "not compared with their logs: Kafka does not answer",
            "see the fault above",
        ),
    }
}

fn report_facts(found: &Facts, database: &str, report: &mut Report) {
    let set = found.set.as_deref().unwrap_or("none");
    let version = found.version.as_deref().unwrap_or("unknown");
    match &found.primary {
        Some(primary) => report.good(
            "MongoDB",
            format!("{version}, set {set}, primary {primary}"),
        ),
        None => report.fault(
            Code::MongodbAway,
            "MongoDB",
            format!("{version}, set {set}, no primary"),
            "rs.status()",
        ),
    }
    match &found.missing {
        None => report.good(
            "privileges",
            format!("the user may do all that it does on {database}"),
        ),
        Some(missing) => report.fault(
            Code::Configuration,
            "privileges",
            format!("the user may not {missing}"),
            format!("grant it readWrite on {database}: `workflows-sink admin provision`"),
        ),
    }
    if let Some(missing) = &found.missing_for_indexes {
        report.warn_of(
            Code::IndexesNotMade,
            "privileges",
            format!("the user may not {missing}: lists and counts of dead letters read more"),
            format!("grant it readWrite on {database}: `workflows-sink admin provision`"),
        );
    }
    if !found.excess.is_empty() {
        report.warn(
            "privileges",
            format!(
                "the user may more than it needs: {}",
                found.excess.join(", ")
            ),
            format!("readWrite on {database} is enough"),
        );
    }
}

fn report_collections(found: &[CollectionFacts], routed: &[&str], report: &mut Report) {
    let of = |name: &&&str| found.iter().find(|found| found.name == **name);
    let existing: Vec<&CollectionFacts> = routed.iter().filter_map(|name| of(&name)).collect();
    let missing = routed.len() - existing.len();
    report.good(
        "collections",
        format!("{} are there, {missing} will be created", existing.len()),
    );
    for CollectionFacts {
        name,
        is_plain,
        has_validator,
        unique,
        expiring,
    } in existing
    {
        if !is_plain {
            report.fault(
                Code::CollectionRefuses,
                "collections",
                format!("{name} is a view or a time series"),
                "drop it: the service writes a collection of that name",
            );
        }
        if *has_validator || !unique.is_empty() {
            let why = match has_validator {
                true => "a validator".to_owned(),
                false => format!("a unique index ({})", unique.join(", ")),
            };
            report.warn(
                "collections",
                format!("{name} has {why}: its states are written one by one"),
                "what it refuses becomes a dead letter; drop it if it is not needed",
            );
        }
        if !expiring.is_empty() {
            report.warn(
                "collections",
                format!(
                    "{name} has a TTL index ({}): its documents vanish",
                    expiring.join(", ")
                ),
                "drop the index, unless that is meant",
            );
        }
    }
}

/// Which of the two servers does not answer.
pub(super) fn code_of(error: &anyhow::Error) -> Code {
    let mut causes = error.chain();
    match causes.any(|cause| cause.is::<mongodb::error::Error>()) {
        true => Code::MongodbAway,
        false if error.is::<StartupError>() => startup::code(error),
        false => Code::KafkaAway,
    }
}

/// The partitions with their logs and checkpoints.
async fn find_places(
    kafka: &Kafka,
    database: &mongodb::Database,
    report: &mut Report,
) -> Option<Vec<Place>> {
    let looked = async {
        let broker = Broker::new(kafka)?;
        places(database, kafka, &broker, None).await
    };
    match timeout(PLACES_DEADLINE, looked).await {
        Ok(Ok(places)) => return Some(places),
        Ok(Err(error)) => {
            let why = match error.downcast_ref() {
                Some(error) => errors::shown(error),
                None => told(&error),
            };
            report.fault(code_of(&error), "checkpoints", why, "see the faults above");
        }
        Err(_) => {
            let (code, why) = (Code::KafkaAway, "no answer in time");
            report.fault(code, "checkpoints", why, "run it again");
        }
    }
    None
}

async fn report_checkpoints(config: &Config, database: &mongodb::Database, report: &mut Report) {
    let kafka = &config.kafka;
    let Some(places) = find_places(kafka, database, report).await else {
        return;
    };
    tombstones::check(config, &places, report).await;
    let stuck: Vec<_> = places
        .iter()
        .filter(|place| place.is_stuck(kafka.start))
        .collect();
    for place in &stuck {
        let (topic, number) = (&place.partition.topic, place.partition.number);
        report.fault(
            place.code().unwrap_or(Code::NothingSettles),
            "checkpoints",
            format!("{} stands still: {}", place.partition, place.state()),
            format!(
                "workflows-sink offsets resolve --topic {topic} --partition {number}{}",
                if place.is_halted() {
                    " --retry, or --continue"
                } else {
                    ""
                }
            ),
        );
    }
    let fine = (places.iter()).filter(|place| !place.is_stuck(kafka.start));
    let (absent, fit): (Vec<_>, Vec<_>) = fine.partition(|place| place.is_new());
    let (absent, fit) = (absent.len(), fit.len());
    let (all, lag) = (
        places.len(),
        places.iter().filter_map(Place::lag).sum::<i64>(),
    );
    if fit > 0 {
        let what = format!("{fit} of {all} fit their logs; lag {lag}");
        report.good("checkpoints", what);
    }
    if absent > 0 {
        let what = format!("{absent} of {all} are not there yet: a first start makes them");
        report.good("checkpoints", what);
    }
    match other_groups(database, &kafka.group, &kafka.topics).await {
        Ok(others) if !others.is_empty() => report.warn_of(
            Code::OtherGroups,
            "group",
            format!(
                "other groups keep checkpoints for these topics here: {}",
                others.join(", ")
            ),
            "only one may run: they are not fenced against each other",
        ),
        Ok(_) => {}
        Err(error) => {
            let why = database::errors::shown(&error);
            let remedy = "grant readWrite on the database";
            report.fault(Code::MongodbAway, "checkpoints", why, remedy);
        }
    }
}
