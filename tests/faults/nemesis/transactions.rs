//! A transactional producer: what it commits is part of the log, what it aborts is not, and what it
//! leaves open holds back the records behind it.

use std::time::Duration;

use local_stack::random::Random;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::task::spawn_blocking;

use super::{BRIEFLY, Nemesis};

/// How long a step of a transaction may take while other faults last.
const STEP_DEADLINE: Duration = Duration::from_secs(60);

/// How many transactions there are; every third is aborted.
const TRANSACTIONS: usize = 9;

impl Nemesis<'_> {
    /// Runs some transactions over all partitions, and leaves one open for a while.
    pub(super) async fn run_transactions(&mut self) {
        let (bootstrap, topic) = (
            self.stage.cluster.direct_bootstrap(),
            self.scene.topic.clone(),
        );
        let (seed, partitions) = (self.random.bits(), self.partitions);
        let done = spawn_blocking(move || {
            let mut random = Random::new(seed);
            let name = format!("transactions-{seed:x}");
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", &bootstrap)
                .set("transactional.id", &name)
                .set("transaction.timeout.ms", "30000")
                .create()?;
            producer.init_transactions(STEP_DEADLINE)?;
            for number in 1..=TRANSACTIONS {
                producer.begin_transaction()?;
                for partition in 0..partitions {
                    send(&producer, &topic, partition, &mut random)?;
                }
                producer.flush(STEP_DEADLINE)?;
                if number == TRANSACTIONS {
                    std::thread::sleep(BRIEFLY);
                }
                match number % 3 {
                    0 => producer.abort_transaction(STEP_DEADLINE)?,
                    _ => producer.commit_transaction(STEP_DEADLINE)?,
                }
            }
            anyhow::Ok(())
        });
        done.await.expect("no panic").expect("transactions");
    }
}

/// Two states of an entity of its own.
fn send(
    producer: &BaseProducer,
    topic: &str,
    partition: i32,
    random: &mut Random,
) -> anyhow::Result<()> {
    let id = format!("{:016x}{:016x}", random.bits(), random.bits());
    for revision in 1..=2 {
        let value = format!(r#"{{"id":"{id}","kind":"Model","revision":{revision}}}"#);
        let record = BaseRecord::to(topic).partition(partition);
        let sent = producer.send(record.key(&id).payload(&value));
        sent.map_err(|(error, _)| error)?;
    }
    Ok(())
}
