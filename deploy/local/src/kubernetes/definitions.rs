//! Custom resource definitions of other projects, from their Go modules: manifests are held against
//! them.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::go;
use crate::cache;

/// A project's definitions.
struct Definitions {
    /// The name and version under which they are cached.
    entry: &'static str,
    module: &'static str,
    /// What comes before a kind in the name of its file.
    prefix: &'static str,
    kinds: &'static [&'static str],
}

/// The last version that brings its definitions as files.
const OPERATOR: Definitions = Definitions {
    entry: "prometheus-operator-0.85.0",
    module: "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    prefix: "example/prometheus-operator-crd/monitoring.coreos.com_",
    kinds: &["podmonitors", "prometheusrules"],
};

const GOOGLE: Definitions = Definitions {
    entry: "prometheus-engine-0.17.2",
    module: "github.com/GoogleCloudPlatform/prometheus-engine@v0.17.2",
    prefix: "charts/operator/crds/monitoring.googleapis.com_",
    kinds: &["podmonitorings", "rules"],
};

/// Files with what prometheus-operator defines: PodMonitor and PrometheusRule.
///
/// # Errors
/// Go, or the module, cannot be had.
pub fn prometheus_operator() -> Result<Vec<PathBuf>> {
    OPERATOR.files()
}

/// Files with what Google's Managed Service for Prometheus defines: PodMonitoring and Rules.
///
/// # Errors
/// Go, or the module, cannot be had.
pub fn google() -> Result<Vec<PathBuf>> {
    GOOGLE.files()
}

impl Definitions {
    fn files(&self) -> Result<Vec<PathBuf>> {
        let name = |kind: &&str| format!("{kind}.yaml");
        let folder = cache::entry(self.entry, |directory| {
            let module = go::fetch(&go::program()?, self.module, directory)?;
            for kind in self.kinds {
                let file = module.folder.join(format!("{}{kind}.yaml", self.prefix));
                fs::copy(file, directory.join(name(kind)))?;
            }
            Ok(())
        })?;
        let files = self.kinds.iter().map(name);
        Ok(files.map(|name| folder.join(name)).collect())
    }
}
