//! A folder with an export and a remap file, and the tool beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use datastore_export::Entity;
use datastore_export::write::ExportWriter;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// However slow the machine is.
const DEADLINE: Duration = Duration::from_secs(300);

/// What a run printed.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub error: String,
}

impl Ran {
    /// Fails unless this is the exit code.
    pub fn with_code(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.error);
        self
    }
}

/// The folder.
pub struct Bench {
    /// What is in it goes with it.
    pub folder: TempDir,
    /// What the tool is told of servers.
    pub environment: BTreeMap<String, String>,
}

impl Bench {
    /// With an export `export` of these entities.
    pub fn new(entities: impl IntoIterator<Item = Entity>) -> Bench {
        let bench = Bench {
            folder: TempDir::new().expect("a folder"),
            environment: BTreeMap::new(),
        };
        bench.export("export", entities);
        bench
    }

    /// Adds an export of this name.
    pub fn export(&self, name: &str, entities: impl IntoIterator<Item = Entity>) {
        let mut writer = ExportWriter::create(&self.path(name), "test").expect("a folder");
        for entity in entities {
            writer.add(&entity).expect("written");
        }
        writer.finish().expect("written");
    }

    /// The path of a file of this name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file's JSON.
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).expect("a file")).expect("JSON")
    }

    /// Starts the tool with these arguments, in the folder.
    pub fn start(&self, arguments: &str) -> Child {
        self.start_with(arguments, Stdio::null(), Stdio::piped())
    }

    fn start_with(&self, arguments: &str, input: Stdio, output: Stdio) -> Child {
        Command::new(env!("CARGO_BIN_EXE_datastore-migrate"))
            .args(arguments.split(' '))
            .current_dir(self.folder.path())
            .env_clear()
            .envs(&self.environment)
            .stdin(input)
            .stdout(output)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the tool starts")
    }

    /// Runs it to its end.
    pub async fn run(&self, arguments: &str) -> Ran {
        ended(self.start(arguments)).await
    }

    /// Runs it to its end with a file as its standard input.
    pub async fn run_fed(&self, arguments: &str, name: &str) -> Ran {
        let input = fs::File::open(self.path(name)).expect("a file");
        ended(self.start_with(arguments, input.into(), Stdio::piped())).await
    }

    /// Runs it to its end where nobody reads what it prints any more.
    pub async fn run_unread(&self, arguments: &str) -> Ran {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        ended(self.start_with(arguments, Stdio::null(), writer.into())).await
    }

    /// Gives every path an id.
    pub async fn with_ids(self) -> Bench {
        self.run("ids export --out remap.json --seed dyff")
            .await
            .with_code(0);
        self
    }
}

async fn ended(child: Child) -> Ran {
    let output = child.wait_with_output();
    let output = tokio::time::timeout(DEADLINE, output).await;
    let output = output.expect("the tool ends").expect("its output");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code(),
        out: text(&output.stdout),
        error: text(&output.stderr),
    }
}
