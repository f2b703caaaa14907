//! Any run in which all went well is accepted; any single violation that can be observed is found.

use std::collections::BTreeMap;

use bson::Document;
use proptest::prelude::*;
use proptest::sample::Index;
use workflows_sink::record::entity::Tombstones;
use workflows_sink::record::fold::WriteMode;

use super::sink::{Pair, Sink, settle, state};
use crate::checker::change::{Change, Replay};
use crate::checker::{CHECKPOINTS, Evidence, check};

/// What the sink does next.
#[derive(Clone, Debug)]
enum Act {
    Claim,
    Apply(usize),
}

/// A record of one of three entities of a partition; few values, so that states come again.
fn record(partition: i32) -> impl Strategy<Value = Pair> {
    let id = (0..3).prop_map(move |entity| format!("{entity}{partition}"));
    (id, 0..3, 0..3, 0..12).prop_map(|(id, field, value, what)| match what {
        0 => (Some(id.into()), None),
        1 => (Some(id.into()), Some("{".into())),
        2 => (
            Some("other".into()),
            Some(format!(r#"{{"id":"{id}"}}"#).into()),
        ),
        _ => state(
            &id,
            &format!(r#""f{field}":{value},"spec":{{"list":[{value}]}}"#),
        ),
    })
}

fn act() -> impl Strategy<Value = (i32, Act)> {
    let act = prop_oneof![1 => Just(Act::Claim), 4 => (1..6_usize).prop_map(Act::Apply)];
    (0..2, act)
}

/// A run in which all went well, before it is run.
#[derive(Clone, Debug)]
struct Plan {
    logs: [Vec<Pair>; 2],
    acts: Vec<(i32, Act)>,
    replace: bool,
    delete: bool,
    unfolded: bool,
}

prop_compose! {
    fn plan()(
        first in prop::collection::vec(record(0), 1..16),
        second in prop::collection::vec(record(1), 0..16),
        acts in prop::collection::vec(act(), 0..12),
        (replace, delete, unfolded) in any::<(bool, bool, bool)>(),
    ) -> Plan {
        Plan { logs: [first, second], acts, replace, delete, unfolded }
    }
}

fn run(plan: &Plan) -> Evidence {
    let mut sink = Sink::new(&plan.logs);
    if plan.replace {
        sink.evidence.settings.mode = WriteMode::Replace;
    }
    if plan.delete {
        sink.evidence.settings.tombstones = Tombstones::Delete;
    }
    sink.unfolded = plan.unfolded;
    let mut next = [0, 0];
    for (partition, act) in &plan.acts {
        let at = &mut next[*partition as usize];
        let end = sink.lineage().partitions[partition].end;
        match act {
            Act::Apply(records) if sink.claims.contains_key(partition) => {
                let to = (*at + *records as i64).min(end);
                if to > *at {
                    sink.apply(*partition, to);
                }
                *at = to;
            }
            _ => sink.claim(*partition),
        }
    }
    for partition in 0..2 {
        let end = sink.lineage().partitions[&partition].end;
        if next[partition as usize] < end {
            sink.claim(partition);
            sink.apply(partition, end);
        }
        sink.commit(partition);
    }
    sink.end()
}

/// One violation in the change stream.
#[derive(Clone, Debug)]
enum Corruption {
    Drop(Index),
    Twice(Index, Index),
    Swap(Index, Index),
}

fn corruption() -> impl Strategy<Value = Corruption> {
    let index = any::<Index>;
    prop_oneof![
        index().prop_map(Corruption::Drop),
        (index(), index()).prop_map(|(event, to)| Corruption::Twice(event, to)),
        (index(), index()).prop_map(|(one, other)| Corruption::Swap(one, other)),
    ]
}

impl Corruption {
    fn strike(&self, events: &mut Vec<Document>) {
        let len = events.len();
        match self {
            Corruption::Drop(event) => drop(events.remove(event.index(len))),
            Corruption::Twice(event, to) => {
                let event = events[event.index(len)].clone();
                events.insert(to.index(len + 1), event);
            }
            Corruption::Swap(one, other) => events.swap(one.index(len), other.index(len)),
        }
    }
}

/// A claim or a move of a partition, as a reader between transactions sees it.
#[derive(Debug, PartialEq)]
struct Seen {
    claim: bool,
    /// Whether nothing but the checkpoint moved on: records without effect.
    empty: bool,
    what: String,
}

/// All that a reader between transactions can see: of each partition the claims and moves in their
/// order, with what the documents are after each. `None` where the events contradict each other.
///
/// Not to be seen: the order of events within a transaction and of transactions of different
/// partitions, an update that sets what was set, a state that the same transaction overwrites, and
/// a last claim that nobody wrote under.
fn observed(events: &[Document]) -> Option<BTreeMap<String, Vec<Seen>>> {
    let mut replay = Replay::default();
    let (changes, faults) = replay.changes(events);
    if !faults.is_empty() {
        return None;
    }
    let mut observed: BTreeMap<_, Vec<Seen>> = BTreeMap::new();
    let of_one = |a: &Change, b: &Change| a.transaction.is_some() && a.transaction == b.transaction;
    for group in changes.chunk_by(of_one) {
        let moves: Vec<&Change> = (group.iter())
            .filter(|change| change.entity.collection == CHECKPOINTS)
            .collect();
        let partition = moves.first().map(|change| change.entity.to_string());
        let claim = group[0].transaction.is_none() && !moves.is_empty();
        if group[0].transaction.is_none() && group[0].document.0 == group[0].document.1 {
            continue;
        }
        // Where a claim stands is where the move before it went.
        let hidden = if claim { "next_offset" } else { "" };
        let fields: Vec<String> = (moves.iter())
            .flat_map(|change| {
                change
                    .document
                    .1
                    .iter()
                    .flat_map(|document| document.iter())
            })
            .filter(|(name, _)| *name != hidden)
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let after: BTreeMap<_, _> = (group.iter())
            .filter(|change| change.entity.collection != CHECKPOINTS)
            .map(|change| (change.entity.to_string(), change.state))
            .collect();
        let next_offset = |document: &Option<std::rc::Rc<Document>>| {
            document
                .as_ref()
                .and_then(|d| d.get_i64("next_offset").ok())
        };
        let on = matches!(moves[..], [only] if next_offset(&only.document.0) < next_offset(&only.document.1));
        let seen = Seen {
            claim,
            empty: !claim && after.is_empty() && on,
            what: format!("{:?} {fields:?} {after:?}", group[0].transaction),
        };
        observed
            .entry(partition.unwrap_or_default())
            .or_default()
            .push(seen);
    }
    for seen in observed.values_mut() {
        while seen.pop_if(|seen| seen.claim).is_some() {}
    }
    observed.retain(|_, seen| !seen.is_empty());
    Some(observed)
}

/// The same without the moves over records that have no effect, but for the last: the next move
/// might as well have gone over them itself.
fn merged(observed: Option<BTreeMap<String, Vec<Seen>>>) -> Option<BTreeMap<String, Vec<Seen>>> {
    let mut observed = observed?;
    for seen in observed.values_mut() {
        let last = seen.pop();
        seen.retain(|seen| !seen.empty);
        seen.extend(last);
    }
    Some(observed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_went_well_is_accepted(plan in plan()) {
        let evidence = run(&plan);
        let found: Vec<String> = check(&evidence).iter().map(ToString::to_string).collect();
        prop_assert!(found.is_empty(), "{}\nof\n{}", found.join("\n"), shown(&evidence));
    }

    #[test]
    fn every_violation_is_found(plan in plan(), corruption in corruption()) {
        let evidence = run(&plan);
        let mut corrupted = evidence.clone();
        corruption.strike(&mut corrupted.events);
        settle(&mut corrupted);
        let (mut before, mut after) = (observed(&evidence.events), observed(&corrupted.events));
        prop_assert!(before.is_some());
        if matches!(corruption, Corruption::Drop(_)) {
            (before, after) = (merged(before), merged(after));
        }
        prop_assume!(before != after);
        prop_assert!(!check(&corrupted).is_empty(), "{}\nfrom\n{}", shown(&corrupted), shown(&evidence));
    }
}

fn shown(evidence: &Evidence) -> String {
    let events: Vec<String> = evidence.events.iter().map(ToString::to_string).collect();
    events.join("\n")
}
