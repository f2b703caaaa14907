//! The dead letters of one key, and what of them decides about its states. Pure.

use std::collections::BTreeMap;

use bson::{Document, Uuid};

use crate::checkpoint::PartitionLog;
use crate::database::values::uuid;
use crate::record::Partition;
use crate::record::entity::Reason;
use crate::writer::dead_letter::{DISCARDED, OPEN, REPLAYED};

/// How a letter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LetterStanding {
    Open,
    Replayed,
    Discarded,
}

impl LetterStanding {
    /// As the letter has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Open => OPEN,
            Self::Replayed => REPLAYED,
            Self::Discarded => DISCARDED,
        }
    }
}

/// One letter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LetterOfKey {
    pub(super) standing: LetterStanding,
    /// Its reason, with the kind or the server's code where that is what it is about.
    pub(super) why: String,
    /// Whether it is the server that refused the record.
    pub(super) is_refused_by_the_server: bool,
}

/// Those of `letters` that stand in the log of this partition, by offset; letters of a former topic
/// of its name do not.
pub(super) fn letters_in(
    letters: &[Document],
    partition: &Partition,
    log: &PartitionLog,
) -> BTreeMap<i64, LetterOfKey> {
    let is_of_log = |id: &Document| {
        let is_former = |(is, was): (Uuid, Uuid)| is != was;
        !(log.topic_id.zip(uuid(id.get("topic_id")))).is_some_and(is_former)
    };
    let here = letters.iter().filter(|letter| stands_in(letter, partition));
    let here = here.filter_map(|letter| {
        let id = letter.get_document("_id").ok().filter(|id| is_of_log(id))?;
        Some((id.get_i64("offset").ok()?, read(letter)))
    });
    here.collect()
}

/// Whether a letter is of a topic of this name, and of this partition.
pub(super) fn stands_in(letter: &Document, partition: &Partition) -> bool {
    letter.get_document("_id").is_ok_and(|id| {
        let topic = id.get_str("topic").ok();
        let number = id.get_i32("partition").ok();
        (topic, number) == (Some(&*partition.topic), Some(partition.number))
    })
}

fn read(letter: &Document) -> LetterOfKey {
    let standing = match letter.get_str("state") {
        Ok(REPLAYED) => LetterStanding::Replayed,
        Ok(DISCARDED) => LetterStanding::Discarded,
        _ => LetterStanding::Open,
    };
    let reason = letter.get_str("reason").unwrap_or("for no known reason");
    let part = |outer: &str, name: &str| {
        let value = letter.get_document(outer).ok()?.get(name)?.clone();
        Some(format!(" {}", crate::commands::text::plain(&value)))
    };
    let is_refused_by_the_server = reason == Reason::WriteError.as_str();
    let about = match is_refused_by_the_server {
        true => part("error", "code"),
        false => part("detail", "kind").filter(|_| reason == Reason::UnknownKind.as_str()),
    };
    LetterOfKey {
        standing,
        why: format!("{reason}{}", about.unwrap_or_default()),
        is_refused_by_the_server,
    }
}
