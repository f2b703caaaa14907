//! What no usual client produces, and a broker keeps all the same: none of it ends a process or
//! holds up the records around it.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document};
use local_stack::random::Random;
use test_support::look::number;
use test_support::scene::Scene;
use test_support::wire::{WireBatch, WireRecord};
use test_support::worker::run;

/// Milliseconds since 1970, of no importance.
const NOW_MS: i64 = 1_700_000_000_000;

fn entity(n: u64) -> WireRecord {
    let id = format!("{n:032x}");
    let value = format!(r#"{{"id":"{id}","kind":"Dataset","n":{n}}}"#);
    WireRecord {
        key: Some(id.into_bytes()),
        value: Some(value.into_bytes()),
        ..WireRecord::default()
    }
}

fn send(scene: &Scene, records: &[WireRecord], base_timestamp: i64) -> Result<i64, i16> {
    WireBatch::of(records, base_timestamp).send(&scene.bootstrap, &scene.topic, 0)
}

fn binary(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_name_that_is_no_text_ends_no_process_and_is_kept_as_bytes() {
    let scene = Scene::as_produced("header_bytes", 1).await;
    let named = |record: WireRecord| WireRecord {
        headers: vec![
            (b"\xff\xfe".to_vec(), Some(b"1".to_vec())),
            (b"trace".to_vec(), None),
            (Vec::new(), Some(Vec::new())),
        ],
        ..record
    };
    let poison = named(WireRecord {
        value: Some(b"no JSON".to_vec()),
        ..entity(2)
    });
    send(&scene, &[entity(4)], NOW_MS).expect("taken");
    send(&scene, &[named(entity(1)), poison], NOW_MS).expect("taken");
    send(&scene, &[entity(3)], NOW_MS).expect("taken");
    let mut worker = scene.worker(&[]);
    scene.settled().await;

    assert_eq!(scene.entities().await.len(), 3);
    let [letter] = &scene.dead_letters().await[..] else {
        panic!("one dead letter: {}", worker.log());
    };
    let headers = letter.get_array("headers").expect("headers");
    let names = headers.iter().filter_map(Bson::as_document);
    let names: Vec<&Bson> = names.filter_map(|header| header.get("key")).collect();
    assert_eq!(
        names,
        [&binary(b"\xff\xfe"), &Bson::from("trace"), &Bson::from("")]
    );
    let (code, shown, _) = run(
        &scene.environment(),
        &["dead-letters", "show", &scene.topic, "0", "2"],
    )
    .await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("0xfffe = 1"), "{shown}");
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}

/// Keys, values, header names and times of any kind, from a seed.
struct Odd(Random);

impl Odd {
    fn bytes(&mut self, len_max: usize) -> Vec<u8> {
        let len = self.0.below(len_max + 1);
        (0..len).map(|_| self.0.below(256) as u8).collect()
    }

    fn maybe(&mut self, len_max: usize) -> Option<Vec<u8>> {
        match self.0.below(4) {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some(self.bytes(len_max)),
        }
    }

    /// An entity, or anything else.
    fn record(&mut self, n: u64) -> WireRecord {
        let mut record = match self.0.below(3) {
            0 => WireRecord {
                key: self.maybe(40),
                value: self.maybe(200),
                ..WireRecord::default()
            },
            _ => entity(n),
        };
        let headers = match self.0.below(12) {
            0 => 3_000,
            few => few,
        };
        record.headers = (0..headers)
            .map(|_| (self.bytes(12), self.maybe(12)))
            .collect();
        record.timestamp_delta = self.0.below(20_000) as i64 - 10_000;
        record
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_broker_delivers_becomes_an_entity_or_a_dead_letter() {
    const SEED: u64 = 17;
    let scene = Scene::as_produced("odd_batches", 1).await;
    let mut odd = Odd(Random::new(SEED));
    let (mut taken, mut entities, mut skipped) = (0, 0, 0);
    for batch in 0..60 {
        let count = 1 + odd.0.below(6) as u64;
        let records: Vec<WireRecord> = (0..count).map(|n| odd.record(1 + batch * 10 + n)).collect();
        let times = [NOW_MS, 0, -1, 1, -62_135_596_800_000, i64::MAX / 2];
        let base_timestamp = odd.0.pick(&times);
        // What the broker refuses is not in the log.
        if send(&scene, &records, base_timestamp).is_ok() {
            taken += records.len();
            let is_entity = |record: &&WireRecord| {
                let value = record.value.as_deref().unwrap_or_default();
                value.starts_with(b"{\"id\":")
            };
            entities += records.iter().filter(is_entity).count();
            skipped += records
                .iter()
                .filter(|record| record.value.is_none())
                .count();
        }
    }
    assert!(
        entities > 30 && taken - entities - skipped > 10,
        "seed {SEED}: {taken} taken"
    );
    let mut worker = scene.worker(&[("DYFF_WORKFLOWS_SINK__REJECTIONS_IN_A_ROW_MAX", "0")]);
    scene.settled().await;

    assert_eq!(scene.entities().await.len(), entities, "seed {SEED}");
    let letters: Vec<Document> = scene.dead_letters().await;
    assert_eq!(letters.len(), taken - entities - skipped, "seed {SEED}");
    let offset = |letter: &Document| number(letter.get_document("_id").unwrap().get("offset"));
    assert!(
        letters
            .iter()
            .map(offset)
            .all(|offset| (0..taken as i64).contains(&offset))
    );
    assert_eq!(worker.stop().await, Some(0), "{}", worker.log());
}
