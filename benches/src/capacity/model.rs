//! The formula, and its constants: each is measured, derived from what was measured, or says that it
//! is assumed.

/// The weights by which the generator of entities picks a kind, and so a collection
/// (`deploy/local/src/kinds.rs`).
const KIND_WEIGHTS: [f64; 18] = [
    260.0, 170.0, 130.0, 50.0, 50.0, 48.0, 46.0, 45.0, 41.0, 41.0, 40.0, 39.0, 37.0, 20.0, 8.0,
    6.0, 4.0, 4.0,
];

/// States that a topic of the bench has of an entity: 200,000 of 45,000.
const STATES: f64 = 200_000.0 / 45_000.0;

/// Entities that change at a time in a topic of the bench (`ALIVE_MAX` of its generator).
const ALIVE: f64 = 1_000.0;

/// Bytes of an entity of the bench, on average.
const RECORD_BYTES: f64 = 1_900.0;

/// Records in a transaction of a full topic (docs/notebook.md, *What paid*).
pub const FULL_RECORDS: f64 = 850.0;

/// What two sides of a connection spend, in microseconds of one core each.
#[derive(Clone, Copy, Debug)]
pub struct Sides {
    /// The worker.
    pub worker: f64,
    /// mongod.
    pub mongod: f64,
}

/// What work costs on one kind of machine, in microseconds of one core.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// The worker's, a record: fetch, decode, fold, encode.
    pub record: f64,
    /// The broker's, a record.
    pub broker: f64,
    /// A transaction of one guard, one `update` and the commit, whatever is in it.
    pub transaction: Sides,
    /// Each further `update` command: one for each collection, or for each 100 writes of it.
    pub command: Sides,
    /// mongod's, a document that is new.
    pub insert: f64,
    /// mongod's, a document that is there.
    pub update: f64,
    /// mongod's, each guard beyond the first.
    pub guard: f64,
    /// mongod's, a claim, and the worker's.
    pub claim: Sides,
    /// How long a command is under way while no core works on it.
    pub wire: f64,
    /// How long a commit waits for the journal and a majority, likewise.
    pub commit: f64,
}

/// What was measured on one kind of machine: microseconds of CPU a record of a full topic of 12
/// partitions, and milliseconds.
struct Measured {
    service: f64,
    mongod_empty: f64,
    mongod_existing: f64,
    broker: f64,
    transaction_ms: Sides,
    command_ms: Sides,
    round_trip_ms: f64,
    single_transaction_ms: f64,
}

impl Measured {
    /// Takes the writes out of what mongod needs for a record, and decoding out of what the service
    /// does.
    fn costs(&self) -> Costs {
        let (bench, partitions) = (Load::BENCH, 12.0);
        let transaction = self.transaction_ms.times(1_000.0);
        let command = self.command_ms.times(1_000.0);
        let further = bench.commands(bench.written(partitions, FULL_RECORDS).all()) - 1.0;
        let fixed = |side: fn(&Sides) -> f64| {
            (side(&transaction) + further * side(&command)) / FULL_RECORDS
        };
        let written = bench
            .written(partitions, FULL_RECORDS)
            .share_of(FULL_RECORDS);
        let of_writes = |mongod: f64| mongod - fixed(|sides| sides.mongod);
        let update = of_writes(self.mongod_existing) / written.all();
        let idle = |elapsed_ms: f64, sides: &Sides| {
            (1_000.0 * elapsed_ms - sides.worker - sides.mongod).max(0.0)
        };
        let wire = idle(self.round_trip_ms, &command);
        Costs {
            record: self.service - fixed(|sides| sides.worker),
            broker: self.broker,
            insert: (of_writes(self.mongod_empty) - written.updates * update) / written.inserts,
            update,
            guard: update,
            claim: transaction,
            wire,
            commit: (idle(self.single_transaction_ms, &transaction) - 3.0 * wire).max(0.0),
            transaction,
            command,
        }
    }
}

impl Sides {
    const NONE: Sides = Sides {
        worker: 0.0,
        mongod: 0.0,
    };

    fn times(self, factor: f64) -> Sides {
        Sides {
            worker: self.worker * factor,
            mongod: self.mongod * factor,
        }
    }
}

