//! The API server, etcd and kubectl, built from Go modules: no registry has them ready-made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::go;
use crate::{cache, install};

const MODULE: &str = include_str!("../../kubernetes/go.mod");
const SUMS: &str = include_str!("../../kubernetes/go.sum");
const PROGRAMS: [(&str, &str); 3] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
];
const FLAGS: &str = "-trimpath -buildvcs=false -mod=readonly";

/// The folder of `etcd`, `kube-apiserver` and `kubectl`; `STACK_KUBERNETES` names one, else the cached one.
///
/// The first build takes ten minutes on two cores, and is done once for a module file, its sums and the flags.
pub fn programs() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("STACK_KUBERNETES") {
        return Ok(named.into());
    }
    let version = version();
    let link = link_flags(version);
    let mut key = Sha256::new();
    for part in [MODULE, SUMS, FLAGS, &link] {
        key.update(part);
    }
    let key = hex::encode(&key.finalize()[..6]);
    cache::entry(&format!("kubernetes-{version}-{key}"), |directory| {
        eprintln!("building Kubernetes {version} for the tests, once: this takes ten minutes");
        build(&go::program()?, directory, &link)
    })
}

fn build(go: &Path, directory: &Path, link: &str) -> Result<()> {
    let module = tempfile::Builder::new().prefix("kubernetes").tempdir()?;
    fs::write(module.path().join("go.mod"), MODULE)?;
    fs::write(module.path().join("go.sum"), SUMS)?;
    for (name, package) in PROGRAMS {
        // Behind everything else that runs: a build of this length must not fail somebody's deadline.
        let mut command = Command::new("nice");
        command
            .args(["-n", "10"])
            .arg(go)
            .current_dir(module.path())
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", FLAGS)
            .env("GOTOOLCHAIN", "local")
            .env_remove("GOROOT")
            .args(["build", "-ldflags", link, "-o"])
            .arg(directory.join(name))
            .arg(package);
        install::run(&mut command).with_context(|| format!("building {name}"))?;
    }
    Ok(())
}

/// As the module file requires it, such as `1.36.3`.
fn version() -> &'static str {
    MODULE
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or("unknown")
}

/// Without these the server says that it is version 0.0.0, and clients take it for too old.
fn link_flags(version: &str) -> String {
    let mut numbers = version.split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let of = |package: &str| {
        format!(
            " -X {package}.gitVersion=v{version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        )
    };
    format!(
        "-s -w{}{}",
        of("k8s.io/component-base/version"),
        of("k8s.io/client-go/pkg/version")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_told_the_version_that_the_module_requires() {
        let version = version();
        assert_eq!(
            version
                .split('.')
                .filter(|n| n.parse::<u32>().is_ok())
                .count(),
            3,
            "{version}"
        );
        let flags = link_flags("1.36.3");
        assert!(
            flags.contains("gitVersion=v1.36.3 ") && flags.contains("gitMinor=36 "),
            "{flags}"
        );
    }
}
