//! A Go that is new enough: the one that is installed, or one that an older one fetches.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{cache, install};

/// What Kubernetes' own module file asks for.
const MINOR_MIN: u32 = 26;
/// Fetched where the installed Go is older.
const VERSION: &str = "1.26.8";

/// The path of a `go` of 1.26 or later.
///
/// Toolchains are modules too, so any Go, such as Debian's, can fetch a later one and checks it against Go's checksum
/// database.
pub fn program() -> Result<PathBuf> {
    install::require(&["golang-go"])?;
    if minor(Path::new("go")).is_ok_and(|minor| minor >= MINOR_MIN) {
        return Ok("go".into());
    }
    let entry = cache::entry(&format!("go-{VERSION}"), |directory| {
        let cpu = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => bail!("install Go 1.{MINOR_MIN} or later: none is known for {other}"),
        };
        let module = format!("golang.org/toolchain@v0.0.1-go{VERSION}.linux-{cpu}");
        let module = fetch(Path::new("go"), &module, directory).with_context(|| {
            format!("install Go 1.{MINOR_MIN} or later: it could not be fetched")
        })?;
        fs::rename(&module.folder, directory.join("go"))?;
        // A module's files are not executable; Go itself puts this right where it switches by itself.
        make_executable(&directory.join("go/bin"))?;
        make_executable(&directory.join("go/pkg/tool"))?;
        let found = minor(&directory.join("go/bin/go"))?;
        ensure!(found >= MINOR_MIN, "fetched Go 1.{found}");
        Ok(())
    })?;
    Ok(entry.join("go/bin/go"))
}

/// A module, unpacked. Dropped, it is removed.
pub(crate) struct Module {
    /// Its files, which may be changed.
    pub(crate) folder: PathBuf,
    /// Its checksum, as `go.sum` has it.
    pub(crate) sum: String,
    _modules: TempDir,
}

/// Fetches a module, such as `example.org/a@v1.2.3`, into a folder of its own in `directory`. Go
/// checks it against its own checksum database.
pub(crate) fn fetch(go: &Path, module: &str, directory: &Path) -> Result<Module> {
    let modules = tempfile::Builder::new()
        .prefix("modules-")
        .tempdir_in(directory)?;
    let told = install::run_for_output(
        Command::new(go)
            .current_dir(modules.path())
            .env("GOMODCACHE", modules.path())
            .env("GOFLAGS", "-modcacherw")
            .args(["mod", "download", "-json", module]),
    )?;
    let told: Value = serde_json::from_str(&told)?;
    let text = |name: &str| {
        let text = told[name].as_str();
        text.with_context(|| format!("{module} has no {name}: {told}"))
    };
    Ok(Module {
        folder: text("Dir")?.into(),
        sum: text("Sum")?.to_owned(),
        _modules: modules,
    })
}

/// Programs of a module, compiled.
pub(crate) struct Programs {
    /// What to call it.
    pub(crate) name: &'static str,
    /// Such as `example.org/a@v1.2.3`.
    pub(crate) module: &'static str,
    /// What Go's checksum database says of it.
    pub(crate) sum: &'static str,
    /// Its packages; a program is called as the last part of its path.
    pub(crate) packages: &'static [&'static str],
    /// What is changed of its sources, in their folder, if anything is. Other modules that it then
    /// needs are checked against Go's checksum database.
    pub(crate) adapt: Option<fn(&Path) -> Result<()>>,
}

impl Programs {
    /// Their folder: once for each version, in ten minutes.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        cache::entry(&self.entry("programs"), |folder| {
            let Programs { name, packages, .. } = self;
            eprintln!("building {name} for the tests, once: this takes ten minutes");
            let module = self.fetch(folder)?;
            if let Some(adapt) = self.adapt {
                adapt(&module.folder)?;
            }
            let modules = if self.adapt.is_some() {
                "mod"
            } else {
                "readonly"
            };
            install::run(
                // Behind everything else that runs: it must not fail somebody's deadline.
                Command::new("nice")
                    .args(["-n", "10"])
                    .arg(program()?)
                    .current_dir(&module.folder)
                    .env("CGO_ENABLED", "0")
                    .env(
                        "GOFLAGS",
                        format!("-trimpath -buildvcs=false -mod={modules}"),
                    )
                    .env("GOTOOLCHAIN", "local")
                    // A module comes without the others of its workspace.
                    .env("GOWORK", "off")
                    .env_remove("GOROOT")
                    .args(["build", "-ldflags", "-s -w", "-o"])
                    .arg(folder)
                    .args(*packages),
            )
        })
    }

    /// Fetches the module into a folder of its own in `directory`.
    pub(crate) fn fetch(&self, directory: &Path) -> Result<Module> {
        let module = fetch(&program()?, self.module, directory)?;
        let (name, sum) = (self.module, &module.sum);
        ensure!(*sum == self.sum, "{name} has another checksum: {sum}");
        Ok(module)
    }

    /// A name for `what` is cached of this version.
    pub(crate) fn entry(&self, what: &str) -> String {
        let name = self.name.to_lowercase();
        let version = self.module.rsplit('v').next().unwrap_or(self.module);
        let sum = self.sum.chars().filter(char::is_ascii_alphanumeric);
        let sum: String = sum.skip(2).take(12).collect();
        format!("{name}-{version}-{what}-{sum}")
    }
}

/// The second number of the version that is installed there.
fn minor(go: &Path) -> Result<u32> {
    let version = install::run_for_output(
        Command::new(go)
            .arg("version")
            .env("GOTOOLCHAIN", "local")
            .env_remove("GOROOT"),
    )?;
    parse_minor(&version).with_context(|| format!("no version of Go: {}", version.trim()))
}

fn parse_minor(version: &str) -> Option<u32> {
    let number = version.strip_prefix("go version go1.")?;
    let end = number.find(|c: char| !c.is_ascii_digit())?;
    number[..end].parse().ok()
}

fn make_executable(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            make_executable(&path)?;
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_as_every_go_prints_it() {
        for (printed, minor) in [
            ("go version go1.19.8 linux/amd64\n", Some(19)),
            ("go version go1.26.8 linux/amd64\n", Some(26)),
            ("go version go1.27rc1 linux/arm64\n", Some(27)),
            ("go version devel linux/amd64\n", None),
        ] {
            assert_eq!(parse_minor(printed), minor, "{printed}");
        }
    }
}
