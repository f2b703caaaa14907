//! A model of the sink: the change stream and the end of a run in which all went well.

use std::collections::BTreeMap;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, Uuid, doc};
use test_oracles::reference::{Expected, reference_outcome};
use workflows_sink::record::entity::Tombstones;
use workflows_sink::record::fold::WriteMode;

use crate::checker::change::Replay;
use crate::checker::evidence::MARKER;
use crate::checker::{
    Acknowledged, CHECKPOINTS, DEAD_LETTERS, Evidence, Lineage, Log, PartitionLog, Record, Sample,
    Settings, digest,
};

/// Key and value.
pub type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A record of an entity; `fields` follow `id` and `kind`.
pub fn state(id: &str, fields: &str) -> Pair {
    let value = format!(r#"{{"id":"{id}","kind":"Model",{fields}}}"#);
    (Some(id.into()), Some(value.into()))
}

/// A run in the making.
pub struct Sink {
    pub evidence: Evidence,
    /// Owner and session of the claim of each partition.
    pub claims: BTreeMap<i32, (Uuid, Uuid)>,
    /// The session of transactions of several partitions, which every claim names.
    pub group_session: Uuid,
    /// Whether a transaction writes every state by itself.
    pub unfolded: bool,
    documents: BTreeMap<(String, String), Document>,
    number: i64,
    /// Events so far, one a second.
    pub clock: u32,
}

impl Sink {
    /// A sink before its first claim, with a log of these records in each partition.
    pub fn new(partitions: &[Vec<Pair>]) -> Sink {
        let settings = Settings {
            group: "group".to_owned(),
            topic: "topic".to_owned(),
            mode: WriteMode::Set,
            tombstones: Tombstones::Ignore,
            resets: false,
            ignored_collections: [MARKER.to_owned()].into(),
            older_release: false,
        };
        let evidence = Evidence {
            settings,
            log: Log::default(),
            acknowledged: Vec::new(),
            events: Vec::new(),
            documents: Vec::new(),
            dead_letters: Vec::new(),
            checkpoints: Vec::new(),
            samples: Vec::new(),
            compacted: None,
            refusals: Vec::new(),
            spared: Vec::new(),
            looks: Vec::new(),
            workers: Vec::new(),
            recoveries: Vec::new(),
        };
        let mut sink = Sink {
            evidence,
            claims: BTreeMap::new(),
            group_session: Uuid::new(),
            unfolded: false,
            documents: BTreeMap::new(),
            number: 0,
            clock: 0,
        };
        sink.topic(partitions);
        sink
    }

    /// The topic is made, or recreated.
    pub fn topic(&mut self, partitions: &[Vec<Pair>]) {
        let mut lineage = Lineage {
            topic_id: Some(Uuid::new()),
            ..Lineage::default()
        };
        for (partition, records) in (0..).zip(partitions) {
            let mut log = PartitionLog::default();
            for (offset, (key, value)) in (0..).zip(records.clone()) {
                self.evidence.acknowledged.push(Acknowledged {
                    lineage: self.evidence.log.lineages.len(),
                    partition,
                    offset: Some(offset),
                    digest: digest(key.as_deref(), value.as_deref()),
                });
                log.records.push(Record {
                    offset,
                    timestamp_ms: Some(1_700_000_000_000 + offset),
                    key,
                    value,
                    headers: vec![("h".to_owned(), None)],
                });
                log.end = offset + 1;
            }
            lineage.partitions.insert(partition, log);
        }
        self.evidence.log.lineages.push(lineage);
    }

    /// A claim by a new owner in a new session; from the log's start if it is the first, or the
    /// topic is a new one.
    pub fn claim(&mut self, partition: i32) {
        let topic_id = Bson::from(self.lineage().topic_id);
        let (owner, session) = (Uuid::new(), Uuid::new());
        self.claims.insert(partition, (owner, session));
        let found = self.checkpoint(partition);
        let start = doc! { "_id": key(partition), "topic_id": &topic_id, "next_offset": 0_i64 };
        let mut claimed = if found.is_empty() {
            start
        } else {
            found.clone()
        };
        let epoch = found.get_i64("epoch").unwrap_or(0) + 1;
        claimed.extend(doc! { "owner": owner, "session": session, "epoch": epoch });
        claimed.insert("group_session", self.group_session);
        self.put(CHECKPOINTS, key(partition), Some(claimed.clone()), None);
        if claimed.get("topic_id") != Some(&topic_id) {
            claimed.extend(doc! { "topic_id": topic_id, "next_offset": 0_i64 });
            self.put(CHECKPOINTS, key(partition), Some(claimed), None);
        }
    }

    /// One transaction: the partition's records up to `to`.
    pub fn apply(&mut self, partition: i32, to: i64) {
        self.apply_from(self.lineage().clone(), partition, to);
    }

    /// One transaction that covers records of `lineage`, whichever the checkpoint knows.
    pub fn apply_from(&mut self, lineage: Lineage, partition: i32, to: i64) {
        self.number += 1;
        let transaction = (self.claims[&partition].1, self.number);
        self.part(lineage, partition, to, transaction);
    }

    /// One transaction of several partitions: of each the records up to an offset.
    pub fn apply_together(&mut self, parts: &[(i32, i64)]) {
        self.number += 1;
        let transaction = (self.group_session, self.number);
        for (partition, to) in parts {
            self.part(self.lineage().clone(), *partition, *to, transaction);
        }
    }

    /// A transaction's part in one partition.
    fn part(&mut self, lineage: Lineage, partition: i32, to: i64, transaction: (Uuid, i64)) {
        let transaction = Some(transaction);
        let mut checkpoint = self.checkpoint(partition);
        let from = checkpoint.get_i64("next_offset").expect("a claim");
        checkpoint.insert("next_offset", to);
        self.put(CHECKPOINTS, key(partition), Some(checkpoint), transaction);
        let covered: Vec<Record> = (lineage.partitions[&partition].records.iter())
            .filter(|record| (from..to).contains(&record.offset))
            .cloned()
            .collect();
        let (mut after, mut rejected) = (BTreeMap::new(), Vec::new());
        for record in covered {
            let id = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).to_string();
            let tombstones = self.evidence.settings.tombstones;
            match reference_outcome(record.key.as_deref(), record.value.as_deref(), tombstones) {
                Expected::Skipped(_) => {}
                Expected::Delete => {
                    self.put("models", id.clone(), None, transaction);
                    after.insert(("models".to_owned(), id), None);
                }
                Expected::Accepted {
                    collection,
                    document,
                } => {
                    let entity = (collection, id);
                    let was = after.get(&entity).cloned();
                    let was = was.unwrap_or_else(|| self.documents.get(&entity).cloned());
                    let mut is = match self.evidence.settings.mode {
                        WriteMode::Set => was.unwrap_or_default(),
                        WriteMode::Replace => Document::new(),
                    };
                    is.extend(document);
                    if self.unfolded {
                        self.put(&entity.0, entity.1.clone(), Some(is.clone()), transaction);
                    }
                    after.insert(entity, Some(is));
                }
                Expected::Rejected(reason) => rejected.push((record, reason.as_str())),
            }
        }
        for ((collection, id), is) in after {
            self.put(&collection, id, is, transaction);
        }
        for (record, reason) in rejected {
            let letter = self.letter(partition, &record, reason);
            let id = letter.get("_id").cloned().expect("an id");
            self.put(DEAD_LETTERS, id, Some(letter), transaction);
        }
    }

    /// The letter of a small record.
    pub fn letter(&self, partition: i32, record: &Record, reason: &str) -> Document {
        let bytes = |bytes: &Option<Vec<u8>>| {
            bytes.clone().map(|bytes| Binary {
                subtype: BinarySubtype::Generic,
                bytes,
            })
        };
        let topic_id = self.checkpoint(partition).get("topic_id").cloned();
        doc! {
            "_id": { "group": "group", "topic": "topic", "topic_id": topic_id, "partition": partition, "offset": record.offset },
            "reason": reason,
            "key": bytes(&record.key),
            "value": bytes(&record.value),
            "headers": [{ "key": "h", "value": null }],
            "timestamp": record.timestamp_ms.map(DateTime::from_millis),
            "service_version": "1.0",
            "rejected_at": DateTime::now(),
        }
    }

    /// The event of a write that leads to `document`, if it changes anything.
    pub fn put(
        &mut self,
        collection: &str,
        id: impl Into<Bson>,
        document: Option<Document>,
        transaction: Option<(Uuid, i64)>,
    ) {
        let id = id.into();
        let name = id.as_str().map_or(id.to_string(), str::to_owned);
        let name = (collection.to_owned(), name);
        let was = self.documents.get(&name).cloned();
        self.clock += 1;
        let mut event = doc! {
            "operationType": "insert",
            "clusterTime": Bson::Timestamp(bson::Timestamp { time: self.clock, increment: 1 }),
            "wallTime": DateTime::from_millis(1_000 * i64::from(self.clock)),
            "ns": { "db": "test", "coll": collection },
            "documentKey": { "_id": id },
        };
        let is_replaced = self.evidence.settings.mode == WriteMode::Replace;
        match (&was, &document) {
            (was, is) if was == is => return,
            (_, None) => drop(event.insert("operationType", "delete")),
            (None, Some(is)) => drop(event.insert("fullDocument", is)),
            (Some(_), Some(is)) if is_replaced && collection != CHECKPOINTS => {
                event.extend(doc! { "operationType": "replace", "fullDocument": is });
            }
            (Some(was), Some(is)) => {
                let set = is
                    .iter()
                    .filter(|(name, value)| was.get(name) != Some(value));
                let set: Document = set.map(|(n, v)| (n.clone(), v.clone())).collect();
                let update =
                    doc! { "updatedFields": set, "removedFields": [], "truncatedArrays": [] };
                event.extend(doc! { "operationType": "update", "updateDescription": update });
            }
        }
        if let Some((session, number)) = transaction {
            event.extend(doc! { "lsid": { "id": session }, "txnNumber": number });
        }
        match document {
            Some(document) => drop(self.documents.insert(name, document)),
            None => drop(self.documents.remove(&name)),
        }
        self.evidence.events.push(event);
    }

    /// The group commits where the partition stands; a look is taken.
    pub fn commit(&mut self, partition: i32) {
        let checkpoint = self.checkpoint(partition);
        let next_offset = checkpoint.get_i64("next_offset").ok();
        let topic_id = match checkpoint.get("topic_id") {
            Some(Bson::Binary(binary)) => binary.to_uuid().ok(),
            _ => None,
        };
        self.evidence.samples.push(Sample {
            at_ms: i64::from(self.clock),
            partition,
            committed: next_offset,
            checkpoint: next_offset.map(|next_offset| (topic_id, next_offset)),
        });
    }

    /// The evidence in the end.
    pub fn end(mut self) -> Evidence {
        settle(&mut self.evidence);
        self.evidence
    }

    /// The topic as it is now.
    pub fn lineage(&self) -> &Lineage {
        self.evidence.log.lineages.last().expect("a topic")
    }

    fn checkpoint(&self, partition: i32) -> Document {
        let name = (CHECKPOINTS.to_owned(), key(partition).to_string());
        self.documents.get(&name).cloned().unwrap_or_default()
    }
}

/// A checkpoint's `_id`.
pub fn key(partition: i32) -> Document {
    doc! { "group": "group", "topic": "topic", "partition": partition }
}

/// Has the database end as the events lead to.
pub fn settle(evidence: &mut Evidence) {
    let mut replay = Replay::default();
    replay.changes(&evidence.events);
    evidence.documents.clear();
    evidence.dead_letters.clear();
    evidence.checkpoints.clear();
    for (entity, document) in replay.documents {
        match entity.collection.as_str() {
            CHECKPOINTS => evidence.checkpoints.push(document),
            DEAD_LETTERS => evidence.dead_letters.push(document),
            _ => evidence.documents.push((entity.collection, document)),
        }
    }
}
