//! A real Kubernetes API server on loopback, with RBAC: etcd and kube-apiserver, and kubectl to
//! speak to it.
//!
//! There is no controller manager: namespaces have no `default` ServiceAccount, and nothing runs
//! what is applied.

mod build;
pub mod definitions;
pub(crate) mod go;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

use crate::certificates::{Authority, ServerCertificate, signing_key, write_private};
use crate::port;
use crate::process::Server;
use crate::toxiproxy::{Proxy, Toxiproxy};

pub use self::build::programs;

const START_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const KUBECTL_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
const SERVICE_ADDRESSES: &str = "10.0.0.0/24";
/// Who issues the tokens of ServiceAccounts, and whom they are for unless asked otherwise.
const ISSUER: &str = "https://kubernetes.default.svc";

/// What to start.
#[derive(Default)]
pub struct KubernetesOptions {
    /// Puts a proxy before the API server; kubeconfigs then lead through it, kubectl's own calls do
    /// not.
    pub proxy: Option<Toxiproxy>,
}

/// A running API server. Dropped, it is killed and its data removed.
pub struct Kubernetes {
    api: Server,
    etcd: Server,
    programs: PathBuf,
    certificate: ServerCertificate,
    port: u16,
    proxy: Option<Proxy>,
    admin: PathBuf,
}

impl Kubernetes {
    /// Starts etcd and the API server, and returns when it is ready.
    pub async fn start(options: KubernetesOptions) -> Result<Kubernetes> {
        let programs = tokio::task::spawn_blocking(programs).await??;
        let (mut etcd, mut api) = (Server::new("etcd")?, Server::new("kube-apiserver")?);
        let (port, client_port, peer_port) = (port::free()?, port::free()?, port::free()?);
        let authority = Authority::new()?;
        let certificate = authority.server()?;
        let token = token();
        let directory = api.directory().to_owned();
        let admin = directory.join("admin.kubeconfig");
        let url = format!("https://127.0.0.1:{port}");
        write_private(
            &admin,
            &kubeconfig(&url, &certificate.ca, &token, "default"),
        )?;
        let tokens = directory.join("tokens.csv");
        write_private(&tokens, &format!("{token},admin,admin,system:masters\n"))?;
        etcd.command(etcd_command(
            &programs,
            etcd.directory(),
            client_port,
            peer_port,
        ));
        api.command(api_command(&ApiFiles {
            programs: &programs,
            directory: &directory,
            certificate: &certificate,
            tokens: &tokens,
            port,
            etcd_port: client_port,
        })?);
        let proxy = options
            .proxy
            .map(|toxiproxy| toxiproxy.proxy("kube-apiserver", &format!("127.0.0.1:{port}")))
            .transpose()?;
        let mut kubernetes = Kubernetes {
            api,
            etcd,
            programs,
            certificate,
            port,
            proxy,
            admin,
        };
        kubernetes.etcd.start()?;
        kubernetes.api.start()?;
        kubernetes.ready().await?;
        Ok(kubernetes)
    }

    /// `127.0.0.1` and the port that clients use: the proxy's, if there is one.
    pub fn address(&self) -> (&'static str, u16) {
        let port = self.proxy.as_ref().map_or(self.port, Proxy::port);
        ("127.0.0.1", port)
    }

    /// The authority that a client must trust, as a PEM file.
    pub fn ca(&self) -> &Path {
        &self.certificate.ca
    }

    /// The proxy before the API server, if the options asked for one.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// The kubeconfig of a user who may do everything, past the proxy.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// A kubeconfig, as text, for whoever holds `token`; `namespace` is the one that clients use by
    /// default.
    pub fn kubeconfig(&self, token: &str, namespace: &str) -> String {
        let (host, port) = self.address();
        let url = format!("https://{host}:{port}");
        kubeconfig(&url, self.ca(), token, namespace)
    }

