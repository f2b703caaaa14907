//! What a real Prometheus with the shipped rules alerts to.

use local_stack::Prometheus;

use crate::wait::until;

/// A Prometheus that evaluates these rules.
pub async fn prometheus(rules: &str) -> Prometheus {
    Prometheus::start(rules).await.expect("a Prometheus")
}

/// Lets it scrape these processes (`host:port`, pod) and no other, and waits until it does.
pub async fn scrape(prometheus: &Prometheus, targets: &[(String, String)]) {
    let labels: Vec<_> = (targets.iter())
        .map(|(_, pod)| [("namespace", "tests"), ("pod", pod.as_str())])
        .collect();
    let labelled: Vec<(&str, &[(&str, &str)])> = (targets.iter().zip(&labels))
        .map(|((address, _), labels)| (address.as_str(), &labels[..]))
        .collect();
    prometheus.scrape(&labelled).expect("written");
    until("all are scraped, and no other", || async {
        let up = prometheus.query("up").expect("an answer");
        up.len() == targets.len() && up.iter().all(|(_, up)| *up == 1.0)
    })
    .await;
}

/// Whether an alert fires, with this value of a label if one is given.
pub fn fires(prometheus: &Prometheus, alert: &str, label: Option<(&str, &str)>) -> bool {
    let alerts = prometheus.alerts().expect("an answer");
    alerts.iter().any(|found| {
        let is_meant = label
            .is_none_or(|(name, value)| found.labels.get(name).is_some_and(|found| found == value));
        found.name == alert && found.fires && is_meant
    })
}

/// Waits until it fires.
pub async fn until_fires(prometheus: &Prometheus, alert: &str, label: Option<(&str, &str)>) {
    until(&format!("{alert} fires"), || async {
        fires(prometheus, alert, label)
    })
    .await;
}

/// Waits until it does not.
pub async fn until_over(prometheus: &Prometheus, alert: &str) {
    until(&format!("{alert} is over"), || async {
        !fires(prometheus, alert, None)
    })
    .await;
}
