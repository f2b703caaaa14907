//! The real MongoDB operator, whose kinds `deploy/mongodb` uses, beside an API server: it makes
//! what it makes of a cluster, and no pod of it ever runs.
//!
//! Its client of the backup agents is left out. That one needs a library at a commit that not every
//! module proxy has, and without pods there is no agent to speak to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use crate::kubernetes::Kubernetes;
use crate::kubernetes::go::{self, Programs};
use crate::process::Server;
use crate::{cache, install, port};

/// Its number grows with what [`without_backup_client`] does, so that a cache is not used again.
const OPERATOR: Programs = Programs {
    name: "mongodb-operator-1",
    module: "github.com/percona/percona-server-mongodb-operator@v1.23.0",
    sum: "h1:Fs27UCLlv3WSSVJCkAn6Ax/6x1vtgbCY4Xv0l3guGzw=",
    packages: &["./cmd/manager"],
    adapt: Some(without_backup_client),
};
/// Those of the operator's release before.
const LIBRARIES: [&str; 2] = [
    "github.com/percona/percona-backup-mongodb=github.com/percona/percona-backup-mongodb@v1.8.1-0.20251104101930-05ab6d7e1004",
    "github.com/mongodb/mongo-tools=github.com/mongodb/mongo-tools@v0.0.0-20240723193119-837c2bc263f4",
];
/// Replaced by a folder that its module comes without.
const OWN_LOGGER: &str = "gopkg.in/natefinch/lumberjack.v2@v2.2.1";
/// Where a pod finds its namespace.
const NAMESPACE_FILE: &str = "\"/var/run/secrets/kubernetes.io/serviceaccount/namespace\"";
const START_DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);

/// The file of all its objects, as its release has it: once for each version.
pub fn bundle() -> Result<PathBuf> {
    let entry = cache::entry(&OPERATOR.entry("bundle"), |folder| {
        let module = OPERATOR.fetch(folder)?;
        let bundle = module.folder.join("deploy/bundle.yaml");
        fs::copy(bundle, folder.join("bundle.yaml"))?;
        Ok(())
    })?;
    Ok(entry.join("bundle.yaml"))
}

/// The operator. Dropped, it is killed.
pub struct PerconaOperator {
    server: Server,
}

impl PerconaOperator {
    /// Starts it for the clusters of its own `namespace`, with the rights of `kubeconfig`, as text.
    /// `pod` is the one there that it takes itself for.
    pub async fn start(namespace: &str, pod: &str, kubeconfig: &str) -> Result<PerconaOperator> {
        let programs = tokio::task::spawn_blocking(|| OPERATOR.folder()).await??;
        let mut server = Server::new("mongodb-operator")?;
        let write = |name: &str, text: &str| {
            let path = server.directory().join(name);
            fs::write(&path, text)?;
            Ok::<_, anyhow::Error>(path.to_string_lossy().into_owned())
        };
        let own_namespace = write("namespace", namespace)?;
        let access = write("kubeconfig", kubeconfig)?;
        let probes = port::free()?;
        server.command([
            programs.join("manager").into_os_string(),
            "--metrics-bind-address=0".into(),
            // Outside a cluster it would not know in which namespace.
            "--leader-elect=false".into(),
            format!("--health-probe-bind-address=127.0.0.1:{probes}").into(),
        ]);
        for (name, value) in [
            ("KUBECONFIG", access.as_str()),
            ("OPERATOR_NAMESPACE_FILE", &own_namespace),
            ("WATCH_NAMESPACE", namespace),
            ("HOSTNAME", pod),
            ("DISABLE_TELEMETRY", "true"),
        ] {
            server.env(name, value);
        }
        server.start()?;
        Ok(PerconaOperator { server })
    }

    /// Waits until an object that it makes is there, and gives it as JSON.
    ///
    /// # Errors
    /// With the end of its log, where it makes none.
    pub async fn made(
        &mut self,
        kubernetes: &Kubernetes,
        what: &[&str],
    ) -> Result<serde_json::Value> {
        let get = [&["get", "--output", "json"], what].concat();
        let end = Instant::now() + START_DEADLINE;
        loop {
            if let Ok(found) = kubernetes.kubectl(&get, None).await {
                return Ok(serde_json::from_str(&found)?);
            }
            self.server.check()?;
            let log = self.server.log_tail();
            ensure!(
                Instant::now() < end,
                "there is no {}\n{log}",
                what.join(" ")
            );
            sleep(POLL).await;
        }
    }

    /// The end of what it has logged.
    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }
}

