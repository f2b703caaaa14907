//! Custom resource definitions of other projects, from their Go modules: manifests are held against
//! them.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::go;
use crate::cache;

/// The last one that brings its definitions as files.
const OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator@v0.85.0";
const IN_OPERATOR: &str = "example/prometheus-operator-crd/monitoring.coreos.com_";
const KINDS: [&str; 2] = ["podmonitors", "prometheusrules"];

/// A folder with what prometheus-operator defines: PodMonitor and PrometheusRule.
pub fn prometheus_operator() -> Result<PathBuf> {
    cache::entry("prometheus-operator-0.85.0", |directory| {
        let module = go::fetch(&go::program()?, OPERATOR, directory)?;
        for kind in KINDS {
            let file = module.folder.join(format!("{IN_OPERATOR}{kind}.yaml"));
            fs::copy(file, directory.join(format!("{kind}.yaml")))?;
        }
        Ok(())
    })
}
