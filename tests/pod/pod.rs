//! Runs a pod's containers as processes: the environment, arguments, volumes and probes of the
//! manifest, each container in a mount namespace of its own with a read-only root, as the user of
//! the manifest where the test is run by root.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use local_stack::{Kubernetes, Server};
use serde_json::Value;
use tempfile::TempDir;
use test_support::wait::{DEADLINE, until};
use test_support::worker::{Worker, binary};

use crate::shipped::{NAMESPACE, Shipped};

/// Mounts the volumes, hides the rest of /run, makes the root read-only, and becomes the program.
/// Arguments: the binary, a user's id or nothing, then `mode source target` of each volume, `--`,
/// the program's arguments.
const CONTAINER: &str = r#"
set -eu
mount -t tmpfs tmpfs /run
mkdir /run/image && touch /run/image/workflows-sink
mount --bind "$1" /run/image/workflows-sink
user=$2
shift 2
while [ "$1" != -- ]; do
    mkdir -p "$3"
    mount --bind "$2" "$3"
    mount -o "remount,bind,$1" "$3"
    shift 3
done
shift
mount -o remount,bind,ro /
[ -z "$user" ] || exec setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs --inh-caps=-all \
    --bounding-set=-all /run/image/workflows-sink "$@"
exec /run/image/workflows-sink "$@"
"#;

/// A pod whose init containers are up.
pub struct Pod {
    spec: Value,
    environments: BTreeMap<String, BTreeMap<String, String>>,
    volumes: BTreeMap<String, TempDir>,
    /// The sidecar.
    pub admin: Worker,
    /// The service.
    pub sink: Worker,
}

impl Pod {
    /// Starts it as the kubelet does: the sidecar first, the sink when the sidecar's startup probe
    /// has succeeded. `seen` is called in between.
    pub async fn start(
        shipped: &Shipped,
        kubernetes: &Kubernetes,
        seen: impl AsyncFnOnce(),
    ) -> Pod {
        let spec = shipped.pod()["spec"].clone();
        let volumes = volumes(&spec, NAMESPACE, kubernetes).await;
        let environments = ["admin", "sink"].map(|name| {
            let container = shipped.container(name);
            (
                name.to_owned(),
                environment(shipped, container, kubernetes, &[]),
            )
        });
        let environments: BTreeMap<_, _> = environments.into();
        let start = |name: &str| {
            let container = shipped.container(name);
            let arguments = strings(&container["args"]);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let command = command(&spec, container, &volumes, &environments[name], &arguments);
            let mut server = Server::new(name).expect("a directory");
            server.command(command);
            server.start().expect("a container");
            Worker::of(server)
        };
        let mut admin = start("admin");
        started(&mut admin, &shipped.container("admin")["startupProbe"]).await;
        seen().await;
        let mut sink = start("sink");
        started(&mut sink, &shipped.container("sink")["startupProbe"]).await;
        Pod {
            spec,
            environments,
            volumes,
            admin,
            sink,
        }
    }

    /// Runs the binary in the admin container, as `kubectl exec -c admin` does.
    pub async fn exec_admin(&self, arguments: &[&str]) -> Output {
        let container = &self.spec["initContainers"][0];
        let environment = &self.environments["admin"];
        let line = command(&self.spec, container, &self.volumes, environment, arguments);
        ended(&line).await
    }

    /// Whether a probe of a container succeeds.
    pub fn probes(&self, container: &Value, probe: &str) -> bool {
        let worker = match container["name"] == "admin" {
            true => &self.admin,
            false => &self.sink,
        };
        probe_succeeds(worker, &container[probe])
    }
}

/// A container that is the only one of its pod.
pub struct Alone {
    pub worker: Worker,
    _volumes: BTreeMap<String, TempDir>,
}

