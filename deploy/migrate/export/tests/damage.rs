//! Damage costs what it damaged, and nothing is lost without a fault.

use std::io::{self, Read};

use datastore_export::write::{LogWriter, encode};
use datastore_export::{
    ENTITY_BYTES_MAX, Entity, Fault, Value, decode_line, decode_record, read_lines, read_log,
};
use proptest::prelude::*;

mod support;

/// Bytes of a block, and of a fragment's header.
const BLOCK_BYTES: usize = 32_768;
const HEADER_BYTES: usize = 7;

fn entity(number: usize, blob_bytes: usize) -> Entity {
    Entity {
        key: format!("Kind:{}", number + 1).parse().unwrap(),
        properties: vec![("blob".into(), Value::Blob(vec![9; blob_bytes]))],
    }
}

/// A log of entities with blobs of these lengths.
fn log_of(blobs: &[usize]) -> (Vec<u8>, Vec<Entity>) {
    let mut log = LogWriter::new(vec![]);
    let entities: Vec<Entity> = blobs
        .iter()
        .enumerate()
        .map(|(n, b)| entity(n, *b))
        .collect();
    for entity in &entities {
        log.add(&encode(entity).unwrap()).unwrap();
    }
    (log.into_inner(), entities)
}

/// Of each record, where each of its fragments begins, and the log's end: from the lengths alone.
fn fragments(entities: &[Entity]) -> (Vec<Vec<usize>>, usize) {
    let mut at = 0;
    let mut all = vec![];
    for entity in entities {
        let mut rest = encode(entity).unwrap().len();
        let mut begins = vec![];
        loop {
            let left = BLOCK_BYTES - at % BLOCK_BYTES;
            if left < HEADER_BYTES {
                at += left;
                continue;
            }
            begins.push(at);
            let data = rest.min(left - HEADER_BYTES);
            at += HEADER_BYTES + data;
            rest -= data;
            if rest == 0 {
                break;
            }
        }
        all.push(begins);
    }
    (all, at)
}

fn read(log: &[u8]) -> (Vec<Entity>, Vec<Fault>) {
    let (mut entities, mut faults) = (vec![], vec![]);
    for (_, found) in read_log(log, "log") {
        match found {
            Ok(entity) => entities.push(entity),
            Err(fault) => faults.push(fault),
        }
    }
    (entities, faults)
}

