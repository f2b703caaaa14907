use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::*;
use crate::record::entity::{Reason, Skip, Tombstones};
use crate::record::mapping::Mapping;

static MAPPING: LazyLock<Arc<Mapping>> = LazyLock::new(|| Arc::new(Mapping::builtin()));

fn decoder() -> Decoder {
    Decoder::new(Arc::clone(&MAPPING), Tombstones::Ignore)
}

/// One of four records: accepted, rejected, skipped without a value, skipped with one.
#[derive(Clone, Copy, Debug)]
struct Told {
    shape: u8,
    headers: usize,
}

const MODEL: &[u8] = br#"{"id":"1","kind":"Model","x":12}"#;
const NULL_ID: &[u8] = br#"{"id":"00000000000000000000000000000000"}"#;

/// Another leader writes every seventh record.
fn epoch_at(offset: i64) -> i32 {
    i32::try_from(offset / 7).unwrap()
}

fn at(offset: i64) -> Position {
    Position {
        offset,
        leader_epoch: Some(99),
    }
}

impl Told {
    fn record(self, offset: i64) -> Record<'static> {
        let (key, value): (&[u8], Option<&[u8]>) = match self.shape {
            0 => (b"1", Some(MODEL)),
            1 => (b"", Some(b"{")),
            2 => (b"1", None),
            _ => (b"00000000000000000000000000000000", Some(NULL_ID)),
        };
        Record {
            offset,
            leader_epoch: Some(epoch_at(offset)),
            timestamp_ms: Some(offset * 10),
            key: Some(key),
            value,
            headers: vec![(b"name".to_vec(), Some(vec![7; 5])); self.headers],
        }
    }

    fn is_kept(self) -> bool {
        self.shape < 2
    }
}

fn told() -> impl Strategy<Value = Told> {
    (0..4_u8, 0..3_usize).prop_map(|(shape, headers)| Told { shape, headers })
}

/// Records with the gaps before each of them.
fn records() -> impl Strategy<Value = Vec<(i64, Told)>> {
    prop::collection::vec((prop_oneof![3 => Just(0), 1 => 1..5_i64], told()), 0..20)
}

fn filled(start: i64, records: &[(i64, Told)]) -> Batch {
    let (mut batch, mut decoder) = (Batch::new(start), decoder());
    for (gap, told) in records {
        let offset = batch.end() + gap;
        assert!(batch.push(&mut decoder, told.record(offset)));
        assert_eq!(batch.end(), offset + 1);
    }
    batch
}

/// All that can be seen of a batch.
fn seen(batch: &Batch) -> String {
    let entries: Vec<_> = batch
        .entries()
        .iter()
        .map(|entry| {
            let document = match &entry.decoded {
                Decoded::Accepted { document, .. } => Some(&batch.encoded()[document.clone()]),
                _ => None,
            };
            let decoded = match &entry.decoded {
                Decoded::Accepted { collection, .. } => format!("{collection:?}"),
                other => format!("{other:?}"),
            };
            let headers = entry.headers.len();
            (
                entry.offset,
                entry.timestamp_ms,
                headers,
                batch.key(entry),
                batch.value(entry),
                decoded,
                document,
            )
        })
        .collect();
    let (start, end, held) = (batch.start(), batch.end(), batch.held_bytes(3));
    format!("{start}..{end} {held} bytes, {entries:?}")
}

proptest! {
    /// Wherever a batch is cut, its runs cover it without a gap, and each covers its own records.
    #[test]
    fn runs_of_a_batch_join_without_a_gap(
        records in records(),
        behind in 0..3_i64,
        cuts in prop::collection::vec(0..20_usize, 0..6),
    ) {
        let mut batch = filled(100, &records);
        batch.reach(at(batch.end() + behind));
        let count = batch.entries().len();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(count)).chain([0, count]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        if count == 0 {
            prop_assert_eq!(batch.span(0..0).0, batch.start());
            prop_assert_eq!(batch.span(0..0).1.offset, batch.end());
        }
        let mut next = batch.start();
        for run in cuts.windows(2) {
            let (from, Position { offset: to, leader_epoch }) = batch.span(run[0]..run[1]);
            prop_assert_eq!(from, next);
            let last = epoch_at(batch.entries()[run[1] - 1].offset);
            let is_behind = behind > 0 && run[1] == count;
            prop_assert_eq!(leader_epoch, Some(if is_behind { 99 } else { last }));
            let covered = batch.entries().iter().filter(|entry| (from..to).contains(&entry.offset)).count();
            prop_assert_eq!(covered, run[1] - run[0]);
            next = to;
        }
        prop_assert!(count == 0 || next == batch.end());
    }

    /// The record that did not fit begins the next batch, and neither batch knows of the other.
    #[test]
    fn splitting_leaves_what_was_there_and_takes_the_rest(
        records in records(),
        last in told(),
        gap in 0..5_i64,
        behind in 0..3_i64,
    ) {
        let before = filled(7, &records);
        let mut batch = filled(7, &records);
        let offset = batch.end() + gap;
        batch.push(&mut decoder(), last.record(offset));
        batch.reach(at(batch.end() + behind));
        let next = batch.split_last().unwrap();
        prop_assert_eq!((next.start(), next.end()), (offset, offset + 1 + behind));
        prop_assert_eq!(batch.end(), offset);
        let mut expected = Batch::new(offset);
        expected.push(&mut decoder(), last.record(offset));
        expected.reach(at(offset + 1 + behind));
        prop_assert_eq!(seen(&next), seen(&expected));
        let mut shorter = before;
        shorter.reach(at(offset));
        prop_assert_eq!(seen(&batch), seen(&shorter));
        // What the next record needs is where it should be.
        prop_assert!(batch.push(&mut decoder(), last.record(offset)));
        let entry = batch.entries().last().unwrap();
        prop_assert_eq!(batch.key(entry), last.record(0).key.filter(|_| last.is_kept()));
        prop_assert_eq!(batch.value(entry), last.record(0).value.filter(|_| last.is_kept()));
    }
}