impl Alone {
    /// Starts the one container of a Deployment's pod, with `changes` to its environment, and waits
    /// until it is ready as the kubelet does.
    pub async fn start(
        deployment: &Value,
        shipped: &Shipped,
        kubernetes: &Kubernetes,
        changes: &[(&str, &str)],
    ) -> Alone {
        let template = &deployment["spec"]["template"];
        let (line, volumes) = of_one(deployment, template, shipped, kubernetes, changes).await;
        let mut server = Server::new("alone").expect("a directory");
        server.command(line);
        server.start().expect("a container");
        let worker = Worker::of(server);
        let probe = &template["spec"]["containers"][0]["readinessProbe"];
        until("the container is ready", || async {
            probe_succeeds(&worker, probe)
        })
        .await;
        Alone {
            worker,
            _volumes: volumes,
        }
    }
}

/// Runs the container of a CronJob's Job to its end, with a token of its own account and with
/// `changes` to its environment.
pub async fn run_job(
    cron: &Value,
    shipped: &Shipped,
    kubernetes: &Kubernetes,
    changes: &[(&str, &str)],
) -> Output {
    let template = &cron["spec"]["jobTemplate"]["spec"]["template"];
    // the volumes live until it has ended
    let (line, _volumes) = of_one(cron, template, shipped, kubernetes, changes).await;
    ended(&line).await
}

