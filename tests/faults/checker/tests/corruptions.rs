//! Each way in which the promise can be broken, and the rule that finds it.

use bson::{Bson, Document, Uuid, doc};
use workflows_sink::record::entity::Tombstones;
use workflows_sink::record::fold::WriteMode;

use super::sink::{Pair, Sink, key, settle, state};
use super::{accepted, found};
use crate::checker::timeline::CLOCK_BEHIND_MS_MAX;
use crate::checker::{
    CHECKPOINTS, DEAD_LETTERS, Evidence, Exit, Recovery, Refusals, Rule, WorkerRun,
};

/// A dozen records of three entities, two of them rejected, one skipped.
fn records() -> Vec<Pair> {
    vec![
        state("a", r#""revision":1,"status":"Created","only":1"#),
        state("b", r#""revision":1,"status":"Created""#),
        state("a", r#""revision":2,"status":"Admitted""#),
        (Some("a".into()), Some("{".into())),
        state("c", r#""revision":1,"labels":{"x":"y","z":null}"#),
        state("a", r#""revision":3,"status":"Ready","spec":{"n":1}"#),
        (Some("c".into()), None),
        state("b", r#""revision":2,"status":"Ready""#),
        (None, Some("{}".into())),
        state("c", r#""revision":2"#),
        state("a", r#""revision":4,"status":"Complete""#),
        state("b", r#""revision":2,"status":"Ready""#),
    ]
}

/// Two claims, four transactions.
fn run(change: impl FnOnce(&mut Sink)) -> Sink {
    let other = vec![state("d", r#""revision":1"#), state("d", r#""revision":2"#)];
    let mut sink = Sink::new(&[records(), other]);
    change(&mut sink);
    sink.claim(0);
    sink.apply(0, 3);
    sink.claim(1);
    sink.apply(0, 5);
    sink.apply(1, 1);
    sink.commit(0);
    sink.claim(0);
    sink.apply(0, 9);
    sink.apply(1, 2);
    sink.commit(1);
    sink.apply(0, 12);
    sink.commit(0);
    sink
}

fn good() -> Evidence {
    run(|_| ()).end()
}

/// The good history with its events changed, and the end that they lead to.
fn with(change: impl FnOnce(&mut Vec<Document>)) -> Evidence {
    let mut evidence = good();
    change(&mut evidence.events);
    settle(&mut evidence);
    evidence
}

/// The index of the event of `collection` for a document whose id holds `id`, the `nth`.
fn nth(events: &[Document], collection: &str, id: &str, nth: usize) -> usize {
    let is = |(_, event): &(usize, &Document)| is_of(event, collection, id);
    let mut found = events.iter().enumerate().filter(is);
    found.nth(nth).expect("such an event").0
}

fn set(event: &mut Document, name: &str, value: impl Into<Bson>) {
    let update = event.get_document_mut("updateDescription").unwrap();
    let fields = update.get_document_mut("updatedFields").unwrap();
    fields.insert(name, value);
}

#[test]
fn a_run_in_which_all_went_well_is_accepted() {
    accepted(&good());
    accepted(&run(|sink| sink.unfolded = true).end());
    accepted(&run(|sink| sink.evidence.settings.mode = WriteMode::Replace).end());
    accepted(&run(|sink| sink.evidence.settings.tombstones = Tombstones::Delete).end());
}

#[test]
fn a_lost_record_is_found() {
    let evidence = with(|events| drop(events.remove(nth(events, "models", "a", 1))));
    let shown = found(&evidence, Rule::Transaction);
    assert!(shown.contains("does not write it"), "{shown}");
    // The last of an entity.
    let evidence = with(|events| drop(events.remove(nth(events, "models", "a", 2))));
    found(&evidence, Rule::Transaction);
    found(&evidence, Rule::Documents);
}

#[test]
fn a_record_applied_twice_is_found() {
    // Older states once more, under the checkpoint's next move.
    let evidence = with(|events| {
        let mut again = events[nth(events, "models", "a", 1)].clone();
        let last = nth(events, "models", "c", 1);
        for name in ["lsid", "txnNumber"] {
            again.insert(name, events[last].get(name).unwrap());
        }
        events.insert(last, again);
    });
    let shown = found(&evidence, Rule::Order);
    assert!(shown.contains("an older state"), "{shown}");
}

#[test]
fn a_batch_applied_twice_is_found() {
    let evidence = with(|events| {
        let first = nth(events, CHECKPOINTS, "0", 2);
        let mut again = events[first].clone();
        again.insert("txnNumber", 99_i64);
        set(&mut again, "updated_at", 1);
        events.insert(first + 1, again);
    });
    found(&evidence, Rule::Transaction);
}

#[test]
fn states_folded_in_reverse_are_found() {
    // Of a transaction with revisions 1 and 2 of an entity the first one won.
    let evidence = with(|events| {
        let first = nth(events, "models", "a", 0);
        let document = events[first].get_document_mut("fullDocument").unwrap();
        document.extend(doc! { "revision": 1, "status": "Created" });
    });
    let shown = found(&evidence, Rule::Order);
    assert!(shown.contains("an older state"), "{shown}");
}

#[test]
fn a_state_that_goes_back_is_found() {
    let evidence = with(|events| {
        let last = nth(events, "models", "a", 2);
        set(&mut events[last], "revision", 3);
        set(&mut events[last], "status", "Ready");
    });
    let shown = found(&evidence, Rule::Order);
    assert!(shown.contains("an older state"), "{shown}");
}

#[test]
fn a_mixture_of_two_states_is_found() {
    let evidence = with(|events| {
        let last = nth(events, "models", "a", 2);
        set(&mut events[last], "status", "Ready");
    });
    let shown = found(&evidence, Rule::Order);
    assert!(shown.contains("a mixture"), "{shown}");
}

#[test]
fn a_state_that_is_not_due_yet_is_found() {
    let evidence = with(|events| {
        let first = nth(events, "models", "b", 0);
        let document = events[first].get_document_mut("fullDocument").unwrap();
        document.extend(doc! { "revision": 2, "status": "Ready" });
    });
    let shown = found(&evidence, Rule::Order);
    assert!(shown.contains("not due yet"), "{shown}");
}

#[test]
fn a_field_that_should_have_stayed_is_found() {
    let evidence = with(|events| {
        let last = nth(events, "models", "a", 2);
        let update = events[last].get_document_mut("updateDescription").unwrap();
        update.insert("removedFields", vec!["only"]);
    });
    found(&evidence, Rule::Order);
    found(&evidence, Rule::Documents);
}

#[test]
fn a_document_that_no_record_leads_to_is_found() {
    let mut sink = run(|_| ());
    let transaction = Some((sink.claims[&0].1, 4));
    sink.put("models", "x", Some(doc! { "_id": "x" }), transaction);
    let evidence = sink.end();
    found(&evidence, Rule::Documents);
    found(&evidence, Rule::Transaction);
}

#[test]
fn a_write_by_a_transaction_that_moves_no_checkpoint_is_found() {
    let mut sink = run(|_| ());
    let transaction = Some((sink.claims[&0].1, 99));
    sink.put("models", "a", Some(doc! { "_id": "a" }), transaction);
    found(&sink.end(), Rule::Transaction);
}

#[test]
fn a_write_outside_of_a_transaction_is_found() {
    let mut sink = run(|_| ());
    sink.put("models", "a", None, None);
    found(&sink.end(), Rule::Outside);
}

#[test]
fn a_checkpoint_moved_outside_of_a_transaction_is_found() {
    let evidence = with(|events| {
        let moved = nth(events, CHECKPOINTS, "0", 2);
        events[moved].remove("lsid");
        events[moved].remove("txnNumber");
    });
    let shown = found(&evidence, Rule::Outside);
    assert!(shown.contains("from 3 to 5"), "{shown}");
}

#[test]
fn a_missing_dead_letter_is_found() {
    let evidence = with(|events| drop(events.remove(nth(events, DEAD_LETTERS, "", 0))));
    found(&evidence, Rule::DeadLetters);
    found(&evidence, Rule::Transaction);
}

#[test]
fn a_dead_letter_too_many_is_found() {
    let mut sink = run(|_| ());
    let record = sink.lineage().partitions[&0].records[11].clone();
    let letter = sink.letter(0, &record, "malformed_value");
    let id = letter.get("_id").cloned().unwrap();
    let transaction = Some((sink.claims[&0].1, 6));
    sink.put(DEAD_LETTERS, id, Some(letter), transaction);
    let evidence = sink.end();
    found(&evidence, Rule::DeadLetters);
    found(&evidence, Rule::Transaction);
}

#[test]
fn a_dead_letter_that_says_something_else_is_found() {
    for (name, value) in [("reason", Bson::from("too_deep")), ("key", Bson::Null)] {
        let evidence = with(|events| {
            let first = nth(events, DEAD_LETTERS, "", 0);
            let letter = events[first].get_document_mut("fullDocument").unwrap();
            letter.insert(name, value);
        });
        found(&evidence, Rule::DeadLetters);
        found(&evidence, Rule::Transaction);
    }
}

/// A record that became a dead letter since the server refused it with code 121, and when the
/// server says to have refused, by that, some commands.
fn refused(refusals: impl Fn(i64) -> Refusals) -> Evidence {
    let mut sink = Sink::new(&[vec![state("a", r#""revision":1"#)]]);
    sink.claim(0);
    sink.apply(0, 1);
    let record = sink.lineage().partitions[&0].records[0].clone();
    let mut letter = sink.letter(0, &record, "write_error");
    letter.insert("error", doc! { "code": 121, "message": "no" });
    let id = letter.get("_id").cloned().unwrap();
    let transaction = Some((sink.claims[&0].1, 1));
    sink.put(DEAD_LETTERS, id, Some(letter), transaction);
    let written_ms = 1_000 * i64::from(sink.clock);
    sink.evidence.refusals.push(refusals(written_ms));
    let events = &mut sink.evidence.events;
    events.remove(nth(events, "models", "a", 0));
    sink.end()
}

#[test]
fn a_refused_write_is_no_loss_where_the_server_says_that_it_refused() {
    let right = |written_ms| Refusals {
        code: 121,
        from_ms: written_ms,
        until_ms: written_ms,
        commands: 1,
    };
    accepted(&refused(right));
    let wrong: [fn(Refusals) -> Refusals; 4] = [
        |right| Refusals { code: 122, ..right },
        |right| Refusals {
            commands: 0,
            ..right
        },
        |right| Refusals {
            from_ms: right.from_ms + CLOCK_BEHIND_MS_MAX + 1,
            until_ms: right.until_ms + CLOCK_BEHIND_MS_MAX + 1,
            ..right
        },
        |right| Refusals {
            from_ms: right.from_ms - 1,
            until_ms: right.until_ms - 1,
            ..right
        },
    ];
    for wrong in wrong {
        let evidence = refused(|written_ms| wrong(right(written_ms)));
        let shown = found(&evidence, Rule::DeadLetters);
        assert!(shown.contains("code 121"), "{shown}");
        found(&evidence, Rule::Documents);
    }
}

#[test]
fn a_checkpoint_short_of_the_end_is_found() {
    let mut sink = Sink::new(&[records()]);
    sink.claim(0);
    sink.apply(0, 11);
    found(&sink.end(), Rule::Checkpoints);
    found(&Sink::new(&[records()]).end(), Rule::Checkpoints);
    found(&Sink::new(&[records()]).end(), Rule::Documents);
}

#[test]
fn a_checkpoint_past_the_end_is_found() {
    let mut sink = Sink::new(&[records()]);
    sink.claim(0);
    sink.apply(0, 13);
    found(&sink.end(), Rule::Checkpoints);
}

#[test]
fn a_checkpoint_short_of_trailing_control_records_is_found() {
    let to = |to: Option<i64>| {
        let mut sink = Sink::new(&[records()]);
        let lineage = sink.evidence.log.lineages.last_mut().unwrap();
        lineage.partitions.get_mut(&0).unwrap().end = 15;
        sink.claim(0);
        sink.apply(0, 12);
        to.into_iter().for_each(|to| sink.apply(0, to));
        sink.end()
    };
    accepted(&to(Some(15)));
    found(&to(None), Rule::Checkpoints);
}

#[test]
fn a_transaction_that_skips_records_is_found() {
    // The one for 3..5 is gone: the next one moves the checkpoint over what it did not write.
    let evidence = with(|events| {
        let gone = events[nth(events, CHECKPOINTS, "0", 2)].clone();
        events.retain(|event| {
            event.get("txnNumber") != gone.get("txnNumber") || event.get("lsid") != gone.get("lsid")
        });
    });
    found(&evidence, Rule::Transaction);
}

#[test]
fn a_checkpoint_that_goes_back_is_found() {
    let evidence = with(|events| {
        let last = events
            .iter()
            .rposition(|e| e.get_document("ns").unwrap().get_str("coll").unwrap() == CHECKPOINTS);
        set(&mut events[last.unwrap()], "next_offset", 8_i64);
    });
    found(&evidence, Rule::Transaction);
}

#[test]
fn a_write_by_one_who_holds_no_claim_is_found() {
    let mut sink = run(|_| ());
    let first = nth(&sink.evidence.events, CHECKPOINTS, "0", 0);
    let zombie = sink.evidence.events[first]
        .get_document("fullDocument")
        .unwrap();
    let zombie = zombie.get("session").unwrap().clone();
    let last = sink.evidence.events.last().unwrap().clone();
    for event in &mut sink.evidence.events {
        if event.get("txnNumber") == last.get("txnNumber") {
            event.insert("lsid", doc! { "id": zombie.clone() });
        }
    }
    found(&sink.end(), Rule::Owner);
}

/// Two partitions, and a transaction of both; ends with the events of that one changed.
fn together(change: impl Fn(&mut Document, &Sink)) -> Evidence {
    let other = vec![state("d", r#""revision":1"#), state("d", r#""revision":2"#)];
    let mut sink = Sink::new(&[records(), other]);
    sink.claim(0);
    sink.claim(1);
    sink.apply(1, 1);
    let before = sink.evidence.events.len();
    sink.apply_together(&[(0, 12), (1, 2)]);
    let mut events = std::mem::take(&mut sink.evidence.events);
    for event in &mut events[before..] {
        change(event, &sink);
    }
    events.retain(|event| !event.is_empty());
    sink.evidence.events = events;
    sink.commit(0);
    sink.commit(1);
    let mut evidence = sink.end();
    settle(&mut evidence);
    evidence
}

fn is_of(event: &Document, collection: &str, id: &str) -> bool {
    let of = event.get_document("ns").unwrap().get_str("coll").unwrap();
    let key = event.get_document("documentKey").unwrap().get("_id");
    of == collection && key.unwrap().to_string().contains(id)
}

#[test]
fn a_transaction_of_two_partitions_is_accepted() {
    accepted(&together(|_, _| ()));
}

#[test]
fn a_transaction_of_two_partitions_must_write_what_both_cover() {
    let evidence = together(|event, _| {
        if is_of(event, "models", "d") {
            event.clear();
        }
    });
    let shown = found(&evidence, Rule::Transaction);
    assert!(shown.contains("does not write it"), "{shown}");
    // Both are written, and one of the checkpoints stays.
    let evidence = together(|event, _| {
        if is_of(event, CHECKPOINTS, "\"partition\": 1") {
            event.clear();
        }
    });
    let shown = found(&evidence, Rule::Transaction);
    assert!(shown.contains("covers no record of it"), "{shown}");
}

#[test]
fn a_transaction_of_two_partitions_must_be_in_a_session_that_both_claims_name() {
    let evidence = together(|event, sink| {
        event.insert("lsid", doc! { "id": sink.claims[&0].1 });
    });
    found(&evidence, Rule::Owner);
}

#[test]
fn an_owner_changed_by_a_transaction_is_found() {
    let evidence = with(|events| {
        let moved = nth(events, CHECKPOINTS, "0", 2);
        set(&mut events[moved], "owner", Uuid::new());
    });
    found(&evidence, Rule::Owner);
}

#[test]
fn a_first_claim_that_skips_records_is_found() {
    let mut sink = Sink::new(&[records()]);
    let checkpoint =
        doc! { "_id": key(0), "next_offset": 4_i64, "owner": Uuid::new(), "epoch": 1_i64 };
    sink.put(CHECKPOINTS, key(0), Some(checkpoint), None);
    sink.claim(0);
    sink.apply(0, 12);
    found(&sink.end(), Rule::Outside);
}

#[test]
fn a_claim_without_an_epoch_of_its_own_is_found() {
    let evidence = with(|events| {
        let claim = nth(events, CHECKPOINTS, "0", 3);
        set(&mut events[claim], "epoch", 1_i64);
    });
    found(&evidence, Rule::Outside);
}

#[test]
fn an_offset_committed_ahead_of_its_checkpoint_is_found() {
    let mut evidence = good();
    evidence.samples[0].committed = Some(6);
    found(&evidence, Rule::Committed);
    let mut evidence = good();
    evidence.samples[0].checkpoint = None;
    found(&evidence, Rule::Committed);
}

#[test]
fn memory_exits_and_late_recoveries_are_found() {
    let worker = |peak_bytes, exit| WorkerRun {
        name: "worker 1".to_owned(),
        peak_bytes,
        budget_bytes: 100 << 20,
        silence: std::time::Duration::ZERO,
        denied: None,
        exit,
    };
    let recovery = |took_ms: Option<u64>| Recovery {
        what: "takeover after kill -9".to_owned(),
        took: took_ms.map(std::time::Duration::from_millis),
        bound: std::time::Duration::from_secs(7),
    };
    let mut evidence = good();
    evidence.workers = vec![worker(100 << 20, Exit::Running), worker(0, Exit::Asked)];
    evidence.recoveries = vec![recovery(Some(7_000))];
    accepted(&evidence);
    evidence.workers.push(worker(101 << 20, Exit::Running));
    found(&evidence, Rule::Memory);
    evidence
        .workers
        .push(worker(0, Exit::Unexpected("signal 6".to_owned())));
    found(&evidence, Rule::Exit);
    evidence.recoveries = vec![recovery(Some(7_001))];
    found(&evidence, Rule::Recovery);
    evidence.recoveries = vec![recovery(None)];
    found(&evidence, Rule::Recovery);
}

#[test]
fn an_acknowledged_record_that_is_not_in_the_log_is_found() {
    let mut evidence = good();
    let log = &mut evidence.log.lineages[0]
        .partitions
        .get_mut(&1)
        .unwrap()
        .records;
    log.pop();
    found(&evidence, Rule::Acknowledged);
    let mut evidence = good();
    evidence.acknowledged[3].digest[0] ^= 1;
    found(&evidence, Rule::Acknowledged);
    evidence.acknowledged[3].offset = None;
    found(&evidence, Rule::Acknowledged);
    evidence.acknowledged[3].digest[0] ^= 1;
    accepted(&evidence);
}

#[test]
fn evidence_that_contradicts_itself_is_found() {
    let mut evidence = good();
    evidence.documents.pop();
    found(&evidence, Rule::Evidence);
    let mut evidence = good();
    evidence.events.remove(0);
    found(&evidence, Rule::Evidence);
}