/// Holds what is read of a log with one byte changed against what the layout says must be lost:
/// the records with a fragment in the byte's block, at it or behind it.
fn check_flip(blobs: &[usize], at: usize, mask: u8) {
    let (mut log, entities) = log_of(blobs);
    let (fragments, end) = fragments(&entities);
    assert_eq!(log.len(), end);
    log[at] ^= mask;
    // The fragment, or the filling, that the byte is in.
    let block_end = (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
    let begins = fragments.iter().flatten().copied();
    let hit = begins.filter(|begin| *begin <= at).max().unwrap();
    let filling = hit / BLOCK_BYTES == at / BLOCK_BYTES
        && at >= block_end - (HEADER_BYTES - 1)
        && read_header_end(&log, hit) <= at;
    let survives = |record: &Vec<usize>| match filling {
        true => true,
        false => !record.iter().any(|begin| (hit..block_end).contains(begin)),
    };
    let expected: Vec<Entity> = entities
        .iter()
        .zip(&fragments)
        .filter(|(_, record)| survives(record))
        .map(|(entity, _)| entity.clone())
        .collect();
    let (found, faults) = read(&log);
    assert_eq!(
        found.len(),
        expected.len(),
        "byte {at} ^ {mask}: {faults:?}"
    );
    assert!(found == expected, "byte {at} ^ {mask}");
    assert_eq!(faults.len(), 1, "byte {at} ^ {mask}: {faults:?}");
}

/// Where the fragment at this place ends.
fn read_header_end(log: &[u8], begin: usize) -> usize {
    begin + HEADER_BYTES + usize::from(u16::from_le_bytes([log[begin + 4], log[begin + 5]]))
}

/// Lengths with which records end at a block's end, some bytes before it, and cross several.
fn lengths() -> Vec<usize> {
    let mut blobs = vec![10, 300, 32_000, 10, 20, 70_000, 0, 1, 90];
    blobs.extend([500; 40]);
    // Three bytes are left of the first block, which are zeros.
    let (_, entities) = log_of(&blobs[..2]);
    let (_, end) = fragments(&entities);
    let overhead = encode(&entity(2, 32_000)).unwrap().len() - 32_000;
    blobs[2] = BLOCK_BYTES - 3 - end - HEADER_BYTES - overhead;
    blobs
}

#[test]
fn a_flipped_byte_of_any_header_or_filling_costs_the_rest_of_its_block() {
    let blobs = lengths();
    let (log, entities) = log_of(&blobs);
    let (fragments, _) = fragments(&entities);
    assert_eq!(log[BLOCK_BYTES - 3..BLOCK_BYTES], [0; 3]);
    let headers = fragments
        .iter()
        .flatten()
        .flat_map(|at| *at..at + HEADER_BYTES + 2);
    for at in headers
        .chain(BLOCK_BYTES - 4..BLOCK_BYTES)
        .filter(|at| *at < log.len())
    {
        for mask in [1, 0x80, 0xff] {
            check_flip(&blobs, at, mask);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_flipped_byte_anywhere_costs_the_rest_of_its_block(
        at in any::<prop::sample::Index>(),
        mask in 1..=u8::MAX,
    ) {
        let blobs = lengths();
        let at = at.index(log_of(&blobs).0.len());
        check_flip(&blobs, at, mask);
    }

    #[test]
    fn no_bytes_bring_the_reader_down(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
        let _ = decode_record(&bytes);
        let _ = decode_line(&bytes);
        let mut log = LogWriter::new(vec![]);
        log.add(&bytes).unwrap();
        log.add(&bytes).unwrap();
        let (entities, faults) = read(&log.into_inner());
        prop_assert_eq!(entities.len() + faults.len(), 2);
    }

    #[test]
    fn no_flipped_byte_of_an_entity_brings_the_reader_down(
        entity in support::entity(40),
        at in any::<prop::sample::Index>(),
        mask in 1..=u8::MAX,
    ) {
        let mut record = encode(&entity).unwrap();
        let at = at.index(record.len());
        record[at] ^= mask;
        let _ = decode_record(&record);
    }
}

#[test]
fn a_file_that_is_cut_anywhere_gives_what_is_whole_and_one_fault() {
    let (log, entities) = log_of(&[10, 20, 33_000, 30, 40]);
    let (fragments, end) = fragments(&entities);
    let mut ends: Vec<usize> = fragments.iter().skip(1).map(|record| record[0]).collect();
    ends.push(end);
    // Each length, but within the data of the large record each 19th.
    let inner = 200..BLOCK_BYTES - 100;
    let lengths = (0..=log.len()).filter(|length| !inner.contains(length) || length % 19 == 0);
    for length in lengths {
        let (found, faults) = read(&log[..length]);
        let whole = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(found.len(), whole, "{length}");
        assert!(found == entities[..whole], "{length}");
        let between = length == 0 || ends.contains(&length);
        let truncated = |fault: &Fault| {
            let begin = fragments[whole][0] as u64;
            matches!(fault, Fault::Truncated { from } if *from == begin)
        };
        assert_eq!(faults.len(), usize::from(!between), "{length}: {faults:?}");
        assert!(faults.iter().all(truncated), "{length}: {faults:?}");
    }
}

#[test]
fn a_damaged_region_of_several_blocks_is_one_fault_and_two_regions_are_two() {
    let blobs = [3_000; 70];
    let (mut log, _) = log_of(&blobs);
    for block in [1, 2, 4] {
        log[block * BLOCK_BYTES + 3] ^= 1;
    }
    let (_, faults) = read(&log);
    let regions: Vec<(u64, u64)> = faults
        .iter()
        .map(|fault| match fault {
            Fault::Damaged { from, to, .. } => (*from, *to),
            other => panic!("{other}"),
        })
        .collect();
    // Each begins with the record that crosses into the block, and ends with the first record that
    // begins behind it.
    let (_, entities) = log_of(&blobs);
    let (fragments, _) = fragments(&entities);
    let begins: Vec<usize> = fragments.iter().map(|record| record[0]).collect();
    let before = |at: usize| *begins.iter().rfind(|begin| **begin < at).unwrap() as u64;
    let behind = |at: usize| *begins.iter().find(|begin| **begin >= at).unwrap() as u64;
    let expected = [
        (before(BLOCK_BYTES), behind(3 * BLOCK_BYTES)),
        (before(4 * BLOCK_BYTES), behind(5 * BLOCK_BYTES)),
    ];
    assert_eq!(regions, expected);
}

#[test]
fn a_hole_of_a_block_is_a_fault() {
    let (mut log, entities) = log_of(&[3_000; 70]);
    log[BLOCK_BYTES..2 * BLOCK_BYTES].fill(0);
    let (found, faults) = read(&log);
    assert!(found.len() < entities.len());
    assert_eq!(faults.len(), 1, "{faults:?}");

    // No record need cross into it.
    let mut log = LogWriter::new(vec![]);
    for entity in &entities[..3] {
        log.add(&encode(entity).unwrap()).unwrap();
        log.fill().unwrap();
    }
    let mut log = log.into_inner();
    log[BLOCK_BYTES..2 * BLOCK_BYTES].fill(0);
    let (found, faults) = read(&log);
    assert_eq!((found.len(), faults.len()), (2, 1), "{faults:?}");
}

#[test]
fn blocks_that_are_lost_are_a_fault() {
    let (mut log, _) = log_of(&[10, 40_000, 20, 30]);
    // Only the end of the large record is there, and those behind it.
    let (found, faults) = read(&log.split_off(BLOCK_BYTES));
    assert_eq!((found.len(), faults.len()), (2, 1), "{faults:?}");
    // Only its beginning is there, and then another file.
    log.extend(log_of(&[50]).0);
    let (found, faults) = read(&log);
    assert_eq!((found.len(), faults.len()), (2, 1), "{faults:?}");
}

#[test]
fn a_record_that_is_too_long_is_a_fault_and_the_next_is_read() {
    let mut log = LogWriter::new(vec![]);
    let next = entity(0, 1);
    log.add(&vec![1; ENTITY_BYTES_MAX + 1]).unwrap();
    log.add(&encode(&next).unwrap()).unwrap();
    let (found, faults) = read(&log.into_inner());
    assert_eq!(found, [next]);
    assert!(matches!(faults[..], [Fault::Oversize]), "{faults:?}");
    assert!(encode(&entity(0, ENTITY_BYTES_MAX)).is_err());
}

#[test]
fn a_line_that_is_too_long_is_a_fault_and_the_next_is_read() {
    let mut text = vec![b' '; ENTITY_BYTES_MAX + 1];
    text.extend(b"\n\n{\"key\":\"A:1\"}\r\n{\"key\":\"A:2\"}");
    let mut lines = read_lines(&text[..], "x.jsonl");
    let (place, found) = lines.next().unwrap();
    assert!(matches!(found, Err(Fault::Oversize)));
    assert_eq!(place.record, 1);
    let rest: Vec<(u64, String)> = lines
        .map(|(place, entity)| (place.record, entity.unwrap().key.to_string()))
        .collect();
    assert_eq!(rest, [(3, "A:1".to_owned()), (4, "A:2".to_owned())]);
}

/// Fails when what it has is read.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the disk is gone")),
            bytes => Ok(bytes),
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_further_gives_what_was_read_and_a_fault() {
    let (log, entities) = log_of(&[10, 20, 70_000]);
    for length in [0, 60, 100, 50_000, log.len()] {
        let found: Vec<_> = read_log(Failing(&log[..length]), "log").collect();
        let (last, before) = found.split_last().unwrap();
        assert!(matches!(last.1, Err(Fault::Io(_))), "{length}: {last:?}");
        for ((_, found), entity) in before.iter().zip(&entities) {
            assert_eq!(found.as_ref().unwrap(), entity);
        }
    }
    let text = io::BufReader::new(Failing(b"{\"key\":\"A:1\"}\n{\"key\":"));
    let found: Vec<bool> = read_lines(text, "x")
        .map(|(_, found)| found.is_ok())
        .collect();
    assert_eq!(found, [true, false]);
}