impl Costs {
    /// The machine of docs/benchmarks.md: the rows *12 partitions* of *A full topic*, the broker's 12
    /// µs below them, *Rate* in *How cost grows* (3 ms and 1 ms a transaction), and the median of a
    /// transaction at 100 records/s (5.78 ms). A further command is 0.55 ms: of the driver's 22 % of
    /// 18.1 µs in 20 commands, 0.17 ms are the service's; that the rest is mongod's is assumed, and
    /// the rates by batch size agree.
    pub fn slow() -> Costs {
        SLOW.costs()
    }

    /// The quick machine, commit 4ffa0ac: 7.9 µs of the service and 16 of mongod from empty, 9 over
    /// what is there, 1.2 of the broker; 0.55 ms for each further collection; a transaction of 3.8
    /// ms. What a transaction and a command take of CPU was not measured there: it is assumed to be
    /// as much less than on the slow machine as a record is.
    pub fn quick() -> Costs {
        let (service, mongod) = (7.9, 16.0);
        let scaled = |sides: Sides| Sides {
            worker: sides.worker * service / SLOW.service,
            mongod: sides.mongod * mongod / SLOW.mongod_empty,
        };
        let measured = Measured {
            service,
            mongod_empty: mongod,
            mongod_existing: 9.0,
            broker: 1.2,
            transaction_ms: scaled(SLOW.transaction_ms),
            command_ms: scaled(SLOW.command_ms),
            single_transaction_ms: 3.8,
            round_trip_ms: 0.55,
        };
        measured.costs()
    }

    /// With a network between the worker and mongod, and two secondaries: half a millisecond a
    /// command and two a commit more. Both are assumed.
    pub fn networked(self) -> Costs {
        Costs {
            wire: self.wire + 500.0,
            commit: self.commit + 2_000.0,
            ..self
        }
    }

    /// Nothing costs anything.
    pub const NONE: Costs = Costs {
        record: 0.0,
        broker: 0.0,
        transaction: Sides::NONE,
        command: Sides::NONE,
        insert: 0.0,
        update: 0.0,
        guard: 0.0,
        claim: Sides::NONE,
        wire: 0.0,
        commit: 0.0,
    };

    /// What a record takes of both sides, in microseconds of one core, in transactions of `records`
    /// each, over so many `partitions`.
    pub fn of_record(&self, load: &Load, partitions: f64, records: f64) -> Sides {
        let written = load.written(partitions, records);
        let further = load.commands(written.all()) - 1.0;
        let fixed = |side: fn(&Sides) -> f64| {
            (side(&self.transaction) + further * side(&self.command)) / records
        };
        let writes = (written.inserts * self.insert + written.updates * self.update) / records;
        Sides {
            worker: self.record + fixed(|sides| sides.worker),
            mongod: writes + fixed(|sides| sides.mongod),
        }
    }

    /// How many records/s one partition drains at the most: its transactions come one after the
    /// other, and each works on one core at a time.
    pub fn of_lane(&self, load: &Load, partitions: f64, records: f64) -> f64 {
        let of_record = self.of_record(load, partitions, records);
        let commands = load.commands(load.written(partitions, records).all()) + 2.0;
        let sending = (of_record.worker - self.record) * records;
        let elapsed = sending + of_record.mongod * records + commands * self.wire + self.commit;
        1e6 * records / elapsed
    }
}

/// The machine of docs/benchmarks.md.
const SLOW: Measured = Measured {
    service: 18.1,
    mongod_empty: 55.8,
    mongod_existing: 32.6,
    broker: 12.0,
    transaction_ms: Sides {
        worker: 1.0,
        mongod: 3.0,
    },
    command_ms: Sides {
        worker: 0.17,
        mongod: 0.38,
    },
    round_trip_ms: 0.55,
    single_transaction_ms: 5.78,
};

/// What the records are.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Bytes of a record, unpacked.
    pub record_bytes: f64,
    /// States of an entity, on average.
    pub states: f64,
    /// Entities that change at a time, in all partitions together.
    pub alive: f64,
    /// Whether the first state of each entity creates its document.
    pub fresh: bool,
    /// Whether there is one collection rather than those of all kinds.
    pub one_kind: bool,
}

