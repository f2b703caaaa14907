//! Waits until the workers show that all is well.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::checker::{Look, Shown};
use crate::compacted;
use crate::fleet::{Fleet, Member, previous_release};
use crate::witness;

const POLL: Duration = Duration::from_millis(100);

/// Where to look, and at whom.
pub struct Lookout<'a> {
    /// The workers.
    pub fleet: &'a Fleet,
    /// The brokers past their proxies.
    pub direct: &'a str,
    /// The topic.
    pub topic: &'a str,
}

impl Lookout<'_> {
    /// One look; `None` where the brokers do not say which partitions there are.
    pub async fn look(&self, after: &str) -> Option<Look> {
        let ends = witness::log_ends(self.direct, self.topic).await.ok()?;
        let workers = self.fleet.members.iter();
        Some(Look {
            after: after.to_owned(),
            partitions: ends.into_keys().collect(),
            workers: workers.map(|member| shown(member, self.topic)).collect(),
            others: compacted::PARTITIONS as usize,
            idle: false,
            older_release: previous_release().is_some(),
            settled: None,
        })
    }

    /// Looks until `due`, given what must hold besides, has no fault, or the bound is over; the
    /// last look.
    pub async fn wait(&self, after: &str, bound: Duration, due: impl Fn(&mut Look)) -> Look {
        let end = Instant::now() + bound;
        loop {
            let mut look = self.look(after).await.unwrap_or_default();
            due(&mut look);
            let well = !look.partitions.is_empty() && look.fault().is_none();
            if well || Instant::now() > end {
                return look;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// What a worker shows now; nothing where it does not answer.
fn shown(member: &Member, topic: &str) -> Shown {
    let worker = &member.worker;
    let metrics = worker.get("/metrics").map(|(_, body)| body);
    let metrics = metrics.unwrap_or_default();
    let series = |name: &str| {
        let name = format!("workflows_sink_{name}");
        let of_name = move |line: &&str| {
            (line.strip_prefix(name.as_str())).is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        metrics.lines().filter(of_name)
    };
    let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let state = |line: &str| {
        let is = value(line) == Some(1.0) && label(line, "topic").as_deref() == Some(topic);
        let partition = label(line, "partition")?.parse().ok()?;
        is.then(|| Some((partition, label(line, "state")?)))?
    };
    let settled = series("records_settled_total").filter(|line| !line.contains("already_applied"));
    Shown {
        name: member.name.clone(),
        ready: worker.is_ready(),
        assigned: series("assigned_partitions").filter_map(value).sum::<f64>() as i64,
        states: series("partition_state")
            .filter_map(state)
            .collect::<BTreeMap<_, _>>(),
        lag: series("consumer_lag_records")
            .filter_map(value)
            .sum::<f64>() as i64,
        settled: settled.filter_map(value).sum::<f64>() as u64,
    }
}
