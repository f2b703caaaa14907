use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use bson::{Bson, DateTime, Document, RawDocumentBuf};
use proptest::prelude::*;

use super::life::{Effect, LetterPart, ReplayRules};
use super::pass::ReplayPass;
use super::report::{Kept, ReplayReport};
use crate::commands::schema::assert_schema;
use crate::record::entity::Tombstones;
use crate::record::fold::{KindChanges, WriteMode};
use crate::record::mapping::Mapping;

/// Letters are of the kind `New`, which the mapping lacked when they were rejected.
static MAPPING: LazyLock<Arc<Mapping>> = LazyLock::new(|| {
    let mapping = r#"
        id = "id"
        kind = "kind"
        [collections]
        Old = "as"
        New = "as"
        Other = "bs"
    "#;
    Arc::new(Mapping::parse(mapping).unwrap())
});

type Fields = BTreeMap<String, Bson>;

/// What is known of one record.
#[derive(Clone, Debug)]
struct Told {
    key: usize,
    kind: &'static str,
    fields: BTreeMap<&'static str, i32>,
    is_tombstone: bool,
    /// Of a letter: applied before, discarded, open and not chosen, or chosen.
    letter: Option<&'static str>,
}

impl Told {
    fn key(&self) -> String {
        format!("k{}", self.key)
    }

    fn value(&self) -> Option<String> {
        let mut value = serde_json::json!({ "id": self.key(), "kind": self.kind });
        for (name, number) in &self.fields {
            value[*name] = (*number).into();
        }
        (!self.is_tombstone).then(|| value.to_string())
    }

    fn document(&self) -> Fields {
        let fields = self.fields.iter();
        let mut document: Fields = fields
            .map(|(name, number)| ((*name).to_owned(), Bson::from(*number)))
            .collect();
        document.insert("kind".to_owned(), Bson::from(self.kind));
        document
    }
}

fn told() -> impl Strategy<Value = Told> {
    let fields = prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c"]), 0..3, 0..4);
    let letter = prop::sample::select(vec!["replayed", "discarded", "open", "chosen", "chosen"]);
    let kind = prop::sample::select(vec!["Old", "Old", "New", "Other"]);
    (0..3_usize, kind, fields, prop::bool::weighted(0.1), letter).prop_map(
        |(key, kind, fields, is_tombstone, letter)| Told {
            key,
            kind,
            fields,
            is_tombstone,
            letter: (kind == "New" && !is_tombstone).then_some(letter),
        },
    )
}

/// The documents of a database, by collection and id.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<(&'static str, String), Fields>);

impl Model {
    /// What it comes to where these records are applied, one after the other.
    fn of<'t>(records: impl Iterator<Item = &'t Told>, rules: &ReplayRules) -> Model {
        let mut model = Model::default();
        for record in records {
            if record.is_tombstone {
                if rules.tombstones == Tombstones::Delete {
                    model.0.retain(|(_, id), _| *id != record.key());
                }
                continue;
            }
            let collection = if record.kind == "Other" { "bs" } else { "as" };
            model.write(collection, &record.key(), record.document(), rules);
        }
        model
    }

    fn write(&mut self, collection: &'static str, id: &str, document: Fields, rules: &ReplayRules) {
        let key = (collection, id.to_owned());
        if rules.kind_changes == KindChanges::Delete && !self.0.contains_key(&key) {
            self.0.retain(|(_, other), _| other != id);
        }
        let stored = self.0.entry(key).or_default();
        if rules.mode == WriteMode::Replace {
            stored.clear();
        }
        stored.extend(document);
    }

    fn stored(&self, collection: &'static str, id: &str) -> Option<RawDocumentBuf> {
        let fields = self.0.get(&(collection, id.to_owned()))?;
        let mut document = Document::from_iter([("_id".to_owned(), Bson::from(id))]);
        document.extend(fields.clone());
        Some(RawDocumentBuf::try_from(&document).unwrap())
    }
}