/// Documents that a transaction writes.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// New ones.
    pub inserts: f64,
    /// Those that are there.
    pub updates: f64,
}

impl Written {
    /// All of them.
    pub fn all(&self) -> f64 {
        self.inserts + self.updates
    }

    fn share_of(&self, records: f64) -> Written {
        Written {
            inserts: self.inserts / records,
            updates: self.updates / records,
        }
    }
}

impl Load {
    /// A full topic of the bench, into an empty database.
    pub const BENCH: Load = Load {
        record_bytes: RECORD_BYTES,
        states: STATES,
        alive: ALIVE,
        fresh: true,
        one_kind: false,
    };

    /// Documents that `records` of one partition of so many come to, once those of one entity are
    /// folded.
    ///
    /// `a` entities change at a time in a partition, each with `s` states. Of `n` records, `n ÷ s`
    /// are the first of their entity; and of each of the `a` that was touched at all, `a (1 - (1 - 1 ÷
    /// a)^n)`, there is one more write, unless the first record that touched it was its first.
    pub fn written(&self, partitions: f64, records: f64) -> Written {
        let alive = (self.alive / partitions).max(1.0);
        let touched = alive * (1.0 - (1.0 - 1.0 / alive).powf(records));
        let born = records / self.states;
        let others = touched * (1.0 - 1.0 / self.states);
        match self.fresh {
            true => Written {
                inserts: born,
                updates: others,
            },
            false => Written {
                inserts: 0.0,
                updates: born + others,
            },
        }
    }

    /// How many `update` commands so many writes take, on average: the collections that they touch,
    /// or one for each 100.
    pub fn commands(&self, writes: f64) -> f64 {
        let of_collection = |share: f64| {
            let touched = 1.0 - (1.0 - share).powf(writes);
            touched * (share * writes / 100.0).ceil().max(1.0)
        };
        if self.one_kind {
            return of_collection(1.0).max(1.0);
        }
        let all: f64 = KIND_WEIGHTS.iter().sum();
        let commands = KIND_WEIGHTS
            .iter()
            .map(|weight| of_collection(weight / all));
        commands.sum::<f64>().max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(found: f64, expected: f64) {
        let off = (found / expected - 1.0).abs();
        assert!(off < 0.01, "{found} rather than {expected}");
    }

    #[test]
    fn the_formula_gives_back_what_its_constants_are_made_of() {
        let bench = Load::BENCH;
        let existing = Load {
            fresh: false,
            ..bench
        };
        for (costs, service, empty, there) in [
            (Costs::slow(), 18.1, 55.8, 32.6),
            (Costs::quick(), 7.9, 16.0, 9.0),
        ] {
            let of_record = costs.of_record(&bench, 12.0, FULL_RECORDS);
            is_near(of_record.worker, service);
            is_near(of_record.mongod, empty);
            let of_record = costs.of_record(&existing, 12.0, FULL_RECORDS);
            is_near(of_record.mongod, there);
        }
    }

    #[test]
    fn a_full_topic_folds_as_much_as_was_seen() {
        let written = Load::BENCH.written(12.0, FULL_RECORDS).all();
        let folded = 1.0 - written / FULL_RECORDS;
        assert!((0.69..0.71).contains(&folded), "{folded}");
    }

    #[test]
    fn one_record_is_one_write_of_one_collection() {
        for load in [
            Load::BENCH,
            Load {
                one_kind: true,
                ..Load::BENCH
            },
        ] {
            for partitions in [1.0, 12.0, 10_000.0] {
                let written = load.written(partitions, 1.0).all();
                assert!((written - 1.0).abs() < 1e-9, "{written}");
                assert!((load.commands(1.0) - 1.0).abs() < 1e-9);
            }
        }
        let all = Load::BENCH.commands(2_000.0);
        assert!((18.0..40.0).contains(&all), "{all}");
    }

    #[test]
    fn where_nothing_costs_anything_a_lane_has_no_limit() {
        assert_eq!(Costs::NONE.of_lane(&Load::BENCH, 1.0, 100.0), f64::INFINITY);
    }
}
