//! How the byte budget is shared out: what librdkafka may hold, what batches may, and how many
//! partitions it holds. Pure, but for the warning.

use crate::config::reference;
use crate::record::DOCUMENT_BYTES_MAX;
use crate::telemetry::code::Code;

/// How much smaller records are on the wire than in memory, at the most: zstd on 2 KB entities was
/// seen at 11:1. A fetch is limited by its compressed size, and a queue exceeds its limit by one
/// fetch. What unpacks to more is bounded by `kafka/unpacking.rs`.
const COMPRESSION_MAX: usize = 12;

/// The largest fetch of one partition, in bytes on the wire: more gives no more throughput.
const FETCH_BYTES_MAX: usize = 64 * 1024;

/// The smallest fetch, likewise; below it the rate falls.
const FETCH_BYTES_MIN: usize = 32 * 1024;

/// The largest queue of one partition, in KiB in memory.
const QUEUE_KIB_MAX: usize = 768;

/// `QUEUE_KIB_MAX` in bytes: what may wait in a partition's queue when one more fetch is made.
pub const QUEUE_BYTES_MAX: usize = QUEUE_KIB_MAX * 1024;

/// The smallest queue, likewise.
const QUEUE_KIB_MIN: usize = 64;

/// What the queue of one partition holds at the least, in bytes: with less than this for each
/// partition, the queues together exceed their share.
pub const PARTITION_BYTES_MIN: usize = FETCH_BYTES_MIN * COMPRESSION_MAX + QUEUE_KIB_MIN * 1024;

/// The properties that keep librdkafka's queues of `partitions` partitions under `bytes_max`
/// together, whatever this worker is assigned, where each can have [`PARTITION_BYTES_MIN`]. One
/// record larger than all that is still fetched.
pub fn properties(bytes_max: usize, partitions: usize) -> [(&'static str, String); 4] {
    let share = bytes_max / partitions.max(1);
    let fetch = (share / 2 / COMPRESSION_MAX).clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
    let queue_kib =
        (share.saturating_sub(fetch * COMPRESSION_MAX) / 1024).clamp(QUEUE_KIB_MIN, QUEUE_KIB_MAX);
    let response = (fetch * partitions.max(1)).clamp(1024 * 1024, 16 * 1024 * 1024);
    [
        ("max.partition.fetch.bytes", fetch.to_string()),
        ("queued.max.messages.kbytes", queue_kib.to_string()),
        ("fetch.max.bytes", response.to_string()),
        ("fetch.queue.backoff.ms", "10".to_owned()),
    ]
}

/// The shares of a budget of `bytes_max`, in bytes: librdkafka's queues, and batches. The eighth
/// that is left is for fetches on their way and for what the allocator cannot give back.
pub const fn shares(bytes_max: usize) -> (usize, usize) {
    (bytes_max / 2, bytes_max / 8 * 3)
}

/// What a budget does not hold with so many partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// The smallest queues there are, with records of any size.
    Queues {
        /// The budget that holds them.
        bytes_min: usize,
    },
    /// A record of 16 MiB that waits in each partition.
    LargeRecords {
        /// The budget that holds them.
        bytes_min: usize,
    },
}

/// What a budget of `bytes_max` does not hold with `partitions` assigned to one worker. A record
/// larger than a queue comes in one fetch, on top of what is queued; fetches on their way have the
/// last eighth.
pub fn shortage(bytes_max: usize, partitions: usize) -> Option<Shortage> {
    let queues_min = partitions * PARTITION_BYTES_MIN * 2;
    let large_records_min = partitions * (DOCUMENT_BYTES_MAX + QUEUE_BYTES_MAX) / 5 * 8;
    if bytes_max < queues_min {
        Some(Shortage::Queues {
            bytes_min: queues_min,
        })
    } else if bytes_max < large_records_min {
        Some(Shortage::LargeRecords {
            bytes_min: large_records_min,
        })
    } else {
        None
    }
}