/// The offsets that the log still has, where older states of a key before `compacted` and all before
/// `deleted` are gone.
fn log(records: &[Told], compacted: usize, deleted: usize, tombstones_too: bool) -> HashSet<usize> {
    let is_kept = |offset: &usize| {
        let record = &records[*offset];
        let mut before = records.iter().take(compacted).enumerate();
        let is_last = before.rfind(|(_, later)| later.key == record.key);
        let is_last = *offset >= compacted || is_last.is_some_and(|(last, _)| last == *offset);
        let is_expired = record.is_tombstone && tombstones_too && *offset < compacted;
        *offset >= deleted && is_last && !is_expired
    };
    (0..records.len()).filter(is_kept).collect()
}

fn pass_over(
    records: &[Told],
    log: &HashSet<usize>,
    rules: &ReplayRules,
    singly: bool,
) -> ReplayPass {
    let letters = || {
        records
            .iter()
            .enumerate()
            .filter(|(_, told)| told.letter.is_some())
    };
    let chosen = letters().filter(|(_, told)| told.letter == Some("chosen"));
    let chosen: Vec<(i64, DateTime, String)> = chosen
        .map(|(offset, told)| (offset as i64, DateTime::from_millis(0), told.key()))
        .collect();
    let others = letters().filter(|(_, told)| told.letter != Some("chosen"));
    let others: HashMap<i64, bool> = others
        .map(|(offset, told)| (offset as i64, told.letter == Some("replayed")))
        .collect();
    let one_by_one = if singly {
        HashSet::from(["k0".to_owned()])
    } else {
        HashSet::new()
    };
    let mut pass = ReplayPass::new(rules.clone(), chosen, others, &one_by_one);
    for (offset, told) in records
        .iter()
        .enumerate()
        .filter(|(offset, _)| log.contains(offset))
    {
        let value = told.value();
        let value = value.as_deref().map(str::as_bytes);
        pass.record(offset as i64, Some(told.key().as_bytes()), value);
    }
    for offset in pass.awaited() {
        let told = &records[offset as usize];
        let value = told.value().unwrap();
        pass.gone(offset, told.key().as_bytes(), Some(Some(value.as_bytes())));
    }
    pass
}

/// Applies what a pass has found, and gives the letters that were.
fn apply(pass: &mut ReplayPass, rules: &ReplayRules, model: &mut Model) -> HashSet<usize> {
    let keys: Vec<Vec<u8>> = pass.keys().keys().cloned().collect();
    let mut applied = HashSet::new();
    for key in keys {
        let mut changes = false;
        let life = pass.life(&key);
        for collection in life.collections() {
            let name = if rules.mapping.collection(collection) == "as" {
                "as"
            } else {
                "bs"
            };
            let stored = model.stored(name, life.id());
            let mut effect = life.effect(collection, stored.as_deref(), rules);
            if matches!(effect, Effect::Undecidable(_)) {
                life.refuse_gone("undecidable");
                effect = match life.collections().contains(&collection) {
                    true => life.effect(collection, stored.as_deref(), rules),
                    false => Effect::Unchanged,
                };
            }
            changes |= effect == Effect::Changes;
        }
        for step in life.steps(rules).iter().filter(|_| changes) {
            let name = if rules.mapping.collection(step.collection) == "as" {
                "as"
            } else {
                "bs"
            };
            let document = Document::from_reader(&step.document[..]).unwrap();
            model.write(name, life.id(), document.into_iter().collect(), rules);
        }
        let counts = life.letters().iter().filter(|(_, part)| part.counts());
        applied.extend(counts.map(|(offset, _)| *offset as usize));
    }
    applied
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the log has lost, and whichever letters are chosen: the documents become those of
    /// all that was and now is applied, in the order of the offsets, or a letter is left alone.
    #[test]
    fn replayed_letters_are_where_they_belong(
        records in prop::collection::vec(told(), 1..14),
        compacted in 0..14_usize,
        deleted in prop_oneof![Just(0_usize), 0..10_usize],
        tombstones_too in any::<bool>(),
        deletes in any::<bool>(),
        replace in any::<bool>(),
        kinds_change in any::<bool>(),
        unfoldable in any::<bool>(),
        singly in any::<bool>(),
    ) {
        let rules = ReplayRules {
            mapping: Arc::clone(&MAPPING),
            tombstones: if deletes { Tombstones::Delete } else { Tombstones::Ignore },
            mode: if replace { WriteMode::Replace } else { WriteMode::Set },
            kind_changes: if kinds_change { KindChanges::Delete } else { KindChanges::Keep },
            unfoldable: unfoldable.then(|| MAPPING.route("Old").unwrap()).into_iter().collect(),
        };
        let was = |told: &Told| matches!(told.letter, None | Some("replayed"));
        let mut model = Model::of(records.iter().filter(|told| was(told)), &rules);
        let kept = log(&records, compacted.min(records.len()), deleted, tombstones_too);
        let mut pass = pass_over(&records, &kept, &rules, singly);
        let applied = apply(&mut pass, &rules, &mut model);
        let now = records.iter().enumerate();
        let now = now.filter(|(offset, told)| was(told) || applied.contains(offset));
        prop_assert_eq!(model, Model::of(now.map(|(_, told)| told), &rules));
        // What the log still has is never left alone.
        for life in pass.keys().values() {
            for (offset, part) in life.letters() {
                let is_left = matches!(part, LetterPart::Refused(_));
                prop_assert!(!is_left || !kept.contains(&(*offset as usize)), "{part:?}");
                prop_assert!(*part != LetterPart::Awaited);
            }
        }
    }
}

