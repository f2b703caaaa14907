//! How much librdkafka may hold, derived from the byte budget. Pure.

/// How much smaller records are on the wire than in memory, at the most: zstd on 2 KB entities was
/// seen at 11:1. A fetch is limited by its compressed size, and a queue overshoots by one fetch.
const COMPRESSION_MAX: usize = 12;

/// The largest fetch of one partition, in bytes on the wire: more gives no more throughput.
const FETCH_BYTES_MAX: usize = 64 * 1024;

/// The smallest; below it the rate falls.
const FETCH_BYTES_MIN: usize = 32 * 1024;

/// The largest queue of one partition, in KiB in memory.
const QUEUE_KIB_MAX: usize = 768;

/// `QUEUE_KIB_MAX` in bytes: what may wait in a partition's queue when one more fetch is made.
pub const QUEUE_BYTES_MAX: usize = QUEUE_KIB_MAX * 1024;

/// The smallest.
const QUEUE_KIB_MIN: usize = 64;

/// What the queue of one partition holds at the least, in bytes: with less than this for each
/// partition, the queues together pass their share.
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

    /// What all queues may hold: what is queued, and the fetch by which each overshoots.
    fn held_max(properties: &[(&str, String)], partitions: usize) -> usize {
        let queue = number(properties, "queued.max.messages.kbytes") * 1024;
        let overshoot = number(properties, "max.partition.fetch.bytes") * COMPRESSION_MAX;
        (queue + overshoot) * partitions
    }

    proptest! {
        #[test]
        fn the_queues_of_all_partitions_stay_under_the_budget(
            partitions in 1..2_000_usize,
            share in PARTITION_BYTES_MIN..64 << 20,
        ) {
            let properties = properties(partitions * share, partitions);
            prop_assert!(held_max(&properties, partitions) <= partitions * share, "{:?}", properties);
        }

        #[test]
        fn every_value_is_one_that_librdkafka_takes(bytes_max in any::<usize>(), partitions in 0..100_000_usize) {
            let properties = properties(bytes_max, partitions);
            prop_assert!((1..=1_000_000_000).contains(&number(&properties, "max.partition.fetch.bytes")));
            prop_assert!((1..=2_097_151).contains(&number(&properties, "queued.max.messages.kbytes")));
            // Not below the default message.max.bytes, and half a KiB below receive.message.max.bytes.
            prop_assert!((1_000_000..=99_999_488).contains(&number(&properties, "fetch.max.bytes")));
            prop_assert!((0..=300_000).contains(&number(&properties, "fetch.queue.backoff.ms")));
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
}