/// The command of the one container of a pod, and its volumes.
async fn of_one(
    object: &Value,
    template: &Value,
    shipped: &Shipped,
    kubernetes: &Kubernetes,
    changes: &[(&str, &str)],
) -> (Vec<String>, BTreeMap<String, TempDir>) {
    let spec = &template["spec"];
    let container = &spec["containers"][0];
    let namespace = object["metadata"]["namespace"].as_str();
    let volumes = volumes(spec, namespace.expect("a namespace"), kubernetes).await;
    let environment = environment(shipped, container, kubernetes, changes);
    let arguments = strings(&container["args"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let line = command(spec, container, &volumes, &environment, &arguments);
    (line, volumes)
}

async fn ended(line: &[String]) -> Output {
    let run = tokio::process::Command::new(&line[0])
        .args(&line[1..])
        .output();
    let ended = tokio::time::timeout(DEADLINE, run).await;
    ended.expect("the command ends").expect("the command runs")
}

fn probe_succeeds(worker: &Worker, probe: &Value) -> bool {
    let path = probe["httpGet"]["path"].as_str().expect("a path");
    worker
        .get(path)
        .is_some_and(|(status, _)| (200..400).contains(&status))
}

/// Waits for a startup probe as the kubelet does, which would restart the container in the end.
async fn started(worker: &mut Worker, probe: &Value) {
    let period = Duration::from_secs(probe["periodSeconds"].as_u64().expect("seconds"));
    let failures = probe["failureThreshold"].as_u64().expect("a number") as u32;
    let end = Instant::now() + (period * failures).min(DEADLINE);
    while !probe_succeeds(worker, probe) {
        worker.server().check().expect("the container runs");
        assert!(
            Instant::now() < end,
            "not started in time: {}",
            worker.log()
        );
        tokio::time::sleep(period / 4).await;
    }
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|text| text.as_str().expect("a string").to_owned())
        .collect()
}

/// Settings, the manifest's own variables, what the kubelet and the image add, and `changes`.
fn environment(
    shipped: &Shipped,
    container: &Value,
    kubernetes: &Kubernetes,
    changes: &[(&str, &str)],
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if container.get("envFrom").is_some() {
        let data = &shipped.object("ConfigMap", "workflows-sink")["data"];
        all = serde_json::from_value(data.clone()).expect("strings");
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let text = |field: &str| variable[field].as_str().expect("a string").to_owned();
        all.insert(text("name"), text("value"));
    }
    let (host, port) = kubernetes.address();
    let added = [
        ("KUBERNETES_SERVICE_HOST", host.to_owned()),
        ("KUBERNETES_SERVICE_PORT", port.to_string()),
        ("HOSTNAME", "workflows-sink-0".to_owned()),
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ),
    ];
    all.extend(added.map(|(name, value)| (name.to_owned(), value)));
    let changes = changes.iter();
    all.extend(changes.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    all
}

async fn volumes(
    spec: &Value,
    namespace: &str,
    kubernetes: &Kubernetes,
) -> BTreeMap<String, TempDir> {
    let account = spec["serviceAccountName"].as_str().expect("an account");
    let group = spec["securityContext"]["fsGroup"]
        .as_u64()
        .expect("a group") as u32;
    let mut volumes = BTreeMap::new();
    for volume in spec["volumes"].as_array().expect("volumes") {
        let name = volume["name"].as_str().expect("a name").to_owned();
        let directory = TempDir::new().expect("a directory");
        let mut mode = 0o2777;
        if let Some(sources) = volume["projected"]["sources"].as_array() {
            for source in sources {
                project(
                    source,
                    directory.path().to_owned(),
                    (namespace, account),
                    group,
                    kubernetes,
                )
                .await;
            }
            mode = 0o2775;
        }
        if let Some(secret) = volume["secret"]["secretName"].as_str() {
            mount_secret(secret, directory.path(), group, kubernetes).await;
            mode = 0o2775;
        }
        own(directory.path().to_owned(), group, mode);
        volumes.insert(name, directory);
    }
    volumes
}

/// A file for each key, as the kubelet makes it.
async fn mount_secret(name: &str, directory: &Path, group: u32, kubernetes: &Kubernetes) {
    let go = "{{range $key, $value := .data}}{{$key}} {{base64decode $value}}{{\"\\n\"}}{{end}}";
    let output = format!("go-template={go}");
    let get = ["get", "secret", name, "--output", &output];
    let keys = kubernetes.kubectl(&get, None).await.expect("the Secret");
    for (key, value) in keys.lines().filter_map(|line| line.split_once(' ')) {
        let file = directory.join(key);
        fs::write(&file, value).expect("written");
        own(file, group, 0o440);
    }
}

async fn project(
    source: &Value,
    directory: PathBuf,
    (namespace, account): (&str, &str),
    group: u32,
    kubernetes: &Kubernetes,
) {
    let (path, text) = if let Some(token) = source.get("serviceAccountToken") {
        let token_text = kubernetes.service_account_token(namespace, account).await;
        (&token["path"], token_text.expect("a token"))
    } else if let Some(map) = source.get("configMap") {
        assert_eq!(map["name"], "kube-root-ca.crt");
        (
            &map["items"][0]["path"],
            fs::read_to_string(kubernetes.ca()).expect("a CA"),
        )
    } else {
        let item = &source["downwardAPI"]["items"][0];
        assert_eq!(item["fieldRef"]["fieldPath"], "metadata.namespace");
        (&item["path"], namespace.to_owned())
    };
    let file = directory.join(path.as_str().expect("a path"));
    fs::write(&file, text).expect("written");
    own(file, group, 0o640);
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn own(path: PathBuf, group: u32, mode: u32) {
    if is_root() {
        chown(&path, None, Some(group)).expect("owned");
    }
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("permitted");
}

/// The command that becomes the container.
fn command(
    spec: &Value,
    container: &Value,
    volumes: &BTreeMap<String, TempDir>,
    environment: &BTreeMap<String, String>,
    arguments: &[&str],
) -> Vec<String> {
    let mut line = vec!["env".to_owned(), "-i".to_owned()];
    line.extend(
        environment
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    line.extend(["unshare", "--mount"].map(str::to_owned));
    let user = match is_root() {
        true => spec["securityContext"]["runAsUser"].to_string(),
        false => {
            line.push("--map-root-user".to_owned());
            String::new()
        }
    };
    let program = binary().to_str().expect("UTF-8").to_owned();
    line.extend(["sh", "-c", CONTAINER, "container"].map(str::to_owned));
    line.extend([program, user]);
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let text = |field: &str| mount[field].as_str().expect("a string").to_owned();
        let mode = if mount["readOnly"] == true {
            "ro"
        } else {
            "rw"
        };
        let source = volumes[&text("name")]
            .path()
            .to_str()
            .expect("UTF-8")
            .to_owned();
        line.extend([mode.to_owned(), source, text("mountPath")]);
    }
    line.push("--".to_owned());
    line.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    line
}