fn told_state(kind: &'static str, a: i32, letter: Option<&'static str>) -> Told {
    Told {
        key: 0,
        kind,
        fields: BTreeMap::from([("a", a)]),
        is_tombstone: false,
        letter,
    }
}

fn set_rules() -> ReplayRules {
    ReplayRules {
        mapping: Arc::clone(&MAPPING),
        tombstones: Tombstones::Ignore,
        mode: WriteMode::Set,
        kind_changes: KindChanges::Keep,
        unfoldable: HashSet::new(),
    }
}

#[test]
fn a_field_that_a_lost_state_may_have_set_is_left_alone_and_named() {
    let rules = set_rules();
    let records = [
        told_state("New", 1, Some("chosen")),
        told_state("Old", 2, None),
    ];
    let mut later = told_state("Old", 0, None);
    later.fields = BTreeMap::from([("b", 3)]);
    let records = [records.to_vec(), vec![later]].concat();
    let model = Model::of(records.iter().filter(|told| told.letter.is_none()), &rules);
    let pass = pass_over(&records, &HashSet::from([2]), &rules, false);
    let life = pass.keys().values().next().unwrap();
    let stored = model.stored("as", "k0");
    let effect = life.effect(MAPPING.route("Old").unwrap(), stored.as_deref(), &rules);
    assert_eq!(effect, Effect::Undecidable("a".to_owned()));
}

#[test]
fn what_does_not_fit_waits_for_another_pass() {
    let letters = (0..20_i64).map(|n| (n, DateTime::from_millis(0), format!("k{n:02}")));
    let mut pass = ReplayPass::new(set_rules(), letters, HashMap::new(), &HashSet::new());
    for n in 0..20_i64 {
        let key = format!("k{n:02}");
        let value = format!(
            r#"{{"id":"{key}","kind":"New","text":"{}"}}"#,
            "x".repeat(1_000)
        );
        pass.record(n, Some(key.as_bytes()), Some(value.as_bytes()));
        pass.keep_within(5_500);
    }
    assert_eq!(pass.keys().len(), 5);
    assert_eq!(pass.postponed(), 15);
    assert!(pass.awaited().is_empty());
}

#[test]
fn a_report_says_what_becomes_of_each_letter() {
    let mut report = ReplayReport::default();
    (report.letters, report.upserted, report.unchanged) = (1_312, 1_309, 1);
    report.keep(Kept::RejectedAgain, "unknown_kind Foo\n", 1, "t 3 4711");
    report.keep(Kept::Elsewhere, "closed meanwhile", 1, "t 3 4712");
    assert_eq!((report.failed(), report.counted()), (1, 1_312));
    let text = |is_done, json| {
        let mut out = Vec::new();
        report.print(is_done, json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    insta::assert_snapshot!("dry", text(false, false));
    insta::assert_snapshot!("done", text(true, false));
    insta::assert_snapshot!("json", text(true, true));
    assert_schema("dead-letters replay", &[text(true, true)], &[]);
}
