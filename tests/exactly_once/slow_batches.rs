//! A batch that is too slow for the server's limit of a transaction gets through in smaller ones.

use std::time::Duration;

use local_stack::{Mongo, MongoOptions};
use workflows_sink::database::errors::Cause;
use workflows_sink::writer::command::COMMAND_WRITES_MAX;
use workflows_sink::writer::{Settled, Writer};

use crate::support::proxy::{Act, Proxy};
use crate::support::{World, records, settle, write};

/// Writes `count` records from the log's start on, each of which takes `each` in an update.
async fn write_slowly(
    writer: &mut Writer,
    proxy: &Proxy,
    count: usize,
    each: Duration,
) -> (Settled, Vec<Cause>) {
    proxy.delay_updates(each);
    let slow = records(0).datasets("d", count).batch();
    let (written, causes) = write(writer, &slow).await;
    (written.unwrap(), causes)
}

#[tokio::test]
async fn a_batch_slower_than_a_transaction_may_live_is_halved_until_it_gets_through() {
    const RECORDS: usize = 32;
    const WRITE: Duration = Duration::from_millis(80);
    let options = MongoOptions {
        parameters: vec!["transactionLifetimeLimitSeconds=1".to_owned()],
        ..MongoOptions::default()
    };
    let mongo = Mongo::start(options).await.unwrap();
    let world = World::on(&mongo, "slow_batch").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;

    // What a slow network does to a large command: 32 writes take more than twice the limit.
    let (settled, causes) = write_slowly(&mut writer, &proxy, RECORDS, WRITE).await;
    // It does not find out the same limit repeatedly.
    assert!((2..=6).contains(&causes.len()), "{causes:?}");
    assert!(
        causes.iter().all(|cause| cause.calls_for_less()),
        "{causes:?}"
    );
    let transactions = settled.counts().transactions as usize;
    assert!((2..RECORDS).contains(&transactions), "{transactions}");
    assert_eq!(world.commits().await, transactions);
    assert_eq!(settled.counts().upserted as usize, RECORDS);
    assert_eq!(world.documents("datasets").await.len(), RECORDS);
    assert_eq!(world.next_offset().await, RECORDS as i64);

    // Once what made it slow has passed, a batch is one transaction again before long.
    proxy.judge(|_| Act::Pass);
    let mut offset = RECORDS as i64;
    let mut transactions = u64::MAX;
    for _ in 0..RECORDS.ilog2() {
        let batch = records(offset).datasets("d", RECORDS).batch();
        let settled = settle(&mut writer, &batch).await;
        assert!(settled.counts().transactions <= transactions);
        transactions = settled.counts().transactions;
        offset = settled.next_offset();
    }
    assert_eq!(transactions, 1);
}

#[tokio::test]
async fn a_transaction_is_given_up_for_smaller_ones_between_two_slow_commands() {
    // More than one command's, each within its limit: the server does not mind.
    const RECORDS: usize = COMMAND_WRITES_MAX + 10;
    const WRITE: Duration = Duration::from_millis(25);
    let world = World::new("slow_commands").await;
    let (sink, proxy) = world.sink_behind_proxy().await;
    let mut writer = sink.writer(0).await;

    let (settled, causes) = write_slowly(&mut writer, &proxy, RECORDS, WRITE).await;
    assert_eq!(causes, [Cause::Timeout]);
    assert_eq!(settled.counts().transactions, 2);
    assert_eq!(settled.counts().upserted as usize, RECORDS);
    assert_eq!(world.commits().await, 2);
    assert_eq!(world.documents("datasets").await.len(), RECORDS);
    assert_eq!(world.next_offset().await, RECORDS as i64);
}
