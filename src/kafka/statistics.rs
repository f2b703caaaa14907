//! What librdkafka reports of itself every two seconds: the little of it that matters here. Pure.

use std::collections::HashMap;

use serde::Deserialize;

use crate::record::Partition;

/// What is known of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionStatistics {
    /// The high watermark, as the last fetch told it; absent until known.
    pub end: Option<i64>,
    /// Bytes waiting in the partition's queue.
    pub queued_bytes: u64,
}

/// The state of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// How many connections to brokers are up; that to the group's coordinator is one more.
    pub brokers_up: usize,
    /// How often a batch had to be decompressed again, into more memory.
    pub decompressed_again: u64,
    /// By partition.
    pub partitions: HashMap<Partition, PartitionStatistics>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    brokers: HashMap<String, RawBroker>,
    #[serde(default)]
    topics: HashMap<String, RawTopic>,
}

#[derive(Deserialize)]
struct RawBroker {
    #[serde(default)]
    state: String,
    #[serde(default)]
    zbuf_grow: u64,
}

#[derive(Deserialize)]
struct RawTopic {
    #[serde(default)]
    partitions: HashMap<String, RawPartition>,
}

#[derive(Deserialize)]
struct RawPartition {
    #[serde(default)]
    partition: i32,
    #[serde(default)]
    fetchq_size: u64,
    #[serde(default = "unknown")]
    hi_offset: i64,
}

/// librdkafka's offset for "not known".
fn unknown() -> i64 {
    -1001
}

impl Statistics {
    /// Bytes in all queues together.
    pub fn queued_bytes(&self) -> u64 {
        self.partitions
            .values()
            .map(|partition| partition.queued_bytes)
            .sum()
    }

    /// Reads librdkafka's JSON (its STATISTICS.md).
    pub fn parse(json: &[u8]) -> serde_json::Result<Statistics> {
        let raw: Raw = serde_json::from_slice(json)?;
        let mut partitions = HashMap::new();
        for (topic, raw) in raw.topics {
            // librdkafka keeps messages without a partition in one with the number -1.
            let partitions_of_topic = raw.partitions.into_values();
            for raw in partitions_of_topic.filter(|raw| raw.partition >= 0) {
                let end = Some(raw.hi_offset).filter(|offset| *offset >= 0);
                let partition = Partition::new(topic.as_str(), raw.partition);
                partitions.insert(
                    partition,
                    PartitionStatistics {
                        end,
                        queued_bytes: raw.fetchq_size,
                    },
                );
            }
        }
        let brokers_up = raw
            .brokers
            .values()
            .filter(|broker| broker.state == "UP")
            .count();
        Ok(Statistics {
            brokers_up,
            decompressed_again: raw.brokers.values().map(|broker| broker.zbuf_grow).sum(),
            partitions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut from what librdkafka 2.12 reports of a consumer, with the topic's `-1` partition.
    const JSON: &str = r#"{
        "name": "rdkafka#consumer-1", "client_id": "rdkafka", "type": "consumer", "ts": 1,
        "brokers": {
            "localhost:9092/1": { "nodeid": 1, "state": "UP", "zbuf_grow": 3, "rtt": { "min": 1 } },
            "localhost:9093/2": { "nodeid": 2, "state": "TRY_CONNECT", "zbuf_grow": 2 },
            "GroupCoordinator": { "name": "GroupCoordinator", "nodeid": 1, "state": "UP" }
        },
        "topics": {
            "states": { "topic": "states", "age": 5, "partitions": {
                "0": { "partition": 0, "fetchq_size": 6000, "hi_offset": 12, "ls_offset": 10 },
                "1": { "partition": 1, "fetchq_size": 0, "hi_offset": -1001, "ls_offset": -1001 },
                "2": { "partition": 2, "fetchq_size": 7, "hi_offset": 5, "ls_offset": -1001 },
                "-1": { "partition": -1, "fetchq_size": 0, "hi_offset": -1001, "ls_offset": -1001 }
            } },
            "others": { "topic": "others", "partitions": {} }
        },
        "cgrp": { "state": "up" }
    }"#;

    #[test]
    fn what_matters_is_read_and_the_rest_is_skipped() {
        let statistics = Statistics::parse(JSON.as_bytes()).unwrap();
        assert_eq!(statistics.brokers_up, 2);
        assert_eq!(statistics.decompressed_again, 5);
        assert_eq!(statistics.partitions.len(), 3, "the partition -1 is none");
        let known = |number, end, queued_bytes| {
            let expected = PartitionStatistics { end, queued_bytes };
            assert_eq!(
                statistics.partitions[&Partition::new("states", number)],
                expected
            );
        };
        known(0, Some(12), 6000);
        known(1, None, 0);
        known(2, Some(5), 7);
        assert_eq!(statistics.queued_bytes(), 6007);
        let topics = statistics.partitions.keys().map(|found| &*found.topic);
        assert_eq!(topics.collect::<Vec<_>>(), ["states"; 3]);
    }

    #[test]
    fn what_is_absent_is_not_known() {
        assert_eq!(Statistics::parse(b"{}").unwrap(), Statistics::default());
        let bare = br#"{"brokers":{"b":{}},"topics":{"t":{"partitions":{"0":{}}},"u":{}}}"#;
        let statistics = Statistics::parse(bare).unwrap();
        assert_eq!(statistics.brokers_up, 0);
        assert_eq!(
            statistics.partitions[&Partition::new("t", 0)],
            PartitionStatistics::default()
        );
        assert!(Statistics::parse(b"{").is_err());
        assert!(
            Statistics::parse(br#"{"topics":{"t":{"partitions":{"0":{"hi_offset":"x"}}}}}"#)
                .is_err()
        );
    }
}
