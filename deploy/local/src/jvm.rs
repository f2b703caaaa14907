//! The Java machine that Kafka's programs run in.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::kafka::{Kafka, KafkaOptions};
use crate::{cache, install};

const TOOL_DEADLINE: Duration = Duration::from_secs(60);
/// The last one silences the machine itself, which would write between a tool's lines.
const OPTIONS: [&str; 4] = ["-Xmx512m", "-XX:+UseSerialGC", QUICK, "-Xlog:disable"];
/// Start time counts for more than speed in tests: the optimising compiler would only compete with
/// the rest of the stack.
pub(crate) const QUICK: &str = "-XX:TieredStopAtLevel=1";

/// Kafka's programs, and where their classes are found.
#[derive(Clone)]
pub(crate) struct Jvm {
    jars: PathBuf,
    /// What the machine is told of the archive of loaded classes, if there is one.
    archive: Option<String>,
}

impl Jvm {
    /// Installs what is missing.
    ///
    /// The classes that a broker loads are archived once for each version of Java (JEP 350), which
    /// halves the time of every later start. A machine that cannot archive goes without.
    pub(crate) async fn installed() -> Result<Jvm> {
        spawn_blocking(|| {
            let jars = install::kafka_jars()?;
            let java = Command::new("java").arg("-version").output();
            let java = Sha256::digest(java.context("cannot run java")?.stderr);
            let kafka = jars.file_name().context("no name")?.to_string_lossy();
            let name = format!("{kafka}-classes-{}", hex::encode(&java[..3]));
            let entry = cache::entry(&name, |folder| {
                Handle::current().block_on(archive(&jars, &folder.join("classes.jsa")))
            })?;
            let archive = entry.join("classes.jsa");
            let option = format!("-XX:SharedArchiveFile={}", archive.display());
            let archive = archive.exists().then_some(option);
            Ok(Jvm { jars, archive })
        })
        .await?
    }

    /// The folder of Kafka's jars.
    pub(crate) fn jars(&self) -> &Path {
        &self.jars
    }

    /// The command line of a class. `directory` holds `log4j2.properties`.
    pub(crate) fn line(&self, directory: &Path, class: &str, arguments: &[&str]) -> Vec<String> {
        let log = directory.join("log4j2.properties");
        let log = format!("-Dlog4j2.configurationFile={}", log.display());
        let jars = format!("{}/*", self.jars.display());
        let archive = self.archive.as_deref().into_iter();
        ["java"]
            .into_iter()
            .chain(OPTIONS)
            .chain(archive)
            .chain([&log, "-cp", &jars, class])
            .chain(arguments.iter().copied())
            .map(str::to_owned)
            .collect()
    }

    /// Runs one of Kafka's own tools and returns what it printed.
    pub(crate) async fn run(
        &self,
        directory: &Path,
        class: &str,
        arguments: &[&str],
    ) -> Result<String> {
        let line = self.line(directory, class, arguments);
        let mut command = tokio::process::Command::new(&line[0]);
        command
            .args(&line[1..])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(TOOL_DEADLINE, command.output())
            .await
            .with_context(|| format!("{class} takes too long"))??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{class} failed: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }
}

/// Runs a broker that writes, at its end, which classes it has loaded.
async fn archive(jars: &Path, archive: &Path) -> Result<()> {
    let jvm = Jvm {
        jars: jars.to_owned(),
        archive: Some(format!("-XX:ArchiveClassesAtExit={}", archive.display())),
    };
    let mut kafka = Kafka::start_on(jvm, KafkaOptions::default()).await?;
    kafka.stop().await
}
