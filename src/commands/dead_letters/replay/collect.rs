//! What MongoDB has of one partition: its checkpoint, and its letters.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, ensure};
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, Uuid, doc};
use futures_util::TryStreamExt as _;
use mongodb::Database;
use mongodb::options::ReadConcern;

use super::pass::ReplayPass;
use crate::checkpoint::{Checkpoint, Checkpoints, Key};
use crate::database::values::uuid;
use crate::record::Partition;
use crate::writer::dead_letter::{self, COLLECTION, REPLAYED};

/// How many letters of one partition are looked at; their places and keys are kept in memory.
const LETTERS_MAX: usize = 1_000_000;

/// How many letters are read or asked for at a time.
pub(super) const IDS_MAX: usize = 100;

/// One letter that is to be applied.
#[derive(Clone, Debug)]
pub(super) struct ChosenLetter {
    pub(super) offset: i64,
    pub(super) rejected_at: DateTime,
    pub(super) reason: String,
    /// The key, where it is text and whole.
    pub(super) key: Option<String>,
}

/// The letters of one partition.
pub(super) struct LettersOf {
    /// Those that are to be applied, in the order of their offsets.
    pub(super) chosen: Vec<ChosenLetter>,
    /// Of each other letter of the same topic, whether its record was applied after all.
    pub(super) others: HashMap<i64, bool>,
}

/// One partition of one topic, of which letters are to be applied.
#[derive(Clone, Debug)]
pub(super) struct LetterPlace {
    pub(super) key: Key,
    pub(super) topic_id: Option<Uuid>,
    /// How many letters match.
    pub(super) letters: i64,
}

impl LetterPlace {
    /// The `_id` of a letter at `offset`.
    pub(super) fn letter_id(&self, offset: i64) -> Document {
        dead_letter::id(&self.key, self.topic_id, offset)
    }
}

/// The partitions in which `filter` finds letters, in the order of their names.
pub(super) async fn places(
    letters: &super::Letters,
    filter: &Document,
) -> anyhow::Result<Vec<LetterPlace>> {
    let key = doc! {
        "topic": "$_id.topic", "partition": "$_id.partition", "topic_id": "$_id.topic_id",
    };
    let pipeline = [
        doc! { "$match": filter },
        doc! { "$group": { "_id": key, "letters": { "$sum": 1_i64 } } },
        doc! { "$sort": { "_id": 1 } },
    ];
    let found = letters.aggregate(pipeline).await?;
    let place = |found: &Document| {
        let id = found.get_document("_id").ok()?;
        Some(LetterPlace {
            key: Key {
                group: letters.group.clone(),
                partition: Partition::new(id.get_str("topic").ok()?, id.get_i32("partition").ok()?),
            },
            topic_id: uuid(id.get("topic_id")),
            letters: super::count_of(found.get("letters")),
        })
    };
    Ok(found.iter().filter_map(place).collect())
}

/// The checkpoint of a place as a majority has it.
///
/// # Errors
/// Where there is none, or it is of another topic: letters of a former topic have no place in the
/// log any more.
pub(super) async fn checkpoint(
    checkpoints: &Checkpoints,
    place: &LetterPlace,
) -> anyhow::Result<Result<Checkpoint, String>> {
    let found = checkpoints.read().await?;
    Ok(match found {
        None => Err("the partition has no checkpoint".to_owned()),
        Some(found) if found.topic_id != place.topic_id => {
            Err("they are of a former topic of this name".to_owned())
        }
        Some(found) if found.truncated => Err("the log was truncated".to_owned()),
        Some(found) => Ok(found),
    })
}