#[test]
fn a_record_that_is_covered_is_not_taken_twice() {
    let (mut batch, mut decoder) = (Batch::new(5), decoder());
    let told = Told {
        shape: 0,
        headers: 1,
    };
    assert!(
        !batch.push(&mut decoder, told.record(4)),
        "below the checkpoint"
    );
    assert!(batch.is_empty());
    assert!(batch.push(&mut decoder, told.record(5)));
    let before = seen(&batch);
    assert!(!batch.push(&mut decoder, told.record(5)));
    batch.reach(at(9));
    assert!(
        !batch.push(&mut decoder, told.record(8)),
        "behind a control record"
    );
    batch.reach(at(6));
    assert_eq!(batch.end(), 9, "never back");
    assert_eq!(seen(&batch), before.replace("5..6", "5..9"));
}

#[test]
fn a_batch_of_nothing_but_control_records_moves_the_checkpoint() {
    let mut batch = Batch::new(5);
    assert!(batch.is_empty());
    batch.reach(at(8));
    assert!(!batch.is_empty());
    assert_eq!(batch.span(0..0), (5, at(8)));
    assert!(batch.split_last().is_none());
}

#[test]
fn a_batch_keeps_what_a_dead_letter_needs_and_of_skipped_records_nothing() {
    let [accepted, rejected, tombstone, null_id] =
        [0, 1, 2, 3].map(|shape| Told { shape, headers: 2 });
    let batch = filled(
        0,
        &[(0, accepted), (0, rejected), (0, tombstone), (0, null_id)],
    );
    let entries = batch.entries();
    assert_eq!(batch.value(&entries[0]), Some(MODEL));
    assert_eq!(batch.id(&entries[0]), "1");
    assert_eq!(entries[0].headers.len(), 2);
    assert_eq!(
        entries[1].decoded,
        Decoded::Rejected(Reason::MalformedValue)
    );
    assert_eq!(
        (batch.key(&entries[1]), batch.value(&entries[1])),
        (Some(&b""[..]), Some(&b"{"[..]))
    );
    assert_eq!(entries[1].headers, rejected.record(1).headers);
    assert_eq!(entries[2].decoded, Decoded::Skipped(Skip::Tombstone));
    assert_eq!(entries[3].decoded, Decoded::Skipped(Skip::NullId));
    for skipped in &entries[2..] {
        assert_eq!((batch.key(skipped), batch.value(skipped)), (None, None));
        assert!(skipped.headers.is_empty());
    }
}

#[test]
fn held_bytes_count_everything_that_grows() {
    let (mut batch, mut decoder) = (Batch::new(0), decoder());
    let headers = vec![
        ("n".repeat(1_000).into(), Some(vec![0; 10_000])),
        (Vec::new(), None),
    ];
    let key = vec![0xff; 100];
    let record = Record {
        key: Some(&key),
        value: Some(b"{}"),
        headers,
        ..Record::default()
    };
    batch.push(&mut decoder, record);
    assert!((11_102..11_500).contains(&batch.held_bytes(3)));
    batch.push(
        &mut decoder,
        Told {
            shape: 0,
            headers: 0,
        }
        .record(1),
    );
    let encoded = batch.encoded().len();
    assert!(encoded > 0);
    assert_eq!(batch.held_bytes(4) - batch.held_bytes(1), 3 * encoded);
}

#[test]
fn a_restarted_batch_is_a_new_one_that_keeps_only_so_much_memory() {
    let mut batch = filled(
        3,
        &[(
            0,
            Told {
                shape: 0,
                headers: 1,
            },
        )],
    );
    let value = vec![b' '; 1 << 20];
    batch.push(
        &mut decoder(),
        Record {
            offset: 9,
            value: Some(&value),
            ..Record::default()
        },
    );
    batch.restart(40, 1024);
    assert_eq!(seen(&batch), seen(&Batch::new(40)));
    assert!(batch.originals.capacity() < 1 << 20);
    assert!(
        batch.push(
            &mut decoder(),
            Told {
                shape: 0,
                headers: 0
            }
            .record(40)
        )
    );
    assert_eq!(batch.value(&batch.entries()[0]), Some(MODEL));
}

#[test]
fn a_batch_is_as_large_as_the_larger_of_what_came_and_what_is_written() {
    let numbers = format!(r#"{{"id":"1","kind":"Model","x":{:?}}}"#, vec![1; 1_000]);
    let escaped = format!(
        r#"{{"id":"1","kind":"Model","x":"{}"}}"#,
        "\\u0041".repeat(1_000)
    );
    for (value, headers, encoded_is_larger) in [
        (numbers, 0, true),
        (escaped.clone(), 0, false),
        (escaped, 100, false),
    ] {
        let headers = vec![(b"name".to_vec(), Some(vec![7; 5])); headers];
        let mut batch = Batch::new(0);
        let record = Record {
            key: Some(b"1"),
            value: Some(value.as_bytes()),
            headers,
            ..Record::default()
        };
        batch.push(&mut decoder(), record);
        let encoded = batch.encoded().len();
        let originals = batch.held_bytes(0);
        assert_eq!(encoded > originals, encoded_is_larger);
        assert!(batch.is_larger_than(encoded.max(originals) - 1));
        assert!(!batch.is_larger_than(encoded.max(originals)));
    }
}
