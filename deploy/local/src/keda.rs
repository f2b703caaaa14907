//! The real KEDA: its operator, which makes a HorizontalPodAutoscaler of a ScaledObject and asks
//! Kafka for the lag, and its metrics adapter, whom the autoscaler asks.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::time::sleep;

use crate::certificates::{Authority, write_private};
use crate::kubernetes::Kubernetes;
use crate::kubernetes::go::Programs;
use crate::process::Server;
use crate::{cache, port};

const KEDA: Programs = Programs {
    name: "KEDA",
    module: "github.com/kedacore/keda/v2@v2.21.0",
    sum: "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
    packages: &["./cmd/operator", "./cmd/adapter"],
    adapt: None,
};
const START_DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);

/// The folder of its kinds, as YAML: once for each version.
pub fn kinds() -> Result<PathBuf> {
    cache::entry(&KEDA.entry("kinds"), |folder| {
        let module = KEDA.fetch(folder)?;
        for file in fs::read_dir(module.folder.join("config/crd/bases"))? {
            let file = file?;
            fs::copy(file.path(), folder.join(file.file_name()))?;
        }
        Ok(())
    })
}

/// Both programs, beside an API server. Dropped, they are killed.
pub struct Keda {
    operator: Server,
    adapter: Server,
    adapter_port: u16,
    kubeconfig: PathBuf,
}

impl Keda {
    /// Teaches the API server KEDA's kinds, and starts both programs as its administrator.
    pub async fn start(kubernetes: &Kubernetes) -> Result<Keda> {
        let found =
            tokio::task::spawn_blocking(|| Ok::<_, anyhow::Error>((kinds()?, KEDA.folder()?)));
        let (kinds, programs) = found.await??;
        let kinds = kinds.to_string_lossy().into_owned();
        let apply = ["apply", "--server-side", "-f", &kinds];
        kubernetes.kubectl(&apply, None).await?;
        kubernetes.kinds_known().await.context("KEDA's kinds")?;

        let (operator, adapter) = (Server::new("keda-operator")?, Server::new("keda-adapter")?);
        let mut keda = Keda {
            operator,
            adapter,
            adapter_port: port::free()?,
            kubeconfig: kubernetes.admin_kubeconfig().to_owned(),
        };
        let certificates = keda.certificates()?;
        let service = format!("127.0.0.1:{}", port::free()?);
        keda.start_operator(&programs, &certificates, &service)?;
        keda.start_adapter(&programs, &certificates, &service)?;
        keda.ready(kubernetes).await?;
        Ok(keda)
    }

    /// What the adapter answers for a metric of a ScaledObject in a namespace; an error where it
    /// has no answer.
    pub async fn metric(
        &self,
        kubernetes: &Kubernetes,
        namespace: &str,
        scaled_object: &str,
        name: &str,
    ) -> Result<f64> {
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{name}\
             ?labelSelector=scaledobject.keda.sh%2Fname%3D{scaled_object}"
        );
        let answer: Value = serde_json::from_str(&self.ask(kubernetes, &path).await?)?;
        let value = answer["items"][0]["value"].as_str();
        quantity(value.with_context(|| format!("no value: {answer}"))?)
    }

    /// The end of what both have logged.
    pub fn log_tail(&self) -> String {
        format!("{}\n{}", self.operator.log_tail(), self.adapter.log_tail())
    }

    /// A folder with a certificate that each of the two shows to the other.
    fn certificates(&self) -> Result<PathBuf> {
        let folder = self.operator.directory().join("certificates");
        fs::create_dir(&folder)?;
        let pair = Authority::new()?.server()?;
        let both = fs::read_to_string(&pair.key_and_certificate)?;
        write_private(&folder.join("tls.crt"), &both)?;
        write_private(&folder.join("tls.key"), &both)?;
        fs::copy(&pair.ca, folder.join("ca.crt"))?;
        Ok(folder)
    }

    fn start_operator(
        &mut self,
        programs: &Path,
        certificates: &Path,
        service: &str,
    ) -> Result<()> {
        let (metrics, probes) = (port::free()?, port::free()?);
        self.operator.command([
            programs.join("operator").into_os_string(),
            format!("--metrics-bind-address=127.0.0.1:{metrics}").into(),
            format!("--health-probe-bind-address=127.0.0.1:{probes}").into(),
            format!("--metrics-service-bind-address={service}").into(),
            format!("--cert-dir={}", certificates.display()).into(),
            "--zap-log-level=info".into(),
        ]);
        environment(&mut self.operator, &self.kubeconfig);
        self.operator.start()
    }

    fn start_adapter(&mut self, programs: &Path, certificates: &Path, service: &str) -> Result<()> {
        let kubeconfig = self.kubeconfig.display();
        self.adapter.command([
            programs.join("adapter").into_os_string(),
            "--bind-address=127.0.0.1".into(),
            format!("--secure-port={}", self.adapter_port).into(),
            format!("--port={}", port::free()?).into(),
            format!("--metrics-service-address={service}").into(),
            format!("--cert-dir={}", certificates.display()).into(),
            format!("--tls-cert-file={}", certificates.join("tls.crt").display()).into(),
            format!(
                "--tls-private-key-file={}",
                certificates.join("tls.key").display()
            )
            .into(),
            format!("--lister-kubeconfig={kubeconfig}").into(),
            format!("--authentication-kubeconfig={kubeconfig}").into(),
            format!("--authorization-kubeconfig={kubeconfig}").into(),
        ]);
        environment(&mut self.adapter, &self.kubeconfig);
        self.adapter.start()
    }

    async fn ask(&self, kubernetes: &Kubernetes, path: &str) -> Result<String> {
        let server = format!("https://127.0.0.1:{}", self.adapter_port);
        let arguments = [
            "--server",
            &server,
            "--certificate-authority=",
            "--insecure-skip-tls-verify",
            "get",
            "--raw",
            path,
        ];
        kubernetes.kubectl(&arguments, None).await
    }

    async fn ready(&mut self, kubernetes: &Kubernetes) -> Result<()> {
        let end = Instant::now() + START_DEADLINE;
        while let Err(error) = self.ask(kubernetes, "/readyz").await {
            self.operator.check()?;
            self.adapter.check()?;
            ensure!(
                Instant::now() < end,
                "KEDA is not ready: {error:#}\n{}",
                self.log_tail()
            );
            sleep(POLL).await;
        }
        Ok(())
    }
}

fn environment(server: &mut Server, kubeconfig: &Path) {
    server.env("KUBECONFIG", &kubeconfig.to_string_lossy());
    server.env("WATCH_NAMESPACE", "");
    server.env("POD_NAMESPACE", "default");
    server.env("KEDA_CLUSTER_OBJECT_NAMESPACE", "default");
}

/// A number as Kubernetes writes it: `20k`, `1500m`.
fn quantity(text: &str) -> Result<f64> {
    let (digits, factor) = match text.char_indices().next_back() {
        Some((at, 'm')) => (&text[..at], 1e-3),
        Some((at, 'k')) => (&text[..at], 1e3),
        Some((at, 'M')) => (&text[..at], 1e6),
        _ => (text, 1.0),
    };
    let digits: f64 = digits
        .parse()
        .with_context(|| format!("no number: {text}"))?;
    Ok(digits * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, value) in [("0", 0.0), ("20k", 20e3), ("1500m", 1.5), ("1M", 1e6)] {
            assert_eq!(quantity(text).expect("a number"), value, "{text}");
        }
        assert!(quantity("many").is_err());
    }
}
