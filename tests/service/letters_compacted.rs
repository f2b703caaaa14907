//! Dead letters whose records the broker has compacted away since.

use std::collections::{BTreeMap, BTreeSet};

use bson::Document;
use local_stack::random::Random;
use test_support::history::read_log;
use test_support::scene::Scene;
use test_support::wait::until;

use crate::letters::{Learning, record, states};

/// Segments last long enough to be read as they were produced, and are compacted at once when they
/// end.
const COMPACTED_LATER: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "5000"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("min.compaction.lag.ms", "0"),
    ("max.compaction.lag.ms", "1000"),
];

const ENTITIES: usize = 60;

/// Produces records of other entities until of each key before the log's end one record is left.
async fn compacted(scene: &Scene) {
    let ends = scene.log_ends().await;
    let mut filler = ENTITIES;
    until("the log is compacted", || {
        let others = [0, 1].map(|partition| {
            filler += 1;
            let mut other = record(filler, "Dataset", "");
            other.partition = Some(partition);
            other
        });
        scene.produce(&others);
        is_compacted(scene, &ends)
    })
    .await;
}

/// Whether before `ends` there is one record of each key.
async fn is_compacted(scene: &Scene, ends: &BTreeMap<i32, i64>) -> bool {
    let mut keys = BTreeSet::new();
    read_log(scene).await.iter().all(|(partition, log)| {
        let mut old = log.iter().filter(|record| record.offset < ends[partition]);
        old.all(|record| keys.insert(record.key.clone()))
    })
}

fn key_of(letter: &Document) -> &[u8] {
    letter.get_binary_generic("key").expect("a key")
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_a_compacted_log_are_applied_as_of_a_whole_one_or_left_open() {
    for (name, mode) in [("compacted_set", "set"), ("compacted", "replace")] {
        let scene = Scene::with_topic(name, 2, &COMPACTED_LATER).await;
        let learning = Learning::new(scene, mode);
        let scene = &learning.scene;
        scene.produce(&states(&mut Random::new(11), 400, ENTITIES));
        learning.without_knowing().await;
        let expected = learning.expected().await;
        let before = scene.entities().await;
        let letters = scene.dead_letters().await;
        compacted(scene).await;
        learning.without_knowing().await;
        let kept = read_log(scene).await;
        let gone = letters.iter().filter(|letter| {
            let id = letter.get_document("_id").expect("an id");
            let partition = id.get_i32("partition").expect("a number");
            let offset = id.get_i64("offset").expect("an offset");
            kept[&partition]
                .iter()
                .all(|record| record.offset != offset)
        });
        assert!(gone.count() > letters.len() / 2, "of {}", letters.len());

        let (code, out) = learning.letters(&["replay", "--yes"]).await;
        let open: Vec<Document> = (scene.dead_letters().await.into_iter())
            .filter(|letter| letter.get_str("state").is_ok_and(|state| state == "open"))
            .collect();
        // A document of which a state is lost may not be the sum of all that was.
        assert_eq!(code, Some(i32::from(!open.is_empty())), "{out}");
        assert!(open.len() < letters.len(), "{out}");
        if mode == "replace" {
            assert!(
                open.is_empty(),
                "the last state is all there is to know: {out}"
            );
        }
        let left: BTreeSet<&[u8]> = open.iter().map(key_of).collect();
        let now: BTreeMap<_, _> = scene.entities().await;
        for (entity, right) in &expected {
            let now = now.get(entity).cloned().unwrap_or_default();
            if left.contains(entity.1.as_bytes()) {
                // Field by field, what could be decided is as it should be, and the rest as it was.
                let before = before.get(entity);
                for (name, value) in &now {
                    let was = before.and_then(|before| before.get(name));
                    let is_right = Some(value) == right.get(name) || Some(value) == was;
                    assert!(is_right, "{mode}: {name} of {now}, not of {right}: {out}");
                }
            } else {
                assert_eq!(&now, right, "{mode}: {out}");
            }
        }
    }
}
