//! Custom resource definitions of other projects, from their Go modules: manifests are held against
//! them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::go;
use crate::{cache, install};

/// The last one that brings its definitions as files.
const OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator@v0.85.0";
const IN_OPERATOR: &str = "example/prometheus-operator-crd/monitoring.coreos.com_";
const KINDS: [&str; 2] = ["podmonitors", "prometheusrules"];

/// A folder with what prometheus-operator defines: PodMonitor and PrometheusRule.
pub fn prometheus_operator() -> Result<PathBuf> {
    cache::entry("prometheus-operator-0.85.0", |directory| {
        let modules = tempfile::Builder::new()
            .prefix("modules-")
            .tempdir_in(directory)?;
        // Go checks what it fetches against its own checksum database.
        install::run(
            Command::new(go::program()?)
                .current_dir(modules.path())
                .env("GOMODCACHE", modules.path())
                .env("GOFLAGS", "-modcacherw")
                .args(["mod", "download", OPERATOR]),
        )?;
        for kind in KINDS {
            let file = modules
                .path()
                .join(OPERATOR)
                .join(format!("{IN_OPERATOR}{kind}.yaml"));
            fs::copy(file, directory.join(format!("{kind}.yaml")))?;
        }
        Ok(())
    })
}