    /// A token of a ServiceAccount, issued as the kubelet asks for the one that it mounts.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let arguments = ["create", "token", name, "--namespace", namespace];
        let token = self.kubectl(&arguments, None).await?;
        Ok(token.trim().to_owned())
    }

    /// Applies manifests, server-side and with strict validation, and returns what kubectl printed.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        let arguments = ["apply", "--server-side", "--validate=strict", "-f", "-"];
        self.kubectl(&arguments, Some(manifests)).await
    }

    /// Waits until the server knows every kind that it was taught.
    ///
    /// # Errors
    /// What kubectl says of those that it does not know in time.
    pub async fn kinds_known(&self) -> Result<()> {
        let wait = ["wait", "--for=condition=Established", "crd", "--all"];
        let end = Instant::now() + START_DEADLINE;
        // It fails at once where the server has not looked at them yet.
        while let Err(error) = self.kubectl(&wait, None).await {
            ensure!(Instant::now() < end, "kinds are not known: {error:#}");
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Runs kubectl as the admin, with `input` on its standard input, and returns its standard
    /// output.
    pub async fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let output = self.kubectl_as(&self.admin, arguments, input).await?;
        ensure!(
            output.status.success(),
            "kubectl {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs kubectl with this kubeconfig to its end, whatever that is.
    pub async fn kubectl_as(
        &self,
        kubeconfig: &Path,
        arguments: &[&str],
        input: Option<&str>,
    ) -> Result<Output> {
        let cache = self.api.directory().join("kubectl-cache");
        let mut child = tokio::process::Command::new(self.programs.join("kubectl"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--cache-dir")
            .arg(cache)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run kubectl")?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        let input = input.unwrap_or_default().as_bytes();
        let write = async {
            // One that fails at once does not read: its own message says more.
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        let run = async { tokio::join!(write, child.wait_with_output()).1 };
        let ended = timeout(KUBECTL_DEADLINE, run).await;
        Ok(ended.context("kubectl takes too long")??)
    }

    /// The API server's process, to look at.
    pub fn server(&mut self) -> &mut Server {
        &mut self.api
    }

    /// SIGKILL to the API server.
    pub fn kill(&mut self) -> Result<()> {
        self.api.kill()
    }

    /// SIGTERM to the API server, and waits for its end.
    pub async fn stop(&mut self) -> Result<()> {
        self.api.stop(STOP_DEADLINE).await
    }

    /// SIGSTOP to the API server: it accepts connections and answers nothing.
    pub fn freeze(&self) -> Result<()> {
        self.api.freeze()
    }

    /// SIGCONT to the API server.
    pub fn thaw(&self) -> Result<()> {
        self.api.thaw()
    }

    /// Starts the API server after a kill or stop, on the same port and with its data.
    pub async fn restart(&mut self) -> Result<()> {
        self.api.start()?;
        self.ready().await
    }

    async fn ready(&mut self) -> Result<()> {
        let end = Instant::now() + START_DEADLINE;
        loop {
            self.etcd.check()?;
            self.api.check()?;
            let answer = self.kubectl(&["get", "--raw", "/readyz"], None).await;
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => bail!(
                    "kube-apiserver is not ready after {START_DEADLINE:?}: {error:#}\n{}",
                    self.api.log_tail()
                ),
                Err(_) => sleep(POLL).await,
            }
        }
    }
}

fn etcd_command(programs: &Path, directory: &Path, port: u16, peer_port: u16) -> Vec<OsString> {
    let (client, peer) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{peer_port}"),
    );
    let mut command = vec![programs.join("etcd").into_os_string()];
    command.extend(
        [
            "--data-dir",
            &directory.join("data").to_string_lossy(),
            "--name",
            "one",
            "--unsafe-no-fsync",
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &format!("one={peer}"),
        ]
        .map(OsString::from),
    );
    command
}

struct ApiFiles<'a> {
    programs: &'a Path,
    directory: &'a Path,
    certificate: &'a ServerCertificate,
    tokens: &'a Path,
    port: u16,
    etcd_port: u16,
}

fn api_command(files: &ApiFiles<'_>) -> Result<Vec<OsString>> {
    let signing = signing_key(files.directory)?;
    // It finds the certificate and the key among what else is in the file.
    let pair = &files.certificate.key_and_certificate;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let flags = [
        ("bind-address", "127.0.0.1".to_owned()),
        ("advertise-address", "127.0.0.1".to_owned()),
        ("secure-port", files.port.to_string()),
        (
            "etcd-servers",
            format!("http://127.0.0.1:{}", files.etcd_port),
        ),
        ("endpoint-reconciler-type", "none".to_owned()),
        ("service-cluster-ip-range", SERVICE_ADDRESSES.to_owned()),
        ("allow-privileged", "true".to_owned()),
        ("authorization-mode", "RBAC".to_owned()),
        ("token-auth-file", text(files.tokens)),
        ("service-account-issuer", ISSUER.to_owned()),
        ("service-account-key-file", text(&signing.public)),
        ("service-account-signing-key-file", text(&signing.private)),
        ("tls-cert-file", text(pair)),
        ("tls-private-key-file", text(pair)),
        ("client-ca-file", text(&files.certificate.ca)),
        ("cert-dir", text(&files.directory.join("certificates"))),
    ];
    let mut command = vec![files.programs.join("kube-apiserver").into_os_string()];
    command.extend(flags.map(|(name, value)| OsString::from(format!("--{name}={value}"))));
    Ok(command)
}

fn kubeconfig(url: &str, ca: &Path, token: &str, namespace: &str) -> String {
    let ca = ca.display();
    format!(
        "apiVersion: v1
kind: Config
current-context: local
clusters:
- name: local
  cluster: {{server: '{url}', certificate-authority: '{ca}'}}
contexts:
- name: local
  context: {{cluster: local, user: local, namespace: '{namespace}'}}
users:
- name: local
  user: {{token: '{token}'}}
"
    )
}

fn token() -> String {
    format!("{:016x}{:016x}", port::random(), port::random())
}
