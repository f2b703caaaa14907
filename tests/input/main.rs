//! Input of any shape: what the fuzz targets in `tests/fuzz` look for, on stable Rust and within a
//! few seconds.
//!
//! The corpora are replayed, and mutated a little; the properties are the targets' own.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use test_oracles::{configuration, decode, export, reply, routes};

/// The corpus and the dictionary of a target.
fn inputs(target: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut files: Vec<_> = std::fs::read_dir(fuzz.join("corpus").join(target))
        .expect("a corpus")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    let corpus = files
        .iter()
        .map(|file| std::fs::read(file).expect("a file"));
    let dictionary = std::fs::read_to_string(fuzz.join(format!("dictionaries/{target}.dict")));
    let words = dictionary.expect("a dictionary");
    let word = |line: &str| {
        line.trim_matches('"')
            .replace("\\\"", "\"")
            .replace("\\\\", "\\")
            .into_bytes()
    };
    (corpus.collect(), words.lines().map(word).collect())
}

fn replay(target: &str, holds: fn(&[u8])) {
    let (corpus, _) = inputs(target);
    assert!(corpus.len() >= 10, "the corpus of {target} is not there");
    for input in &corpus {
        holds(input);
    }
}

/// An input of the corpus with pieces changed, cut out, or put in from another one or the
/// dictionary.
fn mutated(target: &str) -> impl Strategy<Value = Vec<u8>> {
    let (corpus, words) = inputs(target);
    let small: Vec<_> = corpus
        .into_iter()
        .filter(|input| input.len() < 4_000)
        .collect();
    let piece = prop_oneof![
        select(words),
        (select(small.clone()), any::<Index>(), 0..40_usize).prop_map(|(other, at, length)| {
            let at = at.index(other.len() + 1);
            other[at..other.len().min(at + length)].to_vec()
        }),
        vec(any::<u8>(), 0..4),
    ];
    let change = (any::<Index>(), 0..6_usize, piece);
    (select(small), vec(change, 0..5)).prop_map(|(mut input, changes)| {
        for (at, removed, piece) in changes {
            let at = at.index(input.len() + 1);
            let end = input.len().min(at + removed);
            input.splice(at..end, piece);
        }
        input
    })
}

#[test]
fn the_corpora_hold() {
    replay("decode", decode::holds);
    replay("routes", routes::holds);
    replay("configuration", configuration::holds);
    replay("reply", reply::holds);
    replay("export", export::holds);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn records_of_any_bytes_are_decoded_as_the_reference_does(input in mutated("decode")) {
        decode::holds(&input);
    }

    #[test]
    fn mappings_of_any_text_route_or_are_refused(input in mutated("routes")) {
        routes::holds(&input);
    }

    #[test]
    fn replies_of_any_shape_hide_no_error(input in mutated("reply")) {
        reply::holds(&input);
    }

    #[test]
    fn exports_of_any_bytes_are_read_or_refused(input in mutated("export")) {
        export::holds(&input);
    }
}

proptest! {
    // librdkafka is asked about each property: slower.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn environments_of_any_content_are_read_or_refused_and_show_no_secret(input in mutated("configuration")) {
        configuration::holds(&input);
    }
}