/// The letters of `place`: those that `filter` finds before `end` are chosen, but those `decided`.
pub(super) async fn letters_of(
    database: &Database,
    place: &LetterPlace,
    filter: &Document,
    end: i64,
    decided: &HashSet<i64>,
) -> anyhow::Result<LettersOf> {
    let of_place = doc! {
        "_id.group": &place.key.group,
        "_id.topic": &*place.key.partition.topic,
        "_id.partition": place.key.partition.number,
        "_id.topic_id": place.topic_id,
    };
    let collection = database.collection::<Document>(COLLECTION);
    let all = collection
        .find(of_place.clone())
        .projection(doc! { "_id": 1, "state": 1 })
        .read_concern(ReadConcern::majority());
    let mut all = all.await?;
    let mut others = HashMap::new();
    while let Some(letter) = all.try_next().await? {
        let (Some(offset), state) = (offset_of(&letter), letter.get_str("state")) else {
            continue;
        };
        others.insert(offset, state.is_ok_and(|state| state == REPLAYED));
        ensure!(
            others.len() <= LETTERS_MAX,
            "more than {LETTERS_MAX} letters in {}: discard those that nobody needs",
            place.key.partition
        );
    }
    let matching = doc! { "$and": [of_place, filter, { "_id.offset": { "$lt": end } }] };
    let chosen = collection
        .find(matching)
        .projection(doc! { "_id": 1, "key": 1, "rejected_at": 1, "reason": 1, "cut.key.bytes": 1 })
        .read_concern(ReadConcern::majority());
    let mut found = chosen.await?;
    let mut chosen = Vec::new();
    while let Some(letter) = found.try_next().await? {
        let letter = chosen_letter(&letter).context("a letter that is not one of this service")?;
        if !decided.contains(&letter.offset) {
            others.remove(&letter.offset);
            chosen.push(letter);
        }
    }
    chosen.sort_unstable_by_key(|letter: &ChosenLetter| letter.offset);
    Ok(LettersOf { chosen, others })
}

fn chosen_letter(letter: &Document) -> Option<ChosenLetter> {
    let key = letter.get_binary_generic("key").ok();
    let whole = letter
        .get_document("cut")
        .and_then(|cut| cut.get_document("key"));
    let whole = whole.map_or(0, |whole| super::count_of(whole.get("bytes")));
    let key = key.filter(|key| whole <= key.len() as i64);
    Some(ChosenLetter {
        offset: offset_of(letter)?,
        rejected_at: *letter.get_datetime("rejected_at").ok()?,
        reason: letter.get_str("reason").ok()?.to_owned(),
        key: key.and_then(|key| Some(str::from_utf8(key).ok()?.to_owned())),
    })
}

/// Takes the records of the letters at `offsets`, which the log no longer has, from the letters.
pub(super) async fn take_gone(
    database: &Database,
    place: &LetterPlace,
    offsets: &[i64],
    pass: &mut ReplayPass,
) -> anyhow::Result<()> {
    let collection = database.collection::<Document>(COLLECTION);
    let bytes = |letter: &Document, name: &str| match letter.get(name) {
        Some(Bson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes,
        })) => Some(bytes.clone()),
        _ => None,
    };
    for offsets in offsets.chunks(IDS_MAX) {
        let ids: Vec<Document> = offsets
            .iter()
            .map(|offset| place.letter_id(*offset))
            .collect();
        let found = collection
            .find(doc! { "_id": { "$in": ids } })
            .sort(doc! { "_id": 1 })
            .projection(doc! { "_id": 1, "key": 1, "value": 1, "cut.value": 1 });
        let mut found = found.await?;
        while let Some(letter) = found.try_next().await? {
            let (Some(offset), Some(key)) = (offset_of(&letter), bytes(&letter, "key")) else {
                continue;
            };
            let value = bytes(&letter, "value");
            let is_cut = letter.contains_key("cut");
            pass.gone(offset, &key, (!is_cut).then_some(value.as_deref()));
        }
    }
    Ok(())
}

/// The offset of a letter.
pub(super) fn offset_of(letter: &Document) -> Option<i64> {
    letter.get_document("_id").ok()?.get_i64("offset").ok()
}
