use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bson::{Bson, Document};
use proptest::prelude::*;

use super::union::{elements, union};
use super::*;
use crate::record::Record;
use crate::record::document::DOCUMENT_BYTES_MAX;
use crate::record::entity::{Decoder, Tombstones};
use crate::record::mapping::Mapping;

/// Two collections, the second of which holds two kinds.
static MAPPING: LazyLock<Arc<Mapping>> = LazyLock::new(|| {
    let mapping = r#"
        id = "id"
        skipped_ids = ["null"]
        kind = "kind"
        maps = []
        [collections]
        A = "as"
        B = "bs"
        C = "bs"
    "#;
    Arc::new(Mapping::parse(mapping).unwrap())
});

/// One record, as a test says it.
#[derive(Clone, Debug)]
enum Told {
    State {
        id: String,
        kind: &'static str,
        fields: BTreeMap<String, i32>,
    },
    Tombstone(String),
    NullId,
    Malformed,
}

fn state(id: &str, kind: &'static str, fields: &[(&str, i32)]) -> Told {
    let fields = fields.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
    Told::State {
        id: id.to_owned(),
        kind,
        fields,
    }
}

fn tombstone(id: &str) -> Told {
    Told::Tombstone(id.to_owned())
}

fn json(id: &str, kind: &str, fields: &BTreeMap<String, i32>) -> String {
    let mut object = serde_json::json!({ "id": id, "kind": kind });
    for (name, value) in fields {
        object[name] = (*value).into();
    }
    object.to_string()
}

fn batch(records: &[Told]) -> Batch {
    let mut decoder = Decoder::new(Arc::clone(&MAPPING), Tombstones::Delete);
    let mut batch = Batch::new(0);
    for (offset, told) in (0..).zip(records) {
        let (key, value) = match told {
            Told::State { id, kind, fields } => (id.as_str(), Some(json(id, kind, fields))),
            Told::Tombstone(id) => (id.as_str(), None),
            Told::NullId => ("null", Some(r#"{"id":"null"}"#.to_owned())),
            Told::Malformed => ("x", Some("x".to_owned())),
        };
        let record = Record {
            offset,
            key: Some(key.as_bytes()),
            value: value.as_deref().map(str::as_bytes),
            ..Record::default()
        };
        assert!(batch.push(&mut decoder, record));
    }
    batch
}

/// The collection of a kind, by name.
fn collection(kind: &str) -> CollectionId {
    MAPPING.route(kind).unwrap()
}

fn refusal() -> Refusal {
    Refusal {
        code: 121,
        message: "no".to_owned(),
        info: None,
    }
}

type Fields = BTreeMap<String, Bson>;

/// What a database holds.
#[derive(Debug, Default, PartialEq)]
struct Model {
    documents: BTreeMap<(CollectionId, String), Fields>,
    kind_changes: KindChanges,
}

impl Model {
    fn write(&mut self, collection: CollectionId, id: &str, fields: Fields, mode: WriteMode) {
        let key = (collection, id.to_owned());
        if self.kind_changes == KindChanges::Delete && !self.documents.contains_key(&key) {
            self.delete(id);
        }
        let stored = self.documents.entry(key).or_default();
        if mode == WriteMode::Replace {
            stored.clear();
        }
        stored.extend(fields);
    }

    fn delete(&mut self, id: &str) {
        self.documents.retain(|(_, stored), _| stored != id);
    }

    /// The slow, obvious way: record after record.
    fn apply(&mut self, told: &Told, mode: WriteMode) {
        match told {
            Told::State { id, kind, fields } => {
                let kind_field = ("kind".to_owned(), Bson::from(*kind));
                let fields = fields
                    .iter()
                    .map(|(k, v)| (k.clone(), Bson::Int32(*v)))
                    .chain([kind_field])
                    .collect();
                self.write(collection(kind), id, fields, mode);
            }
            Told::Tombstone(id) => self.delete(id),
            Told::NullId | Told::Malformed => {}
        }
    }

    /// What the server does with a plan.
    fn execute(&mut self, plan: &Plan<'_>, mode: WriteMode) {
        for id in &plan.deletes {
            self.delete(id);
        }
        for (collection, writes) in &plan.writes {
            for write in writes {
                let fields = Document::from_reader(&*write.document).unwrap();
                assert!(write.names >= fields.len(), "{} of {fields}", write.names);
                self.write(*collection, write.id, fields.into_iter().collect(), mode);
            }
        }
    }
}

fn folding(mode: WriteMode, unfoldable: &HashSet<CollectionId>, enabled: bool) -> Folding<'_> {
    Folding {
        mode,
        kind_changes: KindChanges::Keep,
        unfoldable,
        enabled,
        rejections: Rejections::default(),
        rejections_in_a_row_max: 0,
    }
}

fn set(unfoldable: &HashSet<CollectionId>) -> Folding<'_> {
    folding(WriteMode::Set, unfoldable, true)
}

