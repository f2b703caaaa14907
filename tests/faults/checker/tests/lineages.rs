//! Topics that were recreated, checkpoints that an operator moved, partitions that were added.

use bson::{Uuid, doc};

use super::sink::{Pair, Sink, key, state};
use super::{accepted, found};
use crate::checker::{CHECKPOINTS, Rule, Sample};

/// Revisions of an entity.
fn revisions(id: &str, revisions: std::ops::Range<i32>) -> Vec<Pair> {
    revisions
        .map(|revision| state(id, &format!(r#""revision":{revision}"#)))
        .collect()
}

/// A sink that has applied revisions 1 to 6 of the 8 of an entity.
fn first_life() -> Sink {
    let mut sink = Sink::new(&[revisions("a", 1..9)]);
    sink.claim(0);
    sink.apply(0, 3);
    sink.apply(0, 6);
    sink
}

#[test]
fn a_new_topic_begins_a_fresh_lineage() {
    let mut sink = first_life();
    sink.commit(0);
    sink.topic(&[revisions("a", 5..12)]);
    sink.claim(0);
    sink.apply(0, 7);
    sink.commit(0);
    accepted(&sink.end());
}

#[test]
fn what_was_read_of_the_new_log_before_anybody_noticed_is_applied_again() {
    for cut in 3..6 {
        let mut sink = Sink::new(&[revisions("a", 1..9)]);
        sink.claim(0);
        sink.apply(0, 3);
        // The next transaction covers some of the old log and, from `cut` on, some of the new one.
        let mut mixed = sink.lineage().clone();
        let new = revisions("a", 21..40);
        for record in &mut mixed.partitions.get_mut(&0).unwrap().records {
            if record.offset >= cut {
                let offset = usize::try_from(record.offset).unwrap();
                (record.key, record.value) = new[offset].clone();
            }
        }
        sink.apply_from(mixed.clone(), 0, 6);
        sink.topic(&[new]);
        sink.claim(0);
        sink.apply(0, 19);
        accepted(&sink.end());
    }
}

#[test]
fn a_fresh_lineage_that_skips_records_is_found() {
    let mut sink = first_life();
    sink.topic(&[revisions("b", 1..9)]);
    sink.claim(0);
    let topic_id = sink.lineage().topic_id;
    let (owner, session) = sink.claims[&0];
    let ahead = doc! {
        "_id": key(0), "topic_id": topic_id, "next_offset": 2_i64, "owner": owner, "session": session, "epoch": 2_i64,
    };
    sink.put(CHECKPOINTS, key(0), Some(ahead), None);
    sink.apply(0, 8);
    found(&sink.end(), Rule::Outside);
}

#[test]
fn a_new_topic_that_nobody_noticed_is_found() {
    let mut sink = first_life();
    sink.topic(&[revisions("b", 1..9)]);
    let evidence = sink.end();
    found(&evidence, Rule::Checkpoints);
    found(&evidence, Rule::Documents);
}

#[test]
fn going_back_is_no_new_lineage() {
    let mut sink = first_life();
    let topic_id = sink.lineage().topic_id;
    sink.topic(&[revisions("b", 1..9)]);
    sink.claim(0);
    let (owner, session) = sink.claims[&0];
    let back = doc! {
        "_id": key(0), "topic_id": topic_id, "next_offset": 0_i64, "owner": owner, "session": session, "epoch": 2_i64,
    };
    sink.put(CHECKPOINTS, key(0), Some(back), None);
    found(&sink.end(), Rule::Outside);
}

#[test]
fn an_offset_committed_in_a_topic_that_was_deleted_is_a_leftover() {
    let mut sink = first_life();
    sink.commit(0);
    sink.topic(&[revisions("a", 5..12)]);
    sink.claim(0);
    let leftover = |sink: &Sink, next_offset| Sample {
        at_ms: 0,
        partition: 0,
        committed: Some(6),
        checkpoint: Some((sink.lineage().topic_id, next_offset)),
    };
    let sample = leftover(&sink, 0);
    sink.evidence.samples.push(sample);
    sink.apply(0, 7);
    sink.commit(0);
    let mut evidence = sink.end();
    accepted(&evidence);
    // But not once the group has committed in the new one.
    evidence.samples.push(sample);
    found(&evidence, Rule::Committed);
}

#[test]
fn a_checkpoint_that_an_operator_moves_is_judged_from_there() {
    let mut sink = first_life();
    let topic_id = sink.lineage().topic_id;
    let moved = doc! {
        "_id": key(0), "topic_id": topic_id, "next_offset": 2_i64, "owner": Uuid::new(), "epoch": 2_i64,
    };
    sink.put(CHECKPOINTS, key(0), Some(moved), None);
    sink.claim(0);
    sink.apply(0, 8);
    let mut evidence = sink.end();
    found(&evidence, Rule::Outside);
    evidence.settings.resets = true;
    accepted(&evidence);
}

#[test]
fn a_topic_id_that_appears_is_adopted() {
    let mut sink = Sink::new(&[revisions("a", 1..9)]);
    let id = sink.lineage().topic_id;
    let anonymous = |sink: &mut Sink, id| sink.evidence.log.lineages[0].topic_id = id;
    anonymous(&mut sink, None);
    sink.claim(0);
    sink.apply(0, 3);
    let (owner, session) = (Uuid::new(), Uuid::new());
    sink.claims.insert(0, (owner, session));
    let mut adopted = doc! {
        "_id": key(0), "topic_id": null, "next_offset": 3_i64, "owner": owner, "session": session, "epoch": 2_i64,
    };
    sink.put(CHECKPOINTS, key(0), Some(adopted.clone()), None);
    adopted.insert("topic_id", id);
    sink.put(CHECKPOINTS, key(0), Some(adopted), None);
    anonymous(&mut sink, id);
    sink.apply(0, 8);
    accepted(&sink.end());
}

#[test]
fn an_added_partition_begins_at_its_beginning() {
    let mut sink = Sink::new(&[revisions("a", 1..3), revisions("b", 1..5)]);
    sink.claim(0);
    sink.apply(0, 2);
    found(
        &Sink::new(&[vec![], revisions("b", 1..5)]).end(),
        Rule::Documents,
    );
    sink.claim(1);
    sink.apply(1, 4);
    accepted(&sink.end());
}

#[test]
fn an_entity_in_two_partitions_cannot_be_judged() {
    let mut sink = Sink::new(&[revisions("a", 1..3), revisions("a", 1..5)]);
    for (partition, to) in [(0, 2), (1, 4)] {
        sink.claim(partition);
        sink.apply(partition, to);
    }
    found(&sink.end(), Rule::Evidence);
}