/// Changes the sources so that they build without the client of the backup agents, and so that the
/// namespace is read from a file that the environment names.
fn without_backup_client(sources: &Path) -> Result<()> {
    let mut edit = Command::new(go::program()?);
    edit.current_dir(sources)
        .args(["mod", "edit", "-dropreplace", OWN_LOGGER]);
    for library in LIBRARIES {
        edit.args(["-replace", library]);
    }
    install::run(&mut edit)?;
    changed(sources, "pkg/psmdb/backup/pbm.go", client)?;
    // What the earlier library has other types for.
    for file in [
        "psmdb/backup/pbm",
        "controller/perconaservermongodb/pbm",
        "controller/perconaservermongodbbackup/psmdb_backup_controller",
    ] {
        changed(sources, &format!("pkg/{file}.go"), |text| {
            replaced(text, "storage.MaskedString", "string")
        })?;
    }
    for file in [
        "perconaservermongodb/finalizers",
        "perconaservermongodbrestore/logical",
    ] {
        changed(sources, &format!("pkg/controller/{file}.go"), |text| {
            replaced(
                text,
                "\t\"go.mongodb.org/mongo-driver/v2/bson\"",
                "\tbson \"go.mongodb.org/mongo-driver/bson/primitive\"",
            )
        })?;
    }
    for file in [
        "pkg/k8s/utils.go",
        "pkg/controller/perconaservermongodb/psmdb_controller.go",
    ] {
        changed(sources, file, |text| {
            replaced(
                text,
                NAMESPACE_FILE,
                "os.Getenv(\"OPERATOR_NAMESPACE_FILE\")",
            )
        })?;
    }
    Ok(())
}

/// The file of the client: its functions, without its methods.
fn client(text: &str) -> Result<String> {
    const REFUSED: &str = "errors.New(\"this build has no client of the backup agents\")";
    let mut text = text.to_owned();
    while text.contains("\nfunc (b *pbmC)") {
        text = without(&text, "func (b *pbmC)")?;
    }
    for declaration in [
        "type pbmC struct",
        "func getMongoUri(",
        "func NewPBM(",
        "func GetPBMStorageOCIConfig(",
        "func deleteBackup(",
        "func deleteBackupImpl(",
        "func deleteIncremetalChainImpl(",
    ] {
        text = without(&text, declaration)?;
    }
    for import in [
        "\"fmt\"",
        "\"net/url\"",
        "\"os\"",
        "\"time\"",
        "\"github.com/percona/percona-backup-mongodb/pbm/connect\"",
        "\"github.com/percona/percona-backup-mongodb/pbm/defs\"",
        "pbmErrors \"github.com/percona/percona-backup-mongodb/pbm/errors\"",
        "\"github.com/percona/percona-backup-mongodb/pbm/storage/oci\"",
        "\"github.com/percona/percona-backup-mongodb/pbm/util\"",
    ] {
        text = replaced(&text, &format!("\t{import}\n"), "")?;
    }
    text = replaced(&text, "until bson.Timestamp", "until primitive.Timestamp")?;
    text = replaced(
        &text,
        "import (\n",
        "import (\n\t\"go.mongodb.org/mongo-driver/bson/primitive\"\n",
    )?;
    text = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("WorkloadIdentity:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let context = "_ context.Context, _ client.Client, _ *psmdbv1.PerconaServerMongoDB";
    Ok(format!(
        "{text}\nfunc NewPBM({context}) (PBM, error) {{ return nil, {REFUSED} }}\n\
         func GetPBMStorageOCIConfig({context}, _ psmdbv1.BackupStorageSpec) (config.StorageConf, error) {{\n\
         \treturn config.StorageConf{{}}, {REFUSED}\n}}\n"
    ))
}

/// A Go source without the declaration that begins with `start`.
fn without(text: &str, start: &str) -> Result<String> {
    let begin = text.find(&format!("\n{start}"));
    let begin = begin.with_context(|| format!("there is no {start}"))? + 1;
    let end = text[begin..].find("\n}\n").context("it does not end")? + begin + 3;
    Ok(format!("{}{}", &text[..begin], &text[end..]))
}

fn replaced(text: &str, what: &str, with: &str) -> Result<String> {
    ensure!(text.contains(what), "there is no {what}");
    Ok(text.replace(what, with))
}

fn changed(sources: &Path, file: &str, change: impl Fn(&str) -> Result<String>) -> Result<()> {
    let path = sources.join(file);
    let text = fs::read_to_string(&path).with_context(|| file.to_owned())?;
    fs::write(&path, change(&text).with_context(|| file.to_owned())?)?;
    Ok(())
}
