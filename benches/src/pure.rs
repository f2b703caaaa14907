//! The pure parts, each on the same records: what callgrind counts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use local_stack::Generator;
use workflows_sink::record::batch::Batch;
use workflows_sink::record::entity::{Decoder, Tombstones};
use workflows_sink::record::fold::{Folding, KindChanges, Plan, WriteMode};
use workflows_sink::record::mapping::Mapping;
use workflows_sink::record::{Record, Rejections};
use workflows_sink::writer::command::{self, STATEMENT_MS_MAX};

/// One batch of the service's: records of 1.9 KB on average, of all kinds.
pub const RECORDS: usize = 1_000;
/// Some of them are states of the same entity, as many as of a full topic that is drained.
const ENTITIES: usize = 400;

/// One of the pure parts, which gives a number so that none of it is left out.
pub type Part = fn(&mut Work) -> usize;

/// Records, with all that the parts need of one another.
pub struct Work {
    records: Vec<(String, String)>,
    mapping: Arc<Mapping>,
    decoder: Decoder,
    out: Vec<u8>,
    batch: Batch,
    unfoldable: HashSet<workflows_sink::record::mapping::CollectionId>,
}

impl Default for Work {
    fn default() -> Self {
        let states = Generator::new(1, ENTITIES, RECORDS);
        let records: Vec<_> = states.map(|state| (state.id, state.json)).collect();
        let mapping = Arc::new(Mapping::builtin());
        let mut decoder = Decoder::new(Arc::clone(&mapping), Tombstones::Ignore);
        let mut batch = Batch::new(0);
        for (offset, record) in records.iter().enumerate() {
            batch.push(&mut decoder, recorded(offset, record));
        }
        Work {
            records,
            mapping,
            decoder,
            out: Vec::new(),
            batch,
            unfoldable: HashSet::new(),
        }
    }
}

impl Work {
    /// The parts by name: the way of a batch through the process.
    pub const PARTS: [(&'static str, Part); 4] = [
        ("decode", Work::decode),
        ("batch", Work::batch),
        ("fold", Work::fold),
        ("commands", Work::commands),
    ];

    /// JSON to BSON alone; bytes.
    pub fn decode(&mut self) -> usize {
        self.out.clear();
        for (key, value) in &self.records {
            let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            self.decoder.decode(key, value, &mut self.out);
        }
        self.out.len()
    }

    /// Records into a batch, decoded; how many.
    pub fn batch(&mut self) -> usize {
        self.batch.restart(0, usize::MAX);
        for (offset, record) in self.records.iter().enumerate() {
            self.batch.push(&mut self.decoder, recorded(offset, record));
        }
        self.batch.entries().len()
    }

    /// The batch into writes; how many states folded.
    pub fn fold(&mut self) -> usize {
        plan(&self.batch, &self.unfoldable, &HashMap::new(), |plan| {
            plan.folded
        })
    }

    /// The batch into writes, and those into commands; bytes.
    pub fn commands(&mut self) -> usize {
        plan(&self.batch, &self.unfoldable, &HashMap::new(), |plan| {
            let mut bytes = 0;
            for (collection, writes) in &plan.writes {
                let name = self.mapping.collection(*collection);
                for run in command::runs(writes) {
                    let update = command::update(name, run, WriteMode::Set, STATEMENT_MS_MAX);
                    bytes += update.as_bytes().len();
                }
            }
            bytes
        })
    }
}

fn plan<'b, T>(
    batch: &'b Batch,
    unfoldable: &HashSet<workflows_sink::record::mapping::CollectionId>,
    refused: &'b HashMap<usize, workflows_sink::record::entity::Refusal>,
    then: impl FnOnce(&Plan<'b>) -> T,
) -> T {
    let folding = Folding {
        mode: WriteMode::Set,
        kind_changes: KindChanges::Keep,
        unfoldable,
        enabled: true,
        rejections: Rejections::default(),
        rejections_in_a_row_max: 0,
    };
    then(&Plan::new(
        batch,
        0..batch.entries().len(),
        &folding,
        refused,
    ))
}

fn recorded(offset: usize, (key, value): &(String, String)) -> Record<'_> {
    Record {
        offset: offset as i64,
        leader_epoch: None,
        timestamp_ms: None,
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        headers: Vec::new(),
    }
}