fn plan_of<'a>(
    batch: &'a Batch,
    folding: &Folding<'_>,
    none: &'a HashMap<usize, Refusal>,
) -> Plan<'a> {
    Plan::new(batch, 0..batch.entries().len(), folding, none)
}

/// Whether a record is written or deletes: what a server can refuse.
fn is_accepted(told: &Told) -> bool {
    matches!(told, Told::State { .. })
}

prop_compose! {
    fn fields()(names in prop::collection::btree_map("[a-e]", 0..100_i32, 0..5)) -> BTreeMap<String, i32> {
        names
    }
}

fn told() -> impl Strategy<Value = Told> {
    let id = || prop::sample::select(vec!["1", "2", "3"]).prop_map(str::to_owned);
    let kind = prop::sample::select(vec!["A", "B", "C"]);
    prop_oneof![
        12 => (id(), kind, fields()).prop_map(|(id, kind, fields)| Told::State { id, kind, fields }),
        3 => id().prop_map(Told::Tombstone),
        1 => Just(Told::NullId),
        1 => Just(Told::Malformed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// However a batch is planned, cut and repeated, the documents are those of one record after
    /// the other.
    #[test]
    fn folding_changes_nothing_that_a_reader_can_see(
        records in prop::collection::vec(told(), 1..40),
        cuts in prop::collection::vec(1..20_usize, 1..8),
        enabled in prop::collection::vec(prop::bool::weighted(0.8), 1..5),
        refused in prop::collection::hash_set(0..40_usize, 0..4),
        unfoldable_a in any::<bool>(),
        replace in any::<bool>(),
        kinds_change in any::<bool>(),
    ) {
        let kind_changes = if kinds_change { KindChanges::Delete } else { KindChanges::Keep };
        let mode = if replace { WriteMode::Replace } else { WriteMode::Set };
        let unfoldable: HashSet<_> = unfoldable_a.then(|| collection("A")).into_iter().collect();
        let refused: HashMap<usize, Refusal> = refused
            .into_iter()
            .filter(|record| records.get(*record).is_some_and(is_accepted))
            .map(|record| (record, refusal()))
            .collect();
        let batch = batch(&records);

        let empty = || Model { kind_changes, ..Model::default() };
        let (mut reference, mut model) = (empty(), empty());
        let (mut cuts, mut enabled) = (cuts.into_iter().cycle(), enabled.into_iter().cycle());
        let mut next = 0;
        while next < records.len() {
            let until = (next + cuts.next().unwrap()).min(records.len());
            let folding = Folding {
                kind_changes,
                ..folding(mode, &unfoldable, enabled.next().unwrap())
            };
            let plan = Plan::new(&batch, next..until, &folding, &refused);
            prop_assert_eq!(plan.records.start, next);
            prop_assert!((next + 1..=until).contains(&plan.records.end), "each plan gets on");
            let covered = plan.records.clone();
            model.execute(&plan, mode);
            for record in covered.clone() {
                if !refused.contains_key(&record) {
                    reference.apply(&records[record], mode);
                }
            }
            prop_assert_eq!(&model, &reference, "after {:?}", covered);

            let count = |of: fn(&Told) -> bool| {
                covered.clone().filter(|r| of(&records[*r]) && !refused.contains_key(r)).count()
            };
            let accepted = count(is_accepted);
            let writes: Vec<&Write<'_>> = plan.writes.iter().flat_map(|(_, writes)| writes).collect();
            prop_assert_eq!(writes.len() + plan.folded, accepted, "every record counts once");
            let states: usize = writes.iter().map(|write| write.states).sum();
            prop_assert!(states <= accepted);
            if plan.deletes.is_empty() {
                prop_assert_eq!(states, accepted);
            }
            prop_assert_eq!(plan.deletes.len(), count(|told| matches!(told, Told::Tombstone(_))));
            prop_assert_eq!(plan.skipped, count(|told| matches!(told, Told::NullId)));
            for (collection, writes) in &plan.writes {
                prop_assert!(!writes.is_empty());
                let apart = !folding.enabled || unfoldable.contains(collection);
                let apart = apart.then(|| writes.iter().all(|write| write.states == 1));
                prop_assert_ne!(apart, Some(false), "a state that is to be seen by the server was folded");
            }
            if !folding.enabled {
                prop_assert_eq!(plan.folded, 0);
            }
            let letters: Vec<_> = covered
                .clone()
                .filter_map(|record| match (&records[record], refused.get(&record)) {
                    (_, refusal @ Some(_)) => Some((record, Reason::WriteError, refusal)),
                    (Told::Malformed, None) => Some((record, Reason::MalformedValue, None)),
                    _ => None,
                })
                .collect();
            let rejected: Vec<_> = plan.rejected.iter().map(|r| (r.record, r.reason, r.refusal)).collect();
            prop_assert_eq!(rejected, letters, "dead letters, each once and in order");
            next = covered.end;
        }
    }

    /// Whatever fields states have, in whatever order, the latest of each name wins.
    #[test]
    fn the_union_is_that_of_the_server(
        states in prop::collection::vec(prop::collection::vec(("[a-d]{1,2}", -2..3_i32), 0..8), 1..6),
    ) {
        let document = |fields: Vec<(String, i32)>| -> Document {
            fields.into_iter().map(|(name, value)| (name, of_any_type(value))).collect()
        };
        let states: Vec<Document> = states.into_iter().map(document).collect();
        let raw: Vec<Vec<u8>> = states.iter().map(|state| state.to_vec().unwrap()).collect();
        let mut raw: Vec<&[u8]> = raw.iter().map(|state| &state[..]).collect();
        let latest = raw.pop().unwrap();
        let names = states.last().unwrap().len();
        let (united, names) = united(&raw, latest, names);
        let mut both = Document::new();
        states.into_iter().for_each(|state| both.extend(state));
        prop_assert_eq!(names, both.len());
        prop_assert_eq!(sorted(united), sorted(both));
    }
}

/// The union of documents, and how many names it is said to have.
fn united(earlier: &[&[u8]], latest: &[u8], names: usize) -> (Document, usize) {
    let mut known = ahash::HashSet::default();
    let (united, names) = union(earlier, latest, names, &mut known);
    (Document::from_reader(&*united).unwrap(), names)
}

/// Names are looked for one by one or by their hash, and in the middle of a document by both.
#[test]
fn the_union_of_many_names_is_that_of_few() {
    let document = |names: Range<i32>, value: i32| -> Document {
        let field = |name: i32| (format!("n{name}"), Bson::Int32(value));
        names.map(field).collect()
    };
    for in_latest in [0, 1, 63, 64, 65, 200] {
        for missing in [0, 1, 63, 64, 65, 200] {
            // Of these, names that the latest has, those that it lacks, and the latter once more.
            let first = document(-missing..in_latest, 1);
            let second = document(-missing..0, 2);
            let latest = document(0..in_latest, 3);
            let raw = [&first, &second, &latest].map(|document| document.to_vec().unwrap());
            let names = in_latest as usize;
            let (united, names) = united(&[&raw[0], &raw[1]], &raw[2], names);
            let mut both = first;
            [second, latest]
                .into_iter()
                .for_each(|later| both.extend(later));
            assert_eq!(names, both.len(), "{in_latest}, {missing}");
            assert_eq!(sorted(united), sorted(both), "{in_latest}, {missing}");
        }
    }
}

/// A value of one of the types that decoding makes.
fn of_any_type(value: i32) -> Bson {
    match value {
        -2 => Bson::Null,
        -1 => bson::bson!({ "s": "\u{e9}", "f": 1.5, "b": true, "l": 1_i64 << 40, "a": [1, null] }),
        0 => bson::bson!([{ "key": "k", "value": "v" }, 2.5]),
        _ => Bson::Int32(value),
    }
}

fn sorted(document: Document) -> Fields {
    document.into_iter().collect()
}

#[test]
fn every_type_of_value_is_stepped_over() {
    let values = bson::doc! {
        "d": 1.5, "s": "text", "o": { "x": 1 }, "a": [1, 2], "t": true, "n": null, "i": 1, "l": 1_i64 << 40, "z": 9,
    };
    let earlier = values.to_vec().unwrap();
    let names: Vec<String> = elements(&earlier)
        .map(|(name, _)| String::from_utf8(name.to_vec()).unwrap())
        .collect();
    assert_eq!(names, values.keys().cloned().collect::<Vec<_>>());
    let later = bson::doc! { "y": 1 }.to_vec().unwrap();
    let (united, _) = united(&[&earlier], &later, 1);
    let mut both = values;
    both.insert("y", 1);
    assert_eq!(sorted(united), sorted(both));
}

#[test]
fn whole_states_are_folded_without_a_copy() {
    let batch = batch(&[
        state("1", "A", &[("x", 1), ("y", 1)]),
        state("1", "A", &[("x", 2), ("y", 2)]),
        state("1", "A", &[("x", 3), ("y", 3)]),
    ]);
    let (unfoldable, none) = (HashSet::new(), HashMap::new());
    let plan = plan_of(&batch, &set(&unfoldable), &none);
    let [(_, writes)] = &plan.writes[..] else {
        panic!("one collection")
    };
    assert_eq!(
        (writes.len(), writes[0].states, writes[0].record),
        (1, 3, 2)
    );
    assert!(matches!(writes[0].document, Cow::Borrowed(_)));
    assert_eq!(plan.folded, 2);
}

/// Partial states of one entity, each with a field of its own: what is written grows, what is done
/// for each state does not.
#[test]
fn states_that_add_up_are_put_together_once() {
    let records: Vec<Told> = (0..20)
        .map(|i| state("1", "A", &[(&format!("f{i}"), i), ("last", i)]))
        .collect();
    let batch = batch(&records);
    let (unfoldable, none) = (HashSet::new(), HashMap::new());
    let plan = plan_of(&batch, &set(&unfoldable), &none);
    let [(_, writes)] = &plan.writes[..] else {
        panic!("one collection")
    };
    let [write] = &writes[..] else {
        panic!("one write")
    };
    let document = Document::from_reader(&*write.document).unwrap();
    // The latest text has an id too.
    assert_eq!((document.len(), write.names), (22, 23));
    assert_eq!(document.get_i32("last").unwrap(), 19);
    assert_eq!(document.get_i32("f0").unwrap(), 0);
}

#[test]
fn fields_that_come_and_go_need_no_copy_once_they_are_all_there() {
    let batch = batch(&[
        state("1", "A", &[("x", 1), ("y", 1)]),
        state("1", "A", &[("x", 2)]),
        state("1", "A", &[("x", 3), ("y", 3)]),
    ]);
    let (unfoldable, none) = (HashSet::new(), HashMap::new());
    let plan = plan_of(&batch, &set(&unfoldable), &none);
    assert!(matches!(plan.writes[0].1[0].document, Cow::Borrowed(_)));
    assert_eq!(plan.folded, 2);
}

#[test]
fn one_id_in_two_collections_is_two_entities() {
    let batch = batch(&[state("1", "A", &[("x", 1)]), state("1", "B", &[("y", 2)])]);
    let (unfoldable, none) = (HashSet::new(), HashMap::new());
    let plan = plan_of(&batch, &set(&unfoldable), &none);
    assert_eq!(plan.writes.len(), 2);
    assert_eq!(plan.folded, 0);
}

#[test]
fn where_a_change_of_kind_deletes_a_plan_has_each_entity_in_one_collection() {
    let batch = batch(&[
        state("1", "A", &[("x", 1)]),
        state("2", "B", &[]),
        tombstone("1"),
        state("1", "B", &[("y", 2)]),
        state("1", "C", &[("z", 3)]),
        state("1", "A", &[("x", 4)]),
        state("3", "B", &[]),
    ]);
    let (unfoldable, none) = (HashSet::new(), HashMap::new());
    let folding = Folding {
        kind_changes: KindChanges::Delete,
        ..set(&unfoldable)
    };
    let plan = plan_of(&batch, &folding, &none);
    assert_eq!(plan.records, 0..5);
    let rest = Plan::new(&batch, 5..7, &folding, &none);
    assert_eq!((rest.records.clone(), rest.count()), (5..7, 2));
}

#[test]
fn a_tombstone_makes_the_states_before_it_needless_each_once() {
    let batch = batch(&[
        state("1", "A", &[("x", 1)]),
        state("1", "A", &[("x", 2)]),
        state("1", "B", &[("x", 3)]),
        tombstone("1"),
        tombstone("1"),
        state("1", "A", &[("y", 4)]),
    ]);
    let (unfoldable, none) = (HashSet::new(), HashMap::new());
    let plan = plan_of(&batch, &set(&unfoldable), &none);
    assert_eq!(plan.records, 0..6);
    assert_eq!(plan.deletes, ["1", "1"]);
    assert_eq!(plan.folded, 3);
    let [(_, writes)] = &plan.writes[..] else {
        panic!("one collection")
    };
    assert_eq!((writes.len(), writes[0].states), (1, 1));
}

#[test]
fn a_tombstone_hides_no_state_that_the_server_might_refuse() {
    let records = [
        state("1", "A", &[]),
        state("2", "B", &[]),
        tombstone("2"),
        tombstone("1"),
    ];
    let batch = batch(&records);
    let (unfoldable, none) = (HashSet::from([collection("A")]), HashMap::new());
    let plan = plan_of(&batch, &set(&unfoldable), &none);
    assert_eq!(
        plan.records,
        0..2,
        "the server judges the first entity before any tombstone behind it"
    );
    let alone = folding(WriteMode::Set, &unfoldable, false);
    let plan = plan_of(&batch, &alone, &none);
    assert_eq!(plan.records, 0..2);
    let rest = Plan::new(&batch, 2..4, &alone, &none);
    assert_eq!((rest.records.clone(), rest.deletes), (2..4, vec!["2", "1"]));
}

/// A state of entity `1` whose field `name` holds a text that makes the document, with its `_id`,
/// `len` bytes long.
fn large(name: &str, len: usize) -> String {
    let mut text = String::new();
    let document = |text: &str| bson::doc! { "_id": "1", "kind": "A", name: text };
    let rest = len - document(&text).to_vec().unwrap().len();
    text.extend(std::iter::repeat_n('x', rest));
    serde_json::json!({ "id": "1", "kind": "A", name: text }).to_string()
}

fn batch_of(values: &[&str]) -> Batch {
    let mut decoder = Decoder::new(Arc::clone(&MAPPING), Tombstones::Delete);
    let mut batch = Batch::new(0);
    for (offset, value) in (0..).zip(values) {
        let value = (!value.is_empty()).then_some(value.as_bytes());
        let record = Record {
            offset,
            key: Some(b"1"),
            value,
            ..Record::default()
        };
        batch.push(&mut decoder, record);
    }
    batch
}

#[test]
fn what_would_pass_16_mib_is_not_folded() {
    let (unfoldable, none) = (HashSet::new(), HashMap::new());
    let small = r#"{"id":"1","kind":"A","y":"12345678"}"#;
    let small_len = bson::doc! { "kind": "A", "y": "12345678" }
        .to_vec()
        .unwrap()
        .len();
    for (over, writes_expected) in [(0, 1), (1, 2)] {
        let first = large("x", DOCUMENT_BYTES_MAX - small_len + over);
        let batch = batch_of(&[&first, small, small, ""]);
        assert!(matches!(
            batch.entries()[0].decoded,
            Decoded::Accepted { .. }
        ));
        let plan = Plan::new(&batch, 0..3, &set(&unfoldable), &none);
        let [(_, writes)] = &plan.writes[..] else {
            panic!("one collection")
        };
        assert_eq!(writes.len(), writes_expected);
        assert_eq!(plan.folded + writes.len(), 3);
        let longest = writes
            .iter()
            .map(|write| write.document.len())
            .max()
            .unwrap();
        let id_len = b"t_id\0llll1\0".len();
        assert!(longest + id_len <= DOCUMENT_BYTES_MAX);
        // Two writes of one entity are not folded into a tombstone either, but come before it.
        let plan = Plan::new(&batch, 0..4, &set(&unfoldable), &none);
        assert_eq!(plan.records.end, if over > 0 { 3 } else { 4 });
    }
}

#[test]
fn replacing_folds_documents_of_any_size() {
    let (first, second) = (
        large("x", DOCUMENT_BYTES_MAX),
        large("y", DOCUMENT_BYTES_MAX),
    );
    let batch = batch_of(&[&first, &second]);
    let (unfoldable, none) = (HashSet::new(), HashMap::new());
    let plan = plan_of(
        &batch,
        &folding(WriteMode::Replace, &unfoldable, true),
        &none,
    );
    assert_eq!(plan.folded, 1);
}

#[test]
fn a_plan_ends_where_too_many_records_in_a_row_are_rejected() {
    // `r` is rejected, `a` applied, `s` skipped.
    let planned = |records: &str, before: usize, max: usize| {
        let mut decoder = Decoder::new(Arc::clone(&MAPPING), Tombstones::Ignore);
        let mut batch = Batch::new(10);
        for (offset, told) in (10..).zip(records.chars()) {
            let value: Option<&[u8]> = match told {
                'r' => Some(b"{"),
                'a' => Some(br#"{"id":"1","kind":"A"}"#),
                _ => None,
            };
            let record = Record {
                offset,
                key: Some(b"1"),
                value,
                ..Record::default()
            };
            assert!(batch.push(&mut decoder, record));
        }
        let none = HashSet::new();
        let folding = Folding {
            rejections: Rejections {
                in_a_row: before,
                from: 3,
            },
            rejections_in_a_row_max: max,
            ..set(&none)
        };
        let refused = HashMap::new();
        let plan = Plan::new(&batch, 0..batch.entries().len(), &folding, &refused);
        let Rejections { in_a_row, from } = plan.rejections;
        (plan.records.end, in_a_row, from, plan.halts)
    };
    assert_eq!(planned("rrarr", 0, 0), (5, 2, 13, false), "without a limit");
    assert_eq!(planned("rrarr", 0, 3), (5, 2, 13, false));
    assert_eq!(planned("rrarr", 1, 3), (2, 3, 3, true), "counted on");
    assert_eq!(planned("arrsr", 5, 3), (5, 3, 11, true), "a skip is no end");
    assert_eq!(planned("arrrr", 5, 3), (4, 3, 11, true), "and no more");
    assert_eq!(planned("ss", 2, 3), (2, 2, 3, false));
}