/// Logs which variable to set where the memory budget does not hold `partitions`.
pub fn warn_of_shortage(budget_bytes_max: usize, partitions: usize) {
    let mib = |bytes: usize| bytes.div_ceil(1024 * 1024);
    let name = reference::BUDGET_BYTES_MAX.name;
    match shortage(budget_bytes_max, partitions) {
        Some(Shortage::Queues { bytes_min }) => tracing::warn!(
            code = %Code::BudgetTooSmall,
            partitions,
            budget_bytes_max,
            "the queues of so many partitions exceed the memory budget: set {name} to {}MiB",
            mib(bytes_min)
        ),
        Some(Shortage::LargeRecords { bytes_min }) => tracing::warn!(
            code = %Code::BudgetTooSmall,
            partitions,
            budget_bytes_max,
            "records of 16 MiB would exceed the memory budget if one waited in each partition: \
             where such records may come, set {name} to {}MiB",
            mib(bytes_min)
        ),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(properties: &[(&str, String)], name: &str) -> usize {
        properties
            .iter()
            .find(|(n, _)| *n == name)
            .unwrap()
            .1
            .parse()
            .unwrap()
    }

    /// What all queues may hold: what is queued, and the fetch by which each exceeds its limit.
    fn held_max(properties: &[(&str, String)], partitions: usize) -> usize {
        let queue = number(properties, "queued.max.messages.kbytes") * 1024;
        let excess = number(properties, "max.partition.fetch.bytes") * COMPRESSION_MAX;
        (queue + excess) * partitions
    }

    proptest! {
        #[test]
        fn the_queues_of_all_partitions_stay_under_the_budget(
            partitions in 1..2_000_usize,
            share in PARTITION_BYTES_MIN..64 << 20,
        ) {
            let properties = properties(partitions * share, partitions);
            let held_max = held_max(&properties, partitions);
            prop_assert!(held_max <= partitions * share, "{:?}", properties);
        }

        #[test]
        fn every_value_is_one_that_librdkafka_takes(
            bytes_max in any::<usize>(),
            partitions in 0..100_000_usize,
        ) {
            let properties = properties(bytes_max, partitions);
            for (name, valid) in [
                ("max.partition.fetch.bytes", 1..=1_000_000_000),
                ("queued.max.messages.kbytes", 1..=2_097_151),
                // From the default message.max.bytes to half a KiB below receive.message.max.bytes.
                ("fetch.max.bytes", 1_000_000..=99_999_488),
                ("fetch.queue.backoff.ms", 0..=300_000),
            ] {
                prop_assert!(valid.contains(&number(&properties, name)), "{name}");
            }
        }
    }

    #[test]
    fn a_usual_budget_gives_full_fetches_and_a_small_one_smaller_ones() {
        let fetch = |bytes_max, partitions| {
            number(
                &properties(bytes_max, partitions),
                "max.partition.fetch.bytes",
            )
        };
        assert_eq!(fetch(128 << 20, 12), FETCH_BYTES_MAX);
        assert_eq!(fetch(128 << 20, 1_000), FETCH_BYTES_MIN);
        assert!((FETCH_BYTES_MIN + 1..FETCH_BYTES_MAX).contains(&fetch(128 << 20, 100)));
    }

    const MIB: usize = 1024 * 1024;

    #[test]
    fn the_default_budget_holds_the_largest_records_of_twelve_partitions_and_no_more() {
        assert_eq!(shortage(384 * MIB, 12), None);
        let short = Shortage::LargeRecords {
            bytes_min: of_large_records(24),
        };
        assert_eq!(shortage(384 * MIB, 24), Some(short));
        assert!(matches!(
            shortage(256 * MIB, 12),
            Some(Shortage::LargeRecords { .. })
        ));
        assert_eq!(shortage(64 * MIB, 0), None);
    }

    /// A record of 16 MiB and a full queue for each, in five eighths of the budget.
    fn of_large_records(partitions: usize) -> usize {
        partitions * (16 * MIB + QUEUE_BYTES_MAX) / 5 * 8
    }

    #[test]
    fn more_partitions_than_the_smallest_queues_allow_are_reported_first() {
        let queue = 448 * 1024;
        assert_eq!(
            shortage(384 * MIB, 439),
            Some(Shortage::Queues {
                bytes_min: 439 * queue * 2
            })
        );
        assert!(matches!(
            shortage(384 * MIB, 438),
            Some(Shortage::LargeRecords { .. })
        ));
    }

    #[test]
    fn the_figure_to_set_is_enough() {
        for partitions in 1..2_000 {
            match shortage(64 * MIB, partitions) {
                Some(Shortage::Queues { bytes_min }) => assert!(matches!(
                    shortage(bytes_min, partitions),
                    Some(Shortage::LargeRecords { .. })
                )),
                Some(Shortage::LargeRecords { bytes_min }) => {
                    assert_eq!(shortage(bytes_min, partitions), None);
                }
                None => assert!(partitions <= 2),
            }
        }
    }
}
